//! Sequences of stencils with any patches, against reference arithmetic.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzzed::stencils(data));
