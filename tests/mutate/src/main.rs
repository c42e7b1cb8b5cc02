//! The mutation check: faults are planted in a copy of the sources, and the suite is shown to catch each.
//!
//! **Owns** the copy and its target folder, `mutate/` in the target folder of the caller. **Callers
//! guarantee** a checkout that builds. **Never** writes to the sources, but for `RESULTS.md`.
//!
//! All faults of `faults.toml` are planted at once, each behind a switch that a process reads from its
//! environment. So there is one build, and the suite of `suite.toml` runs from it, with no fault and with
//! each by itself.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

mod check;
mod list;
mod output;
mod plant;
mod report;
mod suite;

use clap::Parser;
use list::{Fault, List};
use plant::Copy;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};
use suite::Suite;

/// Plants faults in a copy of the sources, and shows which test catches each.
#[derive(Debug, Parser)]
struct Options {
    /// Only these faults, by name, or by a part of it; the results are not written down.
    #[arg(long)]
    only: Vec<String>,
    /// Shows the faults and where they are, and stops.
    #[arg(long)]
    list: bool,
    /// Plants the faults and builds the suite, and stops.
    #[arg(long)]
    build: bool,
    /// Where the copy is compiled, in place of `mutate/target` in the target folder.
    #[arg(long)]
    target_dir: Option<PathBuf>,
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is said of a run, and whether every fault was caught.
fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let root = root().canonicalize()?;
    let list = List::read(&root)?;
    let places = list.locate(&root)?;
    if options.list {
        for fault in &list.faults {
            println!("{:32} {:36} {}", fault.name, fault.file, fault.says);
        }
        println!("{} faults", list.faults.len());
        return Ok(true);
    }
    let wanted = |fault: &&Fault| {
        options.only.is_empty() || options.only.iter().any(|part| fault.name.contains(part))
    };
    let faults: Vec<&Fault> = list.faults.iter().filter(wanted).collect();
    if faults.is_empty() {
        return Err("no fault has such a name".into());
    }
    let base = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => root.join("target"),
    };
    let base = base.join("mutate");
    let copy = Copy::new(&root, &base.join("source"))?;
    copy.plant(&places)?;
    let target = options.target_dir.clone().unwrap_or_else(|| base.join("target"));
    let start = Instant::now();
    let suite = Suite::build(&list.stages, copy.folder(), &target)?;
    println!("built in {} s", start.elapsed().as_secs());
    if options.build {
        return Ok(true);
    }
    let start = Instant::now();
    let mut check = check::Check::new(&suite, copy.folder());
    if options.only.is_empty() {
        check.stages_pass(&faults)?;
    }
    let mut findings = Vec::with_capacity(faults.len());
    for fault in faults {
        let finding = check.fault(fault)?;
        println!("{:32} {:6.1} s  {finding}", fault.name, finding.time.as_secs_f64());
        findings.push((fault, finding));
    }
    let survived = findings.iter().filter(|(_, finding)| finding.caught.is_none()).count();
    println!("{} faults, {survived} not caught, {} s", findings.len(), start.elapsed().as_secs());
    if options.only.is_empty() {
        std::fs::write(root.join(report::FILE), report::table(&findings))?;
    }
    Ok(survived == 0)
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("mutate: {error}");
            ExitCode::from(2)
        }
    }
}
