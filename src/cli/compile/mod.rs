//! `kiln compile`.

mod cfg;
mod labels;
mod optimised;
mod stats;

use super::{
    Verdict, code,
    error::CliError,
    output::Output,
    run::{call, spec},
    tier,
};
use clap::{ValueEnum, builder::NonEmptyStringValueParser};
use kiln::fixture::{self, Prepared, count_steps};
use kiln_abi::Pc;
use kiln_ir::{Blocks, Module};
use kiln_tier0::{CompileError, Library};
use revm::primitives::{Bytes, hardfork::SpecId};
use std::path::PathBuf;

/// Show what becomes of bytecode.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Bytecode as 0x hexadecimal, or a file that holds hexadecimal or raw bytes.
    #[arg(value_name = "FILE|0xHEX", value_parser = NonEmptyStringValueParser::new())]
    #[arg(required_unless_present = "fixture")]
    code: Option<String>,
    /// The compiler. By default the first that has what is to be shown: tier0, if it does.
    #[arg(long, value_enum)]
    tier: Option<Compiler>,
    /// The fork; with --fixture, the fixture's.
    #[arg(long, conflicts_with = "fixture", value_name = "FORK", default_value = "OSAKA", value_parser = spec)]
    spec: SpecId,
    /// What to show.
    #[arg(long, value_enum, default_value_t = Emit::Stats)]
    emit: Emit,
    /// Only this optimised region, by its number.
    #[arg(long, value_name = "N", conflicts_with = "pc")]
    region: Option<usize>,
    /// Only the optimised regions with the block that holds this pc.
    #[arg(long, value_name = "PC", value_parser = pc)]
    pc: Option<Pc>,
    /// Choose optimised regions by what a call with this calldata runs, on an otherwise empty state.
    /// By default every block counts the same.
    #[arg(long, value_name = "0xHEX")]
    calldata: Option<String>,
    /// Choose optimised regions by what the transactions of this fixture run. Without code, shows that
    /// which ran most instructions.
    #[arg(long, value_name = "PATH", conflicts_with = "calldata")]
    fixture: Option<PathBuf>,
    /// Executions from which a block is hot, so that it gets into some optimised region. By default 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    hot: Option<u64>,
    /// Show the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Where an object is written to. By default standard output, if that is no terminal.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compiler {
    /// Machine code from stencils.
    Tier0,
    /// Optimised regions, compiled by Cranelift.
    Optimised,
    /// Optimised regions, compiled by LLVM, if this build has it.
    Tier1,
}

/// What to show of a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// Sizes and times.
    Stats,
    /// The basic blocks of the bytecode, with where they go.
    Cfg,
    /// The block IR.
    Ir,
    /// The stencils that each block is made of.
    Stencils,
    /// The optimised regions in SSA form, labelled with the instructions of the bytecode.
    Ssa,
    /// Cranelift's IR of the optimised regions, before it is optimised, labelled likewise.
    Clif,
    /// LLVM's IR of the optimised regions, before it is optimised, labelled likewise.
    Llvm,
    /// The machine code, labelled with what it is from: blocks, or instructions of the bytecode.
    Asm,
    /// The relocatable ELF object that LLVM makes of an optimised region.
    Object,
}

impl Emit {
    /// The compilers that have it.
    const fn compilers(self) -> &'static [Compiler] {
        match self {
            Self::Stats | Self::Cfg | Self::Asm => {
                &[Compiler::Tier0, Compiler::Optimised, Compiler::Tier1]
            }
            Self::Ir | Self::Stencils => &[Compiler::Tier0],
            Self::Ssa => &[Compiler::Optimised, Compiler::Tier1],
            Self::Clif => &[Compiler::Optimised],
            Self::Llvm | Self::Object => &[Compiler::Tier1],
        }
    }
}

/// A name as the command line has it.
fn named(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Parses a pc, decimal or hexadecimal with `0x`, for clap.
fn pc(text: &str) -> Result<Pc, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map(Pc).map_err(|error| error.to_string())
}

/// What is compiled.
struct Input {
    code: Bytes,
    spec: SpecId,
    /// What says how often its blocks run; none if all count the same.
    calls: Option<Prepared>,
}

/// The code that runs most instructions.
fn hottest(calls: &Prepared) -> Option<Bytes> {
    let by_code = count_steps(calls).by_code.into_iter();
    let known = by_code.filter_map(|(hash, steps)| Some((steps, hash, calls.db.code(&hash)?)));
    known.max_by_key(|&(steps, hash, _)| (steps, hash)).map(|(_, _, code)| code.original_bytes())
}

impl Arguments {
    /// The compiler that is meant.
    fn compiler(&self) -> Result<Compiler, CliError> {
        let those = self.emit.compilers();
        let tier = self.tier.unwrap_or(those[0]);
        let emit = named(self.emit);
        if !those.contains(&tier) {
            let (tier, other) = (named(tier), named(those[0]));
            return Err(CliError::Usage(format!("{tier} has no {emit}; --tier {other} does")));
        }
        // A fixture may stand for its code.
        let counts = self.calldata.is_some() || (self.fixture.is_some() && self.code.is_some());
        let counts = counts || self.hot.is_some();
        let narrows = counts || self.region.is_some() || self.pc.is_some();
        if narrows && (tier == Compiler::Tier0 || self.emit == Emit::Cfg) {
            let what = "--region, --pc, --hot, --calldata and --fixture choose optimised regions: \
                        --tier optimised, or tier1";
            return Err(CliError::Usage(what.to_owned()));
        }
        Ok(tier)
    }

    fn input(&self) -> Result<Input, CliError> {
        let code = self.code.as_deref().map(code::read).transpose()?;
        let Some(path) = &self.fixture else {
            let (code, spec) = (code.unwrap_or_default(), self.spec);
            let calldata = self.calldata.as_deref().map(code::calldata).transpose()?;
            let calls = calldata.map(|calldata| call(code.clone(), calldata, spec));
            return Ok(Input { code, spec, calls });
        };
        let fixture = fixture::load(path)?.fixture;
        let calls = Prepared::new(&fixture).map_err(|kind| kind.at(path))?;
        let code = match code {
            Some(code) => code,
            None => hottest(&calls).ok_or_else(|| {
                CliError::Usage(format!("{}: no code of an account runs", path.display()))
            })?,
        };
        Ok(Input { code, spec: calls.spec(), calls: Some(calls) })
    }
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    if arguments.output.is_some() && arguments.emit != Emit::Object {
        return Err(CliError::Usage("--output goes with --emit object".to_owned()));
    }
    if arguments.json && arguments.emit != Emit::Stats {
        return Err(CliError::Usage("--json goes with --emit stats".to_owned()));
    }
    let tier = arguments.compiler()?;
    let input = arguments.input()?;
    let code = &input.code;
    let baked = tier::mainnet(input.spec);
    let limits = tier::limits()?;
    if tier != Compiler::Tier0 && arguments.emit != Emit::Cfg {
        optimised::run(arguments, tier, &input, &baked, &limits, output)?;
        return Ok(Verdict::Same);
    }
    let refused = |error: kiln_ir::BuildError| CliError::Engine(error.to_string());
    if arguments.emit == Emit::Stats {
        stats::Figures::of(code, &baked, &limits)?.print(arguments.json, output)?;
        return Ok(Verdict::Same);
    }
    let blocks = Blocks::scan(code, &baked, &limits).map_err(refused)?;
    let module = kiln_ir::build(code, &blocks, &baked, &limits, &|_| true).map_err(refused)?;
    match arguments.emit {
        // Shown above.
        Emit::Stats | Emit::Ssa | Emit::Clif | Emit::Llvm | Emit::Object => {}
        Emit::Cfg => cfg::print(code, &blocks, &module, output)?,
        Emit::Ir => output.line(&module)?,
        Emit::Stencils => listing(kiln_tier0::describe, &module, output)?,
        Emit::Asm => listing(kiln_tier0::disassemble, &module, output)?,
    }
    Ok(Verdict::Same)
}

/// Prints what tier 0 says about the code it makes of a module.
fn listing(
    list: fn(&Library, &Module) -> Result<String, CompileError>,
    module: &Module,
    output: &mut Output,
) -> Result<(), CliError> {
    let library = Library::new().map_err(|error| CliError::Engine(error.to_string()))?;
    let text = list(&library, module).map_err(|error| CliError::Engine(error.to_string()))?;
    Ok(output.line(text.trim_end())?)
}
