//! Follows an engine through a case file, and prints where it first differs from the interpreter.
//!
//! `cargo run --profile checked -p kiln-tests --features dump --example diverge -- FILE.evm [ENGINE] [PERTURBATION]`
//!
//! ENGINE is a name as `tier 0`, `tier 0, hot`, `evaluator`, `evaluator of regions`, `promoted`, `optimised`, or (with
//! feature `llvm`) `tier 1`; all, if it is left out or `all`. PERTURBATION is as in `KILN_PERTURB`; without it
//! `tiny-regions,every-exit`, so that there is a safepoint every few instructions. Another one may be needed for an
//! error that only larger regions show: then `none`, and the place is as near as the safepoints are.
//!
//! Ends with 1 if there is a difference, with 2 if there is no such file or engine.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use kiln_tests::Case;
use kiln_tests::compare::differences;
use kiln_tests::dump::{Watched, stepped};
use kiln_tests::perturbed::configs;
use std::process::ExitCode;

/// Runs of a case on one engine: some compile what was run before.
const RUNS: usize = 4;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("diverge: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many engines differ.
fn run(args: Vec<String>) -> Result<usize, String> {
    let [file, rest @ ..] = &args[..] else {
        return Err("FILE.evm [ENGINE] [PERTURBATION]".to_owned());
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let case: Case = text.parse().map_err(|error| format!("{file}: {error}"))?;
    let wanted = rest.first().map_or("all", String::as_str);
    let perturb = rest.get(1).map_or("tiny-regions,every-exit", String::as_str);
    let configs = configs(perturb.parse().map_err(|error| format!("{error}"))?);
    let names: Vec<_> = configs.iter().map(|(name, _)| *name).collect();
    if wanted != "all" && !names.contains(&wanted) {
        return Err(format!("no engine `{wanted}`; there are {}", names.join("; ")));
    }
    let (steps, expected) = stepped(&case);
    let mut differ = 0;
    for (name, config) in configs.into_iter().filter(|(name, _)| [*name, "all"].contains(&wanted)) {
        let watched = Watched::new(config).map_err(|error| error.to_string())?;
        for run in 1..=RUNS {
            let followed = watched.follow(&case, &steps);
            let details = differences(&expected, &followed.outcome);
            if let Some(divergence) = &followed.divergence {
                println!("{name}, {perturb}, run {run}: {divergence}");
            } else if details.is_empty() {
                println!("{name}, {perturb}, run {run}: none in {} states", followed.reports);
                continue;
            } else {
                println!(
                    "{name}, {perturb}, run {run}: behind the last of {} states",
                    followed.reports
                );
            }
            details.iter().for_each(|detail| println!("  the result: {detail}"));
            differ += 1;
            break;
        }
    }
    Ok(differ)
}
