//! What a build depends on besides the code.

use crate::perturb::{Perturb, TINY_BLOCK_INSTRUCTIONS};
use revm_primitives::hardfork::SpecId;
use thiserror::Error;

/// A set of opcodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OpcodeSet([u64; 4]);

impl OpcodeSet {
    /// No opcode.
    pub const EMPTY: Self = Self([0; 4]);

    /// Adds an opcode.
    pub const fn insert(&mut self, opcode: u8) {
        self.0[(opcode >> 6) as usize] |= 1 << (opcode & 63);
    }

    /// Whether the opcode is in the set.
    pub const fn contains(&self, opcode: u8) -> bool {
        self.0[(opcode >> 6) as usize] >> (opcode & 63) & 1 != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    /// The set as bits, by opcode, the lowest first.
    pub const fn words(&self) -> [u64; 4] {
        self.0
    }

    /// From [`Self::words`]: any bits are a set.
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// All opcodes of either set.
    pub const fn union(&self, other: &Self) -> Self {
        let (a, b) = (&self.0, &other.0);
        Self([a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]])
    }
}

impl FromIterator<u8> for OpcodeSet {
    fn from_iter<I: IntoIterator<Item = u8>>(iter: I) -> Self {
        let mut set = Self::EMPTY;
        iter.into_iter().for_each(|opcode| set.insert(opcode));
        set
    }
}

/// Everything that is baked into compiled code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// The fork, which decides what is activated.
    pub spec: SpecId,
    /// Static gas by opcode, as the EVM's instruction provider has it.
    pub gas: [u16; 256],
    /// Opcodes that are not revm's own: each is run by the EVM's instruction table, outside of
    /// compiled code.
    pub replaced: OpcodeSet,
}

/// Bounds on the work for one program, and what is to be made worse about it. What is over a bound stays
/// interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of bytecode.
    pub code_bytes_max: usize,
    /// Instructions of one block; a longer one is cut.
    pub block_instructions_max: usize,
    /// IR instructions of a program.
    pub insts_max: usize,
    /// Fixups of a program.
    pub fixups_max: usize,
    /// Bytes of text (machine code and its data) for each instruction that is compiled. Measured on
    /// mainnet code: 26.
    pub text_ratio_max: usize,
    /// Bytes of text that a program may have on top of that.
    pub text_bytes_free: usize,
    /// Slow paths that are forced, for tests.
    pub perturb: Perturb,
}

impl Limits {
    /// No limit but those of the formats.
    pub const NONE: Self = Self {
        code_bytes_max: usize::MAX,
        block_instructions_max: 2048,
        insts_max: usize::MAX,
        fixups_max: usize::MAX,
        text_ratio_max: usize::MAX,
        text_bytes_free: usize::MAX,
        perturb: Perturb::NONE,
    };

    /// Bytes of text that so many instructions may be compiled to, but for the block that goes over
    /// it.
    pub const fn text_bytes_max(&self, instructions: usize) -> usize {
        self.text_ratio_max.saturating_mul(instructions).saturating_add(self.text_bytes_free)
    }

    /// Instructions of one block at most.
    pub(crate) fn block_instructions(&self) -> usize {
        match self.perturb.tiny_regions {
            true => self.block_instructions_max.min(TINY_BLOCK_INSTRUCTIONS),
            false => self.block_instructions_max,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            code_bytes_max: 1 << 20,
            block_instructions_max: 2048,
            insts_max: 1 << 20,
            fixups_max: 1 << 22,
            text_ratio_max: 128,
            text_bytes_free: 64 << 10,
            perturb: Perturb::NONE,
        }
    }
}

/// What bounds one compilation: limits that are known before, and someone who may call it off.
/// From [`Limits`] alone: nobody does.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// How much work there may be.
    pub limits: &'a Limits,
    /// Whether the work was called off; asked once a block.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl<'a> From<&'a Limits> for Bounds<'a> {
    fn from(limits: &'a Limits) -> Self {
        Self { limits, cancelled: &|| false }
    }
}

impl core::fmt::Debug for Bounds<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bounds").field("limits", self.limits).finish_non_exhaustive()
    }
}

impl Bounds<'_> {
    /// To go on, or not.
    ///
    /// # Errors
    /// If the work was called off.
    #[inline]
    pub fn check(&self) -> Result<(), Cancelled> {
        if (self.cancelled)() { Err(Cancelled) } else { Ok(()) }
    }
}

/// The work was called off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the work was called off")]
pub struct Cancelled;

/// Why a program was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// More work than [`Limits`] allow.
    #[error("{what} is {is}, over the limit of {max}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much there is.
        is: usize,
        /// The bound.
        max: usize,
    },
    /// The work was called off.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}
