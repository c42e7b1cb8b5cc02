//! `cargo bench -p kiln-benches --bench hit`: what a hit costs over calling the compiled entry
//! directly. Not a test: it prints, people judge.

use kiln_benches::Hit;
use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    match Hit::measure() {
        Ok(hit) => {
            let Hit { hit_ns, run_ns, end_ns, entry_ns } = hit;
            // Nothing is left to tell if standard output is closed.
            let _ = writeln!(
                io::stdout(),
                "a frame of one compiled block: hit {hit_ns:.1} ns (of it the lookup {:.1}, revm's end \
                 of a frame {end_ns:.1}), compiled entry alone {entry_ns:.1} ns\na hit costs {:.1} ns \
                 over calling the entry and ending the frame",
                hit_ns - run_ns,
                hit.over_ns(),
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}
