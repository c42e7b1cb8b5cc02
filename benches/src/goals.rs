//! The goals that figures are printed next to, by fixture.
//!
//! **Owns** the table. **Never** decides whether a goal is met: people do.

use crate::Tier;

/// What is wanted of the code of a fixture, and what the best known LLVM-only JIT for revm takes to
/// compile it.
#[derive(Clone, Copy, Debug)]
struct Goal {
    fixture: &'static str,
    /// Speed-up over the interpreter, of regions by Cranelift. Without one: that of tier 0.
    optimised: Option<f64>,
    /// The same, by LLVM.
    tier1: Option<f64>,
    /// Milliseconds of CPU time that the other one compiles for.
    other_ms: f64,
    /// Bytes of its code.
    other_bytes: u64,
}

const fn goal(
    fixture: &'static str,
    [optimised, tier1]: [Option<f64>; 2],
    other_ms: f64,
    other_bytes: u64,
) -> Goal {
    Goal { fixture, optimised, tier1, other_ms, other_bytes }
}

const GOALS: [Goal; 10] = [
    goal("counter", [None, None], 10.0, 846),
    goal("eip4788", [None, None], 9.0, 720),
    goal("erc20_transfer", [None, Some(1.22)], 337.0, 28_076),
    goal("fibonacci-calldata", [Some(10.0), Some(20.0)], 8.0, 368),
    goal("hash_10k", [None, Some(1.32)], 15.0, 1609),
    goal("seaport", [None, Some(1.20)], 5191.0, 331_379),
    goal("snailtracer", [Some(2.0), Some(3.2)], 2046.0, 131_491),
    goal("uniswap_v2_pair", [None, Some(1.30)], 722.0, 90_270),
    goal("usdc_proxy", [None, Some(1.15)], 103.0, 11_698),
    goal("weth", [None, Some(1.35)], 174.0, 21_665),
];

/// A tenth: the share of the other compiler's CPU time that tier 1 may take.
const SHARE: f64 = 0.1;
/// Microseconds of CPU time for each instruction that Cranelift may take.
pub(crate) const OPTIMISED_US_PER_INSTRUCTION: f64 = 15.0;

fn of(fixture: &str) -> Option<&'static Goal> {
    GOALS.iter().find(|goal| goal.fixture == fixture)
}

/// Speed-up over the interpreter.
pub(crate) fn ratio(tier: Tier, fixture: &str) -> Option<f64> {
    match tier {
        Tier::Tier0 => None,
        Tier::Optimised => of(fixture)?.optimised,
        Tier::Tier1 => of(fixture)?.tier1,
    }
}

/// Milliseconds of CPU time for compiling.
pub(crate) fn compile_ms(tier: Tier, fixture: &str) -> Option<f64> {
    (tier == Tier::Tier1).then(|| of(fixture).map(|goal| goal.other_ms * SHARE))?
}

/// Bytes of the other compiler's code, for comparison.
pub(crate) fn other_bytes(fixture: &str) -> Option<u64> {
    of(fixture).map(|goal| goal.other_bytes)
}
