//! Raw code on all engines.

use kiln_harness::Case;
use kiln_harness::case::{TARGET, specs};
use kiln_harness::compare::assert_agrees;

/// Steps of the gas limit.
const GAS_STEP: u64 = 1000;

/// The first byte chooses the fork, the second the gas, the rest is code. Calldata is its end, backwards.
pub fn bytes(data: &[u8]) {
    let [fork, gas, code @ ..] = data else { return };
    let specs: Vec<_> = specs().collect();
    let mut case = Case::of_code(specs[*fork as usize % specs.len()], code);
    case.gas = 21_000 + u64::from(gas % 16) * u64::from(gas / 16) * GAS_STEP;
    case.calldata = code.iter().rev().copied().take(68).collect();
    assert_agrees(&case);
}

/// The bytes whose case is most like this one, with all the gas there may be.
pub fn bytes_of(case: &Case) -> Vec<u8> {
    let fork = specs().position(|spec| spec == case.spec).unwrap_or_default();
    let code = case.contracts.get(&TARGET).map_or(&[][..], |contract| &contract.code);
    [&[fork as u8, 0xff], code].concat()
}
