//! The worker's protocol: any bytes are messages or errors.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kiln_fuzzed::wire(data));
