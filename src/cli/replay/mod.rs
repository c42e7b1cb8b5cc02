//! `kiln replay`.

mod measure;
mod report;

use super::{
    Verdict,
    error::CliError,
    output::Output,
    progress,
    tier::{Choice, Compile, Tier},
};
use kiln::fixture::{self, load_all};
use kiln_runtime::Force;
use measure::Plan;
use report::Report;
use std::{fs, num::NonZeroUsize, path::PathBuf};

/// Run evm-fixture-v1 files and check every expected field of every transaction and the post state.
///
/// Times are of all transactions of a fixture with their commits, on a fresh state each round;
/// medians over the rounds. A tier is warm when it is measured: with `--compile all` a first round
/// compiles, with `--compile seen` a recording round says which blocks to compile; `--tier auto`
/// decides itself what to compile, in a few rounds, unless it is told. `--tier aot` compiles nothing:
/// it loads what the store has in a first round, with a new engine for each fixture.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Fixture files, plain or gzip, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What runs the code.
    #[arg(long, value_enum, default_value_t = Tier::Auto)]
    tier: Tier,
    /// How much of a contract is compiled: all, if nothing is said, but by `--tier auto`.
    #[arg(long, value_enum)]
    compile: Option<Compile>,
    /// Force rare transitions, for tests: `exit=N`, `swap=N`, `evict=N`, `promote`, or several with
    /// commas between them. At every N-th entry into compiled code a block is interpreted instead,
    /// or the program is replaced by a freshly compiled one, or dropped; `promote` compiles every
    /// code at its first frame. Each EVM counts for itself. Slow.
    #[arg(long, value_name = "MODES")]
    force: Option<Force>,
    /// Keep machine code in this folder, and take from it what is there: in place of KILN_STORE.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Measured rounds; 5 with --compare, else 1.
    #[arg(long, value_name = "N")]
    rounds: Option<NonZeroUsize>,
    /// Measure the interpreter too, in turns with the chosen tier.
    #[arg(long)]
    compare: bool,
    /// Write the results as JSON to this file; `-` is standard output, in place of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Count it as a mismatch if less than this share of all instructions, initcode aside, ran in
    /// compiled code.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    native_share_min: Option<f64>,
    /// Print the engine's counters for each fixture too.
    #[arg(long)]
    stats: bool,
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    let files = load_all(&arguments.paths)?;
    let rounds = arguments.rounds.map_or(if arguments.compare { 5 } else { 1 }, NonZeroUsize::get);
    let Arguments { tier, compile, force, store, compare, .. } = arguments;
    let (tier, compile, force, compare) = (*tier, *compile, *force, *compare);
    let choice = Choice { tier, compile, force, store: store.clone() };
    let plan = Plan { choice, compare, rounds };

    let bar = progress::bar(files.len(), "fixtures");
    let mut report = Report::default();
    for path in &files {
        let loaded = fixture::load(path)?;
        let (row, stats) = measure::measure(&loaded, &plan)?;
        report.add(row, stats);
        bar.inc(1);
    }
    bar.finish_and_clear();

    let total = report.total();
    let json_to = arguments.json.as_deref();
    if let Some(path) = json_to {
        let json = report.json(&total);
        if path.as_os_str() == "-" {
            output.line(json)?;
        } else {
            fs::write(path, json + "\n")
                .map_err(|error| CliError::File { path: path.to_path_buf(), error })?;
        }
    }
    if json_to.is_none_or(|path| path.as_os_str() != "-") {
        report.print(&total, &plan, arguments.stats, output)?;
    }
    let share = total.native_instruction_share * 100.0;
    let enough = arguments.native_share_min.is_none_or(|min| share >= min);
    if let Some(min) = arguments.native_share_min.filter(|_| !enough) {
        output.line(format_args!("{share:.2}% ran in compiled code, less than {min}%"))?;
    }
    Ok(Verdict::of(total.ok && enough))
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("not a number from 0 to 100".to_owned()),
    }
}
