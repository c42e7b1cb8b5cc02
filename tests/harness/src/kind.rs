//! The engines by name, and the options of each.
//!
//! Owns the list of what is compared with the oracle: tests iterate over it, so a new engine is in all
//! of them. Never starts an engine.

#[cfg(feature = "llvm")]
use kiln_runtime::Worker;
use kiln_runtime::{Backend, Checks, Compile, Config, Force, Tier};
use std::fmt::{self, Write};
use std::str::FromStr;
use thiserror::Error;

/// What decides for [`Kind::Mixed`]. Each EVM begins with it anew.
const MIXED_SEED: u64 = 43;

/// What runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Plain revm: the oracle.
    Interpreter,
    /// kiln with the IR evaluator.
    Evaluator,
    /// kiln with the evaluator of optimised regions, as far as there are some.
    EvaluatorRegions,
    /// kiln with tier 0, whole contracts.
    Tier0All,
    /// kiln with tier 0, the blocks that an earlier run saw; other blocks are interpreted.
    Tier0Seen,
    /// kiln with tier 0, where the first frames of a code are interpreted and later ones not.
    Tier0Warm,
    /// kiln with tier 0 as it decides by itself, but after very few executions: what was run is compiled on
    /// the calling thread, again and again as more is run, and under running frames.
    Tier0Hot,
    /// The same, where what runs a second time is profiled and promoted, also under running frames.
    Promoted,
    /// The transitions themselves: at each safepoint a seed draws whether the code is entered, a block is
    /// interpreted, or the program is exchanged, dropped, or promoted to optimised regions.
    Mixed,
    /// kiln with optimised regions by Cranelift, wherever there can be one.
    OptimisedAll,
    /// The same, where an earlier run was.
    OptimisedSeen,
    /// kiln with tier 0, whole contracts, where each program was an artifact between being compiled and being run.
    Reloaded,
    /// The same with optimised regions.
    ReloadedOptimised,
    /// kiln with optimised regions by LLVM, wherever there can be one.
    #[cfg(feature = "llvm")]
    Tier1All,
    /// The same, where an earlier run was.
    #[cfg(feature = "llvm")]
    Tier1Seen,
    /// Whole contracts again, where each program was an artifact before it is run.
    #[cfg(feature = "llvm")]
    ReloadedTier1,
}

impl Kind {
    /// All engines that are compared with the oracle.
    pub const COMPARED: &[Self] = &[
        Self::Evaluator,
        Self::EvaluatorRegions,
        Self::Tier0All,
        Self::Tier0Seen,
        Self::Tier0Warm,
        Self::Tier0Hot,
        Self::Promoted,
        Self::Mixed,
        Self::OptimisedAll,
        Self::OptimisedSeen,
        Self::Reloaded,
        Self::ReloadedOptimised,
        #[cfg(feature = "llvm")]
        Self::Tier1All,
        #[cfg(feature = "llvm")]
        Self::Tier1Seen,
        #[cfg(feature = "llvm")]
        Self::ReloadedTier1,
    ];

    /// Those that run whole contracts, one for each way there is to run code.
    pub const WHOLE: &[Self] = &[
        Self::Evaluator,
        Self::EvaluatorRegions,
        Self::Tier0All,
        Self::OptimisedAll,
        #[cfg(feature = "llvm")]
        Self::Tier1All,
    ];

    /// Of many cases the `nth` one's engines: those of LLVM, which takes a tenth of a second for a contract, have
    /// one in so many.
    pub fn thinned(all: &'static [Self], nth: u64) -> &'static [Self] {
        const SLOW_EVERY: u64 = 16;
        let quick = all.iter().position(|kind| kind.is_slow()).unwrap_or(all.len());
        if nth.is_multiple_of(SLOW_EVERY) { all } else { &all[..quick] }
    }

    /// Whether compiling for it takes long. These come last in the lists.
    pub fn is_slow(self) -> bool {
        match self {
            #[cfg(feature = "llvm")]
            Self::Tier1All | Self::Tier1Seen | Self::ReloadedTier1 => true,
            _ => false,
        }
    }

    /// The options of its engine; none for the oracle.
    pub(crate) fn config(self) -> Option<Config> {
        let all = Config { compile: Compile::All, ..Config::eager() };
        let seen = Config { compile: Compile::Seen, ..all.clone() };
        // LLVM in this process: what a worker makes is the same, and workers are nice.
        #[cfg(feature = "llvm")]
        let by_llvm =
            |config| Config { first_tier: Tier::Tier1, tier1_worker: Worker::Off, ..config };
        let first_tier = Tier::Optimised;
        let checks = Checks { reload: true, ..Checks::NONE };
        Some(match self {
            Self::Interpreter => return None,
            Self::Evaluator => Config { backend: Backend::Evaluator, ..all },
            Self::EvaluatorRegions => Config { backend: Backend::Evaluator, first_tier, ..all },
            Self::Tier0All => all,
            Self::Tier0Seen => seen,
            Self::Tier0Warm => Config { warm_frames: 2, ..all },
            Self::Tier0Hot => Config { hot_executions: 2, ..seen },
            Self::Promoted => Config {
                hot_executions: 2,
                optimise_frames: 1,
                profile_blocks: 4,
                top_tier: Tier::Optimised,
                ..seen
            },
            Self::Mixed => Config {
                force: Force { seed: Some(MIXED_SEED), ..Force::NONE },
                regions_max: 2,
                ..all
            },
            Self::OptimisedAll => Config { first_tier, ..all },
            Self::OptimisedSeen => Config { first_tier, ..seen },
            Self::Reloaded => Config { checks, ..all },
            Self::ReloadedOptimised => Config { checks, first_tier, ..all },
            #[cfg(feature = "llvm")]
            Self::Tier1All => by_llvm(all),
            #[cfg(feature = "llvm")]
            Self::Tier1Seen => by_llvm(seen),
            #[cfg(feature = "llvm")]
            Self::ReloadedTier1 => by_llvm(Config { checks, ..all }),
        })
    }

    /// Whether what is compiled is what an earlier run saw.
    pub(crate) fn is_recorded(self) -> bool {
        match self {
            Self::Tier0Seen | Self::OptimisedSeen => true,
            #[cfg(feature = "llvm")]
            Self::Tier1Seen => true,
            _ => false,
        }
    }
}

/// In words: `tier0-seen`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, letter) in format!("{self:?}").chars().enumerate() {
            if index != 0 && letter.is_ascii_uppercase() {
                f.write_char('-')?;
            }
            f.write_char(letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// Not the name of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no engine is named `{name}`; there are {}", names.join(", "))]
pub struct UnknownKind {
    name: String,
    names: Vec<String>,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let found = Self::COMPARED.iter().find(|kind| kind.to_string() == name);
        found.copied().ok_or_else(|| UnknownKind {
            name: name.to_owned(),
            names: Self::COMPARED.iter().map(Self::to_string).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for kind in Kind::COMPARED {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        assert_eq!(Kind::Tier0Seen.to_string(), "tier0-seen");
        let error = "tier2".parse::<Kind>().unwrap_err().to_string();
        assert!(error.contains("`tier2`") && error.contains("evaluator-regions"), "{error}");
    }
}
