//! The store's formats: any bytes are artifacts and profiles or errors.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzzed::artifact(data));
