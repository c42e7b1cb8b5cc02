//! `cargo bench -p kiln-benches --bench blocks`: the blocks of a folder in order, state fresh per
//! block, through engines that begin empty: the first pass, twenty passes, and warm. Prints what
//! that costs against plain revm of the same process. Not a test: nothing is asserted but that
//! results are right.

use clap::{Parser, ValueEnum};
use kiln::{Compile, Config, ConfigError};
use kiln_benches::{
    BenchError, Stream, folder,
    stream::{first, many, warm},
    subjects,
};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Replays a stream of blocks through engines that begin empty.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of block fixtures; the environment's KILN_FIXTURES with `blocks` appended, or this
    /// repository's workloads if not given.
    #[arg(value_name = "DIR")]
    blocks: Option<PathBuf>,
    /// Measure only this.
    #[arg(long, value_name = "WHAT")]
    only: Option<What>,
    /// Engines for the first pass.
    #[arg(long, value_name = "N", default_value_t = 9)]
    trials: usize,
    /// Engines for many passes.
    #[arg(long, value_name = "N", default_value_t = 3)]
    many_trials: usize,
    /// Passes of each of these.
    #[arg(long, value_name = "N", default_value_t = 20)]
    passes: usize,
    /// Passes that are measured once nothing is left to compile.
    #[arg(long, value_name = "N", default_value_t = 11)]
    warm_passes: usize,
    /// Passes before these at most.
    #[arg(long, value_name = "N", default_value_t = 60)]
    settling_passes: usize,
    /// Compile threads; 0: the calling thread compiles.
    #[arg(long, value_name = "N", default_value_t = Config::default().compile_threads)]
    threads: usize,
    /// Executions of a block before it is worth compiling.
    #[arg(long, value_name = "N", default_value_t = Config::default().hot_executions)]
    hot_executions: u32,
    /// Nanoseconds up to which the calling thread compiles itself.
    #[arg(long, value_name = "NS", default_value_t = Config::default().inline_compile_ns)]
    inline_compile_ns: u32,
    /// Bytes of machine code held at a time.
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().code_bytes_max)]
    code_bytes_max: usize,
    /// Compile whole contracts, not only what was seen.
    #[arg(long)]
    all: bool,
    /// With --all, frames of a code that are interpreted before it is compiled.
    #[arg(long, value_name = "N", default_value_t = Config::default().warm_frames)]
    warm_frames: u32,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    First,
    Many,
    Warm,
}

impl Arguments {
    /// What is stated here, then by the environment.
    fn config(&self) -> Result<Config, ConfigError> {
        Ok(Config {
            compile: if self.all { Compile::All } else { Compile::Seen },
            compile_threads: self.threads,
            hot_executions: self.hot_executions,
            inline_compile_ns: self.inline_compile_ns,
            code_bytes_max: self.code_bytes_max,
            warm_frames: self.warm_frames,
            ..Config::from_env()?
        })
    }

    fn folder(&self) -> PathBuf {
        self.blocks.clone().unwrap_or_else(|| match std::env::var_os("KILN_FIXTURES") {
            Some(fixtures) => PathBuf::from(fixtures).join("blocks"),
            None => folder(None),
        })
    }

    fn measures(&self, what: What) -> bool {
        self.only.is_none_or(|only| only == what)
    }
}

fn main() -> ExitCode {
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
    let mut blocks = subjects(arguments.folder())?;
    blocks.sort_by_key(|block| block.loaded.fixture.env.number);
    let stream = Stream { blocks: &blocks, config: arguments.config()? };
    stream.prepare()?;
    print(&format!("{} blocks; time through kiln over the interpreter's\n", blocks.len()));
    if arguments.measures(What::First) {
        let trials = (0..arguments.trials).map(|turn| stream.trial(1, turn));
        print(&first(&trials.collect::<Result<Vec<_>, _>>()?));
    }
    if arguments.measures(What::Many) {
        let trials = (0..arguments.many_trials).map(|turn| stream.trial(arguments.passes, turn));
        print(&many(&trials.collect::<Result<Vec<_>, _>>()?));
    }
    if arguments.measures(What::Warm) {
        let passes = stream.warm(arguments.warm_passes, arguments.settling_passes)?;
        print(&warm(&blocks, &passes));
    }
    Ok(())
}

/// Each figure as soon as it is there. A closed standard output ends nothing: the next write fails
/// as well, and nothing is lost.
fn print(text: &str) {
    let _ = write!(io::stdout(), "{text}").and_then(|()| io::stdout().flush());
}
