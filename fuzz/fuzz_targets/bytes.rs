//! Raw code: the first byte chooses the fork, the second the gas, the rest is bytecode.

#![no_main]

use kiln_tests::Case;
use kiln_tests::case::specs;
use kiln_tests::compare::assert_agrees;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [fork, gas, code @ ..] = data else { return };
    let specs: Vec<_> = specs().collect();
    let mut case = Case::of_code(specs[*fork as usize % specs.len()], code);
    case.gas = 21_000 + (*gas as u64 % 16) * (*gas as u64 / 16) * 1000;
    case.calldata = code.iter().rev().copied().take(68).collect();
    assert_agrees(&case);
});
