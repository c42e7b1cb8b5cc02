//! Perturbation: compilation that is worse on purpose, so that code which rarely runs is run.
//!
//! **Owns** the options and their text form. They are read where code is compiled (in [`crate::Limits`], which every
//! compiler gets), never where it runs: off, they cost nothing. **Never** changes a result.

use core::{fmt, str::FromStr};
use thiserror::Error;

/// Instructions of a block at most with [`Perturb::tiny_regions`]: odd, so that blocks are cut within the pairs and
/// triples of instructions that compilers emit.
pub const TINY_BLOCK_INSTRUCTIONS: usize = 3;

/// What is made worse. Nothing by default.
///
/// As text, for [`FromStr`] and [`fmt::Display`]: parts separated by commas,
/// `no-inline,tiny-regions,every-exit,spill`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Perturb {
    /// No inline fast paths, on every engine: what has a helper that can not fail (MUL, division, shifts, BYTE,
    /// SIGNEXTEND, ...) calls it, whatever is known of its operands; memory, calldata, hashes, copies, EXP, storage and
    /// logs go through the EVM's own instruction table; the IR has nothing folded, fused or covered by an earlier
    /// access. Additions, comparisons and operations on bits have no slow path.
    pub no_inline: bool,
    /// Blocks of [`TINY_BLOCK_INSTRUCTIONS`] instructions at most, and optimised regions of one block. (A block that
    /// goes back to itself is a loop all the same.) With blocks that were *seen*, what is behind a cut is found like
    /// any other block that is missing.
    pub tiny_regions: bool,
    /// Every way out is taken. Blocks of the baseline and of its evaluator leave at their end, and in front of each
    /// computed jump; guarded helpers refuse; behind an instruction that the host ran, compiled code is left; each poll
    /// at a back-edge leaves. What the interpreter runs goes on in compiled code at the next block of any kind. Within
    /// an optimised region edges that go forwards stay: with [`Perturb::tiny_regions`] there are none.
    pub every_exit: bool,
    /// Nothing is kept. The baseline and its evaluator bring all words home behind each instruction and forget what
    /// is known of them (but for a jump's destination that was pushed in front of it). In optimised regions each block
    /// stands alone: all words that the region changes are passed along each edge, and nothing is optimised or bounded.
    /// What their compilers then keep in registers is not theirs to say.
    pub spill: bool,
}

/// Names with the fields they stand for, in the order of the text.
type Part = (&'static str, fn(&mut Perturb) -> &mut bool);

impl Perturb {
    /// Nothing.
    pub const NONE: Self =
        Self { no_inline: false, tiny_regions: false, every_exit: false, spill: false };

    /// Everything.
    pub const ALL: Self =
        Self { no_inline: true, tiny_regions: true, every_exit: true, spill: true };

    const PARTS: [Part; 4] = [
        ("no-inline", |perturb| &mut perturb.no_inline),
        ("tiny-regions", |perturb| &mut perturb.tiny_regions),
        ("every-exit", |perturb| &mut perturb.every_exit),
        ("spill", |perturb| &mut perturb.spill),
    ];

    /// One bit for each option, in the order of the text.
    pub fn bits(mut self) -> u8 {
        let parts = (0..).zip(Self::PARTS);
        parts.fold(0, |bits, (index, (_, field))| bits | u8::from(*field(&mut self)) << index)
    }

    /// From [`Self::bits`]; none if there are others.
    pub fn from_bits(bits: u8) -> Option<Self> {
        let mut perturb = Self::NONE;
        for (index, (_, field)) in (0..).zip(Self::PARTS) {
            *field(&mut perturb) = bits >> index & 1 != 0;
        }
        (perturb.bits() == bits).then_some(perturb)
    }

    /// Whether the SSA form is left as it was built.
    pub(crate) const fn leaves_ssa(self) -> bool {
        self.no_inline || self.spill
    }
}

/// Not the text of a [`Perturb`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{part}` is none of no-inline, tiny-regions, every-exit, spill, none")]
pub struct ParsePerturbError {
    part: String,
}

impl FromStr for Perturb {
    type Err = ParsePerturbError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut perturb = Self::NONE;
        if text == "none" {
            return Ok(perturb);
        }
        for part in text.split(',') {
            let found = Self::PARTS.iter().find(|(name, _)| *name == part);
            let (_, field) = found.ok_or_else(|| ParsePerturbError { part: part.to_owned() })?;
            *field(&mut perturb) = true;
        }
        Ok(perturb)
    }
}

impl fmt::Display for Perturb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut perturb = *self;
        let set = Self::PARTS.iter().filter(|(_, field)| *field(&mut perturb));
        let names: Vec<_> = set.map(|(name, _)| *name).collect();
        if names.is_empty() { f.write_str("none") } else { f.write_str(&names.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bits_round_trip() {
        for bits in 0..16 {
            let perturb = Perturb::from_bits(bits).expect("four bits are options");
            assert_eq!(perturb.bits(), bits);
            assert_eq!(perturb.to_string().parse(), Ok(perturb));
        }
        assert_eq!(Perturb::NONE.to_string(), "none");
        assert_eq!(Perturb::ALL.to_string(), "no-inline,tiny-regions,every-exit,spill");
        assert_eq!(Perturb::from_bits(16), None);
        for text in ["", "spill,", "spill,none", "Spill", "inline"] {
            assert!(text.parse::<Perturb>().is_err(), "{text}");
        }
    }
}
