//! Bytes to choices to a structured case; all engines must do what the interpreter does.

#![no_main]

use kiln_harness::compare::assert_agrees;
use kiln_harness::generate::{Choices, case};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    assert_agrees(&case(&mut Choices::bytes(data)));
});
