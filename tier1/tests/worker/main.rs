//! Workers that do what they should not, and a pool that goes on.
//!
//! This executable is its own worker: started as one it serves with a compiler that does what the job's
//! bytecode says (`fake`), or answers the handshake as a variable says (`handshake`).

mod fake;
mod handshake;
mod jobs;
mod orphan;
mod pools;
mod process;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = handshake::misbehave() {
        return code;
    }
    kiln_tier1::worker::serve_if_worker(fake::compile);
    if let Some(code) = orphan::parent() {
        return code;
    }
    // They count the children and descriptors of this process.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let tests = [jobs::tests(), handshake::tests(), pools::tests(), orphan::tests()];
    let trials = tests.into_iter().flatten().map(|(name, test)| {
        Trial::test(name, move || {
            process::leaves_nothing_behind(test);
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
