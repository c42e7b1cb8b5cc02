//! Sizes and times of all regions of a program.

use super::{
    Source,
    backend::{Backend, backend},
    labels, refused,
    stages::{Stage, Times},
};
use crate::cli::{compile::Compiler, error::CliError, output::Output};
use kiln_ir::{
    Blocks, Ending,
    ssa::{self, Analysis, Function},
};
use serde_json::{Map, Value};
use std::io;

/// What the compilation of the regions came to. Times are CPU time.
#[derive(Debug)]
pub(super) struct Figures {
    tier: Compiler,
    spec: String,
    counts: Counts,
    times: Times,
}

/// How much there was, and is.
#[derive(Debug, Default)]
struct Counts {
    /// Of bytecode.
    bytes: usize,
    /// Of the whole program.
    blocks: usize,
    resolved_jumps: usize,
    unresolved_jumps: usize,
    regions: usize,
    /// Regions that are over some limit.
    refused: usize,
    /// Of bytecode, in the regions that were compiled, copies counted.
    instructions: usize,
    /// Of the SSA form, in these.
    ssa_blocks: usize,
    ssa_instructions: usize,
    exits: usize,
    /// Of text: code, and data behind it.
    code_bytes: usize,
    data_bytes: usize,
}

impl Figures {
    /// Compiles the regions twice, so that the times are those of a warmed-up compiler.
    pub(super) fn of(source: &Source<'_>) -> Result<Self, CliError> {
        let mut backend = backend(source.tier)?;
        Self::once(source, &mut *backend)?;
        Self::once(source, &mut *backend)
    }

    fn once(source: &Source<'_>, backend: &mut dyn Backend) -> Result<Self, CliError> {
        let Source { code, baked, limits, .. } = *source;
        let mut times = Times::start();
        let blocks = Blocks::scan(code, baked, limits).map_err(refused)?;
        times.ended(Stage::Scan);
        let mut ended = |stage: ssa::Stage| times.ended(stage);
        let analysis = Analysis::new_staged(code, &blocks, baked, limits, &mut ended);
        let analysis = analysis.map_err(refused)?;
        let regions = ssa::choose(&analysis, &|pc| source.count(pc), source.choice());
        times.ended(Stage::Choose);
        let mut counts = Counts { bytes: code.len(), ..Counts::default() };
        counts.program(&blocks, &analysis);
        for (number, region) in regions.iter().enumerate() {
            if !source.is_meant(number, region, &analysis, &blocks) {
                continue;
            }
            counts.regions += 1;
            times.skip();
            let mut ended = |stage: ssa::Stage| times.ended(stage);
            let function = ssa::build_staged(&analysis, region, limits, &mut ended);
            let Ok(function) = function else {
                counts.refused += 1;
                continue;
            };
            let mut ended = |stage: Stage| times.ended(stage);
            let label = |pc| labels::at(code, pc);
            match backend.compile(source.region(&function, &label), &mut ended) {
                Ok(object) => counts.region(&function, &object),
                Err(_) => counts.refused += 1,
            }
        }
        Ok(Self { tier: source.tier, spec: format!("{:?}", baked.spec), counts, times })
    }

    pub(super) fn print(&self, json: bool, output: &mut Output) -> io::Result<()> {
        let times = || self.times.all(self.tier);
        let total: u64 = times().map(|(_, ns)| ns).sum();
        if json {
            let mut figures = Map::from_iter(self.counts.all().map(|(n, v)| (n.to_owned(), v)));
            figures.extend(times().map(|(name, ns)| (format!("{name}_ns"), ns.into())));
            figures.insert("total_ns".to_owned(), total.into());
            figures.insert("spec".to_owned(), self.spec.clone().into());
            return output.line(format_args!("{:#}", Value::Object(figures)));
        }
        for (name, value) in self.counts.all() {
            output.line(format_args!("{name:<17} {value}"))?;
        }
        output.line(format_args!("{:<17} {}", "spec", self.spec))?;
        for (name, ns) in times().chain([("total", total)]) {
            let name = format!("{name}_ns");
            let share = 100.0 * ns as f64 / total.max(1) as f64;
            output.line(format_args!("{name:<17} {ns:>10} {share:>5.1}%"))?;
        }
        let per = |amount: f64| amount / self.counts.instructions.max(1) as f64;
        let text = self.counts.code_bytes + self.counts.data_bytes;
        output.line(format_args!("us/instruction    {:.2}", per(total as f64 / 1000.0)))?;
        output.line(format_args!("bytes/instruction {:.1}", per(text as f64)))
    }
}

impl Counts {
    fn program(&mut self, blocks: &Blocks, analysis: &Analysis<'_>) {
        self.blocks = blocks.blocks.len();
        for (index, block) in blocks.blocks.iter().enumerate() {
            if matches!(block.ending, Ending::Jump | Ending::Jumpi) {
                match analysis.jumps().targets(index) {
                    Some(_) => self.resolved_jumps += 1,
                    None => self.unresolved_jumps += 1,
                }
            }
        }
    }

    fn region(&mut self, function: &Function, object: &kiln_abi::CodeObject) {
        self.instructions += function.instructions as usize;
        self.ssa_blocks += function.blocks.len();
        self.ssa_instructions +=
            function.blocks.iter().map(|block| block.insts.len()).sum::<usize>();
        self.exits += function.exits.exits.len();
        self.code_bytes += object.code_len;
        self.data_bytes += object.text.len() - object.code_len;
    }

    /// The figures with their names, which are the labels, too.
    fn all(&self) -> impl Iterator<Item = (&'static str, Value)> {
        [
            ("bytes", self.bytes),
            ("blocks", self.blocks),
            ("resolved_jumps", self.resolved_jumps),
            ("unresolved_jumps", self.unresolved_jumps),
            ("regions", self.regions),
            ("refused", self.refused),
            ("instructions", self.instructions),
            ("ssa_blocks", self.ssa_blocks),
            ("ssa_instructions", self.ssa_instructions),
            ("exits", self.exits),
            ("code_bytes", self.code_bytes),
            ("data_bytes", self.data_bytes),
        ]
        .map(|(name, amount)| (name, amount.into()))
        .into_iter()
    }
}
