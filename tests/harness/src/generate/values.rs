//! Words at the edges.

use super::Choices;
use revm::primitives::U256;

/// A word of one of the families: small, around a power of two, around the sign boundaries of all
/// widths, single limbs, shift amounts, addresses of the case, anything.
pub(super) fn word(choices: &mut Choices<'_>) -> U256 {
    let one = U256::from(1);
    match choices.below(12) {
        0 => U256::ZERO,
        1 => one,
        2 => U256::from(choices.below(40)),
        3 => one << choices.below(256),
        4 => (one << choices.below(256)) - one,
        5 => (one << choices.below(256)) + one,
        6 => (one << choices.below(256)).wrapping_neg(),
        7 => choices.pick(&[U256::MAX, U256::MAX - one, one << 255, (one << 255) - one]),
        8 => {
            let edges = [63, 64, 127, 128, 191, 192];
            let edge = one << choices.pick(&edges);
            choices.pick(&[edge, edge - one, edge + one, edge.wrapping_neg()])
        }
        9 => U256::from(u64::MAX) << (64 * choices.below(4)),
        10 => U256::from(choices.pick(&[31, 32, 33, 255, 256, 257, 1023, 1024, 0xffff, 0x10000])),
        _ => U256::from_limbs(std::array::from_fn(|_| anything(choices))),
    }
}

fn anything(choices: &mut Choices<'_>) -> u64 {
    (0..4).fold(0, |value, _| value << 16 | choices.below(1 << 16) as u64)
}

/// A small memory offset; rarely a large or absurd one.
pub(super) fn offset(choices: &mut Choices<'_>) -> U256 {
    match choices.below(600) {
        0..=2 => U256::from(choices.below(100_000)),
        3 => word(choices),
        4..=270 => U256::from(32 * choices.below(8)),
        _ => U256::from(choices.below(200)),
    }
}

/// A small length; rarely a large or absurd one.
pub(super) fn length(choices: &mut Choices<'_>) -> U256 {
    match choices.below(600) {
        0..=2 => U256::from(choices.below(50_000)),
        3 => word(choices),
        4..=120 => U256::ZERO,
        121..=270 => U256::from(32),
        _ => U256::from(choices.below(150)),
    }
}
