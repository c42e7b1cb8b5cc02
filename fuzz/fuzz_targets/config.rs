//! Environments: options or an error that names the culprit.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzzed::config(data));
