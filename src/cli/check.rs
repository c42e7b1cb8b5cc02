//! `kiln check`.

use super::{
    Verdict,
    error::CliError,
    output::{Output, grouped},
    progress,
};
use kiln::fixture;
use kiln_harness::{
    Case, Engines,
    compare::{check, unexpected},
    db::CaseDb,
    engine::{Kind, oracle},
};
use kiln_runtime::{Checks, Config, Engine};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Run case files on every engine, and compare each with the interpreter.
///
/// A case is an `.evm` file: contracts in assembly, a transaction, expectations. Compared are the result with its halt
/// reason, gas, output, logs, state, database accesses, and stack, memory and gas at each call and create. Of a file
/// that differs, the first difference is printed. The last line is `N passed, N failed`. With KILN_CHECK, a file in
/// which such a check finds something fails as well: so a report of one is tried again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Case files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only this engine; may be given several times.
    #[arg(long, value_name = "ENGINE")]
    engine: Vec<Kind>,
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    let files = fixture::find(&arguments.paths, &[".evm"])?;
    let stated = super::tier::stated()?;
    let engines = Engines::tuned(|_, config| Config {
        checks: Checks { reload: config.checks.reload | stated.checks.reload, ..stated.checks },
        reports: stated.reports.clone(),
        ..config
    });
    let engines = engines.map_err(|error| CliError::Engine(error.to_string()))?;
    let kinds = match arguments.engine.as_slice() {
        [] => Kind::COMPARED,
        kinds => kinds,
    };
    let bar = progress::bar(files.len(), "cases");
    let (mut variants, mut failed) = (0, 0);
    for path in &files {
        let case = load(path)?;
        match first_difference(&engines, kinds, &case) {
            Ok(count) => variants += count,
            Err(difference) => {
                failed += 1;
                bar.suspend(|| output.line(format_args!("{}: {difference}", path.display())))?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    output.line(format_args!("{} runs, {} engines", grouped(variants), kinds.len()))?;
    output.line(format_args!("{} passed, {failed} failed", files.len() - failed))?;
    Ok(Verdict::of(failed == 0))
}

/// Reads a case file.
pub(super) fn load(path: &Path) -> Result<Case, CliError> {
    let file = |error| CliError::File { path: path.to_path_buf(), error };
    let text = fs::read_to_string(path).map_err(file)?;
    text.parse().map_err(|error| file(io::Error::new(io::ErrorKind::InvalidData, error)))
}

/// Differences that an engine found by itself.
fn found(engine: &Engine) -> u64 {
    let stats = engine.stats();
    stats.reload_differences + stats.twice_differences + stats.shadow_differences
}

/// The first engine that found more of them than before.
fn checks_found(engines: &Engines, before: &[u64]) -> Option<Kind> {
    let mut now = engines.iter().zip(before);
    now.find(|((_, engine), before)| found(engine) > **before).map(|((kind, _), _)| kind)
}

/// Runs what a case asks for; in what it differs, or how many runs it was.
fn first_difference(engines: &Engines, kinds: &[Kind], case: &Case) -> Result<u64, String> {
    if let [first, ..] = unexpected(case, &oracle(case, &CaseDb::new(case))).as_slice() {
        return Err(format!("the interpreter: {first}"));
    }
    let variants = case.variants()?;
    let before: Vec<u64> = engines.iter().map(|(_, engine)| found(engine)).collect();
    for variant in &variants {
        if let Some(difference) = check(engines, kinds, variant) {
            return Err(format!("{:?}, gas {}: {difference}", variant.spec, variant.gas));
        }
    }
    if let Some(kind) = checks_found(engines, &before) {
        return Err(format!("a check of {kind} found a difference: see KILN_REPORTS"));
    }
    engines.clear();
    Ok(variants.len() as u64)
}
