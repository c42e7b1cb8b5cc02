//! Raw code: all engines must do what the interpreter does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzzed::bytes(data));
