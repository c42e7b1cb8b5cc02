//! `cargo bench -p kiln-benches --bench restart`: what a restart with a store costs over going on, and how long it
//! takes to find out what a large store has. Not a test: nothing is asserted but that results are right.

use clap::Parser;
use kiln::Config;
use kiln_benches::{
    BenchError, Stream, folder,
    restart::{Index, Restart},
    subjects,
};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Restarts engines with a store in the middle of a stream of blocks.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of block fixtures; the environment's KILN_FIXTURES with `blocks` appended, or this
    /// repository's workloads if not given.
    #[arg(value_name = "DIR")]
    blocks: Option<PathBuf>,
    /// Passes before the restarts.
    #[arg(long, value_name = "N", default_value_t = 60)]
    passes: usize,
    /// Restarts.
    #[arg(long, value_name = "N", default_value_t = 9)]
    rounds: usize,
    /// Artifacts of the store that is only listed.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    artifacts: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn folder(&self) -> PathBuf {
        self.blocks.clone().unwrap_or_else(|| match std::env::var_os("KILN_FIXTURES") {
            Some(fixtures) => PathBuf::from(fixtures).join("blocks"),
            None => folder(None),
        })
    }
}

fn main() -> ExitCode {
    // Tier 1 compiles in children of this executable.
    kiln::serve_if_worker();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let (stored, listed) = (folder_of_its_own()?, folder_of_its_own()?);
    let index =
        Index::measure(&listed.path().join("store"), arguments.artifacts, arguments.rounds)?;
    print(&index.to_string());
    let mut blocks = subjects(arguments.folder())?;
    blocks.sort_by_key(|block| block.loaded.fixture.env.number);
    let stream = Stream { blocks: &blocks, config: Config::from_env()? };
    stream.prepare()?;
    let store = stored.path().join("store");
    let restart = Restart::measure(&stream, &store, arguments.passes, arguments.rounds)?;
    print(&format!("{} blocks\n{restart}", blocks.len()));
    Ok(())
}

fn folder_of_its_own() -> Result<tempfile::TempDir, BenchError> {
    tempfile::tempdir().map_err(|error| BenchError::Store(error.to_string()))
}

/// Each figure as soon as it is there. A closed standard output ends nothing: the next write fails
/// as well, and nothing is lost.
fn print(text: &str) {
    let _ = write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
}
