//! What a build depends on besides the code.

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

/// Bounds on the work for one program. What is over a bound stays interpreted.
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
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            code_bytes_max: 1 << 20,
            block_instructions_max: 2048,
            insts_max: 1 << 20,
            fixups_max: 1 << 22,
        }
    }
}

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
}
