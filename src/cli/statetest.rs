//! `kiln statetest`.

use super::{
    Verdict,
    error::CliError,
    output::{Output, grouped, loaded},
    progress,
    tier::{Choice, Runner, Tier},
};
use kiln::statetest::{self, Failure, Golden, Options};
use kiln_runtime::Force;
use std::{num::NonZeroUsize, path::PathBuf, thread};

/// Run GeneralStateTest files, on all forks that revm has.
///
/// State root and logs root of every variant are checked. Variants of forks that revm does not have
/// (Constantinople) are skipped. The last line is `N passed, N failed`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// State test files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What runs the code.
    #[arg(long, value_enum, default_value_t = Tier::Auto)]
    tier: Tier,
    /// Force rare transitions, for tests: `exit=N`, `swap=N`, `evict=N`, `promote`, or several with
    /// commas between them. At every N-th entry into compiled code a block is interpreted instead,
    /// or the program is replaced by a freshly compiled one, or dropped; `promote` compiles every
    /// code at its first frame. Each EVM counts for itself. Slow.
    #[arg(long, value_name = "MODES")]
    force: Option<Force>,
    /// Keep machine code in this folder, and take from it what is there: in place of KILN_STORE.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Compare gas, result and output with this file too: lines of `[path, test, fork, d, g, v,
    /// gas_used, result, output]`, plain or gzip.
    #[arg(long, value_name = "FILE")]
    golden: Option<PathBuf>,
    /// Run every variant on the interpreter too, and compare all that both do: the result, the state, the logs,
    /// and at each call and create the stack, memory and gas of the frame.
    #[arg(long)]
    compare: bool,
    /// Leave out files whose path contains this; may be given several times.
    #[arg(long, value_name = "NAME")]
    skip: Vec<String>,
    /// Threads; as many as there are processors if not given.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Failures to print in full.
    #[arg(long, value_name = "N", default_value_t = 50)]
    failures_max: usize,
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    let files = statetest::find(&arguments.paths, &arguments.skip)?;
    let golden = arguments.golden.as_deref().map(Golden::load).transpose()?;
    let threads = arguments.threads.or_else(|| thread::available_parallelism().ok());
    let options = Options { threads: threads.unwrap_or(NonZeroUsize::MIN), golden };
    let Arguments { tier, force, store, .. } = arguments;
    let choice = Choice { tier: *tier, compile: None, force: *force, store: store.clone() };
    let runner = Runner::new(&choice)?;

    let bar = progress::bar(files.len(), "state tests");
    let execute = |input: statetest::Input<'_>| match arguments.compare {
        true => runner.state_test_compared(input),
        false => Ok(runner.state_test(input)),
    };
    let report = statetest::run(&files, &options, &execute, &|| bar.inc(1));
    bar.finish_and_clear();
    let report = report?;
    runner.flush();

    report
        .failures
        .iter()
        .take(arguments.failures_max)
        .try_for_each(|failure| output.line(describe(failure)))?;
    let more = report.failures.len().saturating_sub(arguments.failures_max);
    if more != 0 {
        output.line(format_args!("and {more} more failures"))?;
    }
    let (files, skipped) = (grouped(files.len() as u64), grouped(report.skipped as u64));
    output.line(format_args!("{files} files, {skipped} variants of unknown forks skipped"))?;
    if options.golden.is_some() {
        let golden = grouped(report.golden as u64);
        output.line(format_args!("{golden} variants compared with golden results"))?;
    }
    if choice.has_store() {
        output.line(loaded(runner.stats().store_hits))?;
    }
    output.line(format_args!("{} passed, {} failed", report.passed, report.failures.len()))?;
    Ok(Verdict::of(report.failures.is_empty()))
}

fn describe(failure: &Failure) -> String {
    let Failure { path, test, spec, indexes: [d, g, v], error } = failure;
    format!("{}: {test} {spec:?} d{d} g{g} v{v}: {error}", path.display())
}
