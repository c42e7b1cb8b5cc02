//! `kiln compile`.

mod cfg;
mod labels;
mod optimised;
mod stats;

use super::{Verdict, code, error::CliError, output::Output, run::spec, tier};
use clap::{ValueEnum, builder::NonEmptyStringValueParser};
use kiln_abi::Pc;
use kiln_ir::{Blocks, Module};
use kiln_tier0::{CompileError, Library};
use revm::primitives::hardfork::SpecId;

/// Show what becomes of bytecode.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Bytecode as 0x hexadecimal, or a file that holds hexadecimal or raw bytes.
    #[arg(value_name = "FILE|0xHEX", value_parser = NonEmptyStringValueParser::new())]
    code: String,
    /// The compiler. By default the first that has what is to be shown: tier0, if it does.
    #[arg(long, value_enum)]
    tier: Option<Compiler>,
    /// The fork.
    #[arg(long, value_name = "FORK", default_value = "OSAKA", value_parser = spec)]
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
    /// Show the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// A compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compiler {
    /// Machine code from stencils.
    Tier0,
    /// Optimised regions, compiled by Cranelift.
    Optimised,
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
    /// The machine code, labelled with what it is from: blocks, or instructions of the bytecode.
    Asm,
}

impl Emit {
    /// The compilers that have it.
    const fn compilers(self) -> &'static [Compiler] {
        match self {
            Self::Stats | Self::Cfg | Self::Asm => &[Compiler::Tier0, Compiler::Optimised],
            Self::Ir | Self::Stencils => &[Compiler::Tier0],
            Self::Ssa | Self::Clif => &[Compiler::Optimised],
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
        let narrows = self.region.is_some() || self.pc.is_some() || self.calldata.is_some();
        if narrows && (tier != Compiler::Optimised || self.emit == Emit::Cfg) {
            let what = "--region, --pc and --calldata choose optimised regions: --tier optimised";
            return Err(CliError::Usage(what.to_owned()));
        }
        Ok(tier)
    }
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    if arguments.json && arguments.emit != Emit::Stats {
        return Err(CliError::Usage("--json goes with --emit stats".to_owned()));
    }
    let tier = arguments.compiler()?;
    let code = code::read(&arguments.code)?;
    let baked = tier::mainnet(arguments.spec);
    let limits = tier::limits()?;
    if tier == Compiler::Optimised && arguments.emit != Emit::Cfg {
        optimised::run(arguments, &code, &baked, &limits, output)?;
        return Ok(Verdict::Same);
    }
    let refused = |error: kiln_ir::BuildError| CliError::Engine(error.to_string());
    if arguments.emit == Emit::Stats {
        stats::Figures::of(&code, &baked, &limits)?.print(arguments.json, output)?;
        return Ok(Verdict::Same);
    }
    let blocks = Blocks::scan(&code, &baked, &limits).map_err(refused)?;
    let module = kiln_ir::build(&code, &blocks, &baked, &limits, &|_| true).map_err(refused)?;
    match arguments.emit {
        // Shown above.
        Emit::Stats | Emit::Ssa | Emit::Clif => {}
        Emit::Cfg => cfg::print(&code, &blocks, &module, output)?,
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
