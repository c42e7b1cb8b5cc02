//! Bytes to choices to a structured case, at the gas limits that matter to it: at each of them all engines must
//! end as the interpreter does.

#![no_main]

use kiln_harness::compare::assert_agrees_at_limits;
use kiln_harness::generate::{Choices, case};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    assert_agrees_at_limits(&case(&mut Choices::bytes(data)));
});
