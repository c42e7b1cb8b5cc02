//! Arguments, dispatch, and exit codes: 0 if all is well, 1 for a mismatch, 2 for bad usage or
//! unreadable input.

mod aot;
mod check;
mod code;
mod compile;
mod error;
mod hunt;
mod output;
mod progress;
mod record;
mod replay;
mod run;
mod statetest;
mod tier;

use clap::{Parser, Subcommand};
use error::CliError;
use output::Output;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A two-tier JIT for revm: replays recorded transactions and state tests, compiles and runs code.
///
/// Exit codes: 0 if all is well, 1 if a result differs from what is expected, 2 for bad usage or
/// unreadable input. Messages of the library go to standard error, as RUST_LOG asks. The KILN_
/// variables of README.md set the options of the engine; what arguments say wins.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Replay(replay::Arguments),
    Statetest(statetest::Arguments),
    Compile(compile::Arguments),
    Record(record::Arguments),
    Run(run::Arguments),
    Check(check::Arguments),
    Hunt(hunt::Arguments),
    Aot(aot::Arguments),
}

/// Whether the results were as expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// They were.
    Same,
    /// They were not.
    Mismatch,
}

impl Verdict {
    const fn of(same: bool) -> Self {
        if same { Self::Same } else { Self::Mismatch }
    }
}

/// Runs the command and answers its exit code.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut output = Output::stdout();
    let outcome = run(arguments.command, &mut output).and_then(|verdict| {
        output.flush()?;
        Ok(verdict)
    });
    match outcome {
        Ok(Verdict::Same) => ExitCode::SUCCESS,
        Ok(Verdict::Mismatch) => ExitCode::from(1),
        Err(error) => error.report(),
    }
}

fn run(command: Command, output: &mut Output) -> Result<Verdict, CliError> {
    match command {
        Command::Replay(arguments) => replay::run(&arguments, output),
        Command::Statetest(arguments) => statetest::run(&arguments, output),
        Command::Run(arguments) => run::run(&arguments, output),
        Command::Compile(arguments) => compile::run(&arguments, output),
        Command::Record(arguments) => record::run(&arguments, output),
        Command::Check(arguments) => check::run(&arguments, output),
        Command::Hunt(arguments) => hunt::run(&arguments, output),
        Command::Aot(arguments) => aot::run(&arguments, output),
    }
}
