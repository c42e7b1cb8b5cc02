//! Sizes and times of a compilation.

use super::{
    super::{error::CliError, output::Output},
    cfg,
};
use kiln_ir::{Blocks, Limits};
use kiln_runtime::{Config, Engine};
use revm::{bytecode::Bytecode, primitives::Bytes};
use serde::Serialize;
use std::io;

/// What the compilation of a whole contract came to. Times are CPU time.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    bytes: usize,
    instructions: usize,
    blocks: usize,
    regions: usize,
    resolved_jumps: usize,
    unresolved_jumps: usize,
    analyse_ns: u64,
    lower_ns: u64,
    codegen_ns: u64,
    publish_ns: u64,
    code_bytes: u64,
    spec: String,
}

impl Figures {
    /// Compiles the code twice, so that the times are those of a warmed-up compiler.
    pub(super) fn of(
        code: &Bytes,
        baked: &kiln_ir::Config,
        limits: &Limits,
    ) -> Result<Self, CliError> {
        let refused = |error: kiln_ir::BuildError| CliError::Engine(error.to_string());
        let blocks = Blocks::scan(code, baked, limits).map_err(refused)?;
        let module = kiln_ir::build(code, &blocks, baked, limits, &|_| true).map_err(refused)?;
        let (resolved_jumps, unresolved_jumps) = cfg::jumps(&blocks, &module);
        let stats = engine_stats(code, baked, limits)?;
        Ok(Self {
            bytes: code.len(),
            instructions: module.instructions(),
            blocks: blocks.blocks.len(),
            regions: module.regions.len(),
            resolved_jumps,
            unresolved_jumps,
            analyse_ns: stats.analyse_ns,
            lower_ns: stats.lower_ns,
            codegen_ns: stats.codegen_ns,
            publish_ns: stats.publish_ns,
            code_bytes: stats.code_bytes,
            spec: format!("{:?}", baked.spec),
        })
    }

    pub(super) fn print(&self, json: bool, output: &mut Output) -> io::Result<()> {
        // The field names are the labels, in both.
        let value = serde_json::to_value(self).unwrap_or_default();
        if json {
            return output.line(format_args!("{value:#}"));
        }
        let fields = value.as_object().into_iter().flatten();
        for (name, value) in fields {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            output.line(format_args!("{name:<17} {text}"))?;
        }
        let per = |amount: u64| amount as f64 / self.instructions.max(1) as f64;
        let time = self.analyse_ns + self.lower_ns + self.codegen_ns + self.publish_ns;
        output.line(format_args!("ns/instruction    {:.1}", per(time)))?;
        output.line(format_args!("bytes/instruction {:.1}", per(self.code_bytes)))
    }
}

/// What an engine counts for the second of two compilations. All zero where there is no code.
fn engine_stats(
    code: &Bytes,
    baked: &kiln_ir::Config,
    limits: &Limits,
) -> Result<kiln_runtime::Stats, CliError> {
    let engine = Engine::new(Config { limits: *limits, ..Config::eager() })
        .map_err(|error| CliError::Engine(error.to_string()))?;
    if code.is_empty() {
        return Ok(engine.stats());
    }
    let bytecode = Bytecode::new_legacy(code.clone());
    let hash = bytecode.hash_slow();
    let compile = || engine.compile(&bytecode, hash, baked).map(drop);
    compile().map_err(|error| CliError::Engine(error.to_string()))?;
    engine.clear();
    let before = engine.stats();
    compile().map_err(|error| CliError::Engine(error.to_string()))?;
    Ok(engine.stats() - before)
}
