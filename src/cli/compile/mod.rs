//! `kiln compile`.

mod cfg;
mod stats;

use super::{Verdict, code, error::CliError, output::Output, run::spec, tier};
use clap::{ValueEnum, builder::NonEmptyStringValueParser};
use kiln_ir::{Blocks, Module};
use kiln_tier0::{CompileError, Library};
use revm::primitives::hardfork::SpecId;

/// Show what becomes of bytecode.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Bytecode as 0x hexadecimal, or a file that holds hexadecimal or raw bytes.
    #[arg(value_name = "FILE|0xHEX", value_parser = NonEmptyStringValueParser::new())]
    code: String,
    /// The compiler.
    #[arg(long, value_enum, default_value_t = Compiler::Tier0)]
    tier: Compiler,
    /// The fork.
    #[arg(long, value_name = "FORK", default_value = "OSAKA", value_parser = spec)]
    spec: SpecId,
    /// What to show.
    #[arg(long, value_enum, default_value_t = Emit::Stats)]
    emit: Emit,
    /// Show the figures as JSON.
    #[arg(long)]
    json: bool,
}

/// A compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compiler {
    /// Machine code from stencils.
    Tier0,
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
    /// The machine code, labelled with the blocks it is from.
    Asm,
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    if arguments.json && arguments.emit != Emit::Stats {
        return Err(CliError::Usage("--json goes with --emit stats".to_owned()));
    }
    let Compiler::Tier0 = arguments.tier;
    let code = code::read(&arguments.code)?;
    let baked = tier::mainnet(arguments.spec);
    let limits = tier::limits()?;
    let refused = |error: kiln_ir::BuildError| CliError::Engine(error.to_string());
    if arguments.emit == Emit::Stats {
        stats::Figures::of(&code, &baked, &limits)?.print(arguments.json, output)?;
        return Ok(Verdict::Same);
    }
    let blocks = Blocks::scan(&code, &baked, &limits).map_err(refused)?;
    let module = kiln_ir::build(&code, &blocks, &baked, &limits, &|_| true).map_err(refused)?;
    match arguments.emit {
        Emit::Stats => {}
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
