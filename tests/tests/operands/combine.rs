//! How operands are combined, and which engines get which combinations.
//!
//! **Owns** the shares of slow compilers, so that the whole takes about a minute. **Callers guarantee** nothing.
//! **Never** leaves a pair of words to no engine.

use crate::table::Operand;
use kiln_tests::engine::{Engines, Kind};
use revm::primitives::U256;
use std::sync::LazyLock;

/// What the compiler knows of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: it comes from calldata.
    Nothing,
    /// All: it is a constant.
    All,
    /// Some of its bits: it was masked, shifted, extended, or is the result of a comparison.
    Some,
}

impl Known {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::All, Self::Some];
}

/// Who runs a combination: LLVM takes milliseconds for what the evaluator does in one microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// The evaluator and tier 0.
    Quick,
    /// The evaluator of regions, too.
    Regions,
    /// Regions by Cranelift, too.
    Optimised,
    /// All engines.
    Every,
}

impl Level {
    pub(crate) const ALL: [Self; 4] = [Self::Quick, Self::Regions, Self::Optimised, Self::Every];

    /// The engines. Of programs for all, one in eight runs on each of them under every policy, the others in each
    /// way that there is to run code.
    pub(crate) fn kinds(self, nth: usize) -> &'static [Kind] {
        match self {
            Self::Quick => &[Kind::Evaluator, Kind::Tier0All],
            Self::Regions => &[Kind::Evaluator, Kind::EvaluatorRegions, Kind::Tier0All],
            Self::Optimised => {
                &[Kind::Evaluator, Kind::EvaluatorRegions, Kind::Tier0All, Kind::OptimisedAll]
            }
            Self::Every if nth.is_multiple_of(8) => Kind::COMPARED,
            Self::Every => Kind::WHOLE,
        }
    }
}

/// How much of the combinations of two core words slow compilers get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Evaluator of regions and Cranelift get one in so many pairs: the former in all ways to know the two,
    pub(crate) regions: usize,
    /// the latter in so many of the nine. At least one.
    pub(crate) optimised_ways: usize,
    /// LLVM gets one in so many pairs, in one of the ways. A multiple of [`Self::regions`].
    pub(crate) every: usize,
    /// Ways to know two words that are not both core words, of nine, in which such a pair is run. At least one.
    pub(crate) other_ways: usize,
}

impl Share {
    /// The level of the `index`th way, of `ways`, to know the `nth` pair, if it is run. With the variable `KILN_TEST_OPERANDS`
    /// everything is for every engine: that takes an hour.
    fn level(self, is_core: bool, (nth, index, ways): (usize, usize, usize)) -> Option<Level> {
        static EVERYTHING: LazyLock<bool> =
            LazyLock::new(|| std::env::var_os("KILN_TEST_OPERANDS").is_some());
        // From pair to pair another way comes first.
        let turn = (index + nth) % ways;
        Some(match (is_core, turn) {
            _ if *EVERYTHING || ways < 9 => Level::Every,
            (true, 0) if nth.is_multiple_of(self.every) => Level::Every,
            (true, _) if !nth.is_multiple_of(self.regions) => Level::Quick,
            (true, turn) if turn < self.optimised_ways => Level::Optimised,
            (true, _) => Level::Regions,
            (false, 0) if nth.is_multiple_of(8) => Level::Optimised,
            (false, turn) if turn < self.other_ways => Level::Quick,
            (false, _) => return None,
        })
    }
}

/// One way to fill the operands of an opcode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Combination {
    /// From the top of the stack downwards; none for a valid target.
    pub(crate) operands: Vec<(Option<U256>, Known)>,
    pub(crate) level: Level,
}

/// The words at each position, and what stands there while others vary.
pub(crate) struct Position {
    pub(crate) words: Vec<Operand>,
    /// Taken in turn.
    pub(crate) defaults: Vec<Option<U256>>,
}

/// All pairs of words at each two of the positions, each known, unknown and in part, while the other positions
/// take theirs in turn.
pub(crate) fn combinations(
    positions: &[Position],
    pairs: &[(usize, usize)],
    share: Share,
) -> impl Iterator<Item = Combination> {
    let mut nth = 0;
    let mut all = Vec::new();
    for &(i, j) in pairs {
        for a in &positions[i].words {
            // A position that is paired with itself is alone.
            let others = if i == j { std::slice::from_ref(a) } else { &positions[j].words };
            for b in others {
                nth += 1;
                all.extend(known_ways(i == j).filter_map(|(index, ways, known)| {
                    let fill = |(at, position): (usize, &Position)| match at {
                        at if at == i => (Some(a.value), known[0]),
                        at if at == j => (Some(b.value), known[1]),
                        at => {
                            let defaults = &position.defaults;
                            (
                                defaults[(nth + at) % defaults.len()],
                                Known::ALL[(nth + index + at) % 3],
                            )
                        }
                    };
                    let level = share.level(a.is_core && b.is_core, (nth, index, ways))?;
                    let operands = positions.iter().enumerate().map(fill).collect();
                    Some(Combination { operands, level })
                }));
            }
        }
    }
    all.into_iter()
}

/// What may be known of two operands, or of one: its number, of how many, and what.
fn known_ways(single: bool) -> impl Iterator<Item = (usize, usize, [Known; 2])> {
    let ways = if single { 3 } else { 9 };
    (0..ways).map(move |index| (index, ways, [Known::ALL[index % 3], Known::ALL[index / 3 % 3]]))
}

/// Asserts that so many programs had regions: without, their engines would be tier 0's again.
pub(crate) fn assert_regions(engines: &Engines, cranelift: usize, llvm: usize) {
    let has = |kind: Kind, programs: usize| {
        let Some(engine) = engines.of(kind) else { return };
        let stats = engine.stats();
        assert!(programs > 0 && stats.optimised_regions >= programs as u64, "{kind:?}: {stats:?}");
        assert_eq!(stats.region_errors, 0, "{kind:?}");
    };
    has(Kind::OptimisedAll, cranelift);
    #[cfg(feature = "llvm")]
    has(Kind::Tier1All, llvm);
    #[cfg(not(feature = "llvm"))]
    let _ = llvm;
}
