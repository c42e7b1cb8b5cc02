//! `cargo bench -p kiln-benches --bench slots`: what an engine that knows 100,000 codes holds on the
//! heap for each. Not a test: it prints, people judge.

use kiln_benches::{
    BenchError,
    slots::{Bytes, Counting, measure},
};
use std::{
    io::{self, Write},
    process::ExitCode,
};

#[global_allocator]
static HEAP: Counting = Counting::new();

const CODES: usize = 100_000;

fn main() -> ExitCode {
    match run() {
        Ok(text) => {
            // Nothing is left to tell if standard output is closed.
            let _ = writeln!(io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<String, BenchError> {
    let Bytes { codes, seen, compiled, code } = measure(CODES, &HEAP)?;
    Ok(format!(
        "{codes} resident slots, bytes of the heap each, bytecode and machine code excluded:\n  \
         without a program {seen:.0}, with a program of one block {compiled:.0} (and {code:.0} bytes \
         of machine code)"
    ))
}
