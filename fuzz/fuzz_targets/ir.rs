//! Texts of modules, and code: parser, verifier and evaluators of the IR.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzzed::ir(data));
