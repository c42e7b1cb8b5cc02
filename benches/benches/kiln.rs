//! `cargo bench -p kiln-benches`: prints what kiln costs and what it brings. Not a test: nothing is
//! asserted but that results are right.

use clap::Parser;
use kiln_benches::{
    BenchError, Budget, Compilation, Ready, Report, Row, Startup, Tier, Transactions, WorkerStart,
    folder, frames, subjects,
};
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

/// Measures start-up, compilation, and cold transactions on plain revm, in code of each tier, and
/// through kiln switched off.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of fixtures, or of a folder `contracts` of them; the environment's KILN_FIXTURES, or
    /// this repository's workloads if not given.
    #[arg(value_name = "DIR")]
    fixtures: Option<PathBuf>,
    /// Only fixtures whose name contains one of these.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// The tiers; all that this build has, if not given.
    #[arg(long, value_name = "TIER", value_delimiter = ',')]
    tiers: Vec<Tier>,
    /// Milliseconds after which a fixture's transactions are not run again.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    time_ms: u64,
    /// Write the figures as JSON to this file too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // Tier 1 compiles in processes of this executable.
    kiln::serve_if_worker();
    let arguments = Arguments::parse();
    let outcome = measure(&arguments).map_err(|error| error.to_string()).and_then(|report| {
        if let Some(path) = &arguments.json {
            fs::write(path, format!("{:#}\n", report.json()))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        writeln!(io::stdout(), "{}", report.text()).map_err(|error| error.to_string())
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is closed as well.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Report, BenchError> {
    let named = arguments.fixtures.clone();
    let named = named.or_else(|| std::env::var_os("KILN_FIXTURES").map(PathBuf::from));
    let budget =
        Budget { rounds_min: 9, rounds_max: 3_000, time: Duration::from_millis(arguments.time_ms) };
    let startup = Startup::measure()?;
    let frames = frames::measure(&Budget { rounds_min: 1_001, ..budget })?;
    let tiers = match arguments.tiers.is_empty() {
        true => Tier::BUILT.to_vec(),
        false => arguments.tiers.clone(),
    };
    let worker = match tiers.contains(&Tier::Tier1) {
        true => WorkerStart::measure()?,
        false => None,
    };
    let mut rows = Vec::new();
    for subject in subjects(folder(named))? {
        let name = subject.loaded.fixture.name.clone();
        let only = &arguments.only;
        if !only.is_empty() && !only.iter().any(|only| name.contains(only)) {
            continue;
        }
        let compilation = Compilation::measure(&subject)?;
        // Only precompiles run.
        if compilation.instructions == 0 {
            continue;
        }
        let ready = tiers.iter().map(|&tier| Ready::new(tier, &subject));
        let ready = ready.collect::<Result<Vec<_>, _>>()?;
        let costs = ready.iter().map(|ready| ready.cost).collect();
        let transactions = Transactions::measure(&subject, &ready, &budget)?;
        rows.push(Row { name, compilation, transactions, costs });
    }
    Ok(Report { startup, worker, frames, tiers, rows })
}
