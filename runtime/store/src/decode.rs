//! What decoding may answer, and what it may take.
//!
//! **Owns** the errors and the limits of all formats. **Never** decodes.

use crate::{FORMAT, Key};
use kiln_ir::sent::Malformed;
use thiserror::Error;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Cut off, or with something behind it.
    #[error("it has {is} bytes, not {should}")]
    Length {
        /// Bytes there are.
        is: u64,
        /// Bytes there must be, as far as can be seen.
        should: u64,
    },
    /// Something else altogether.
    #[error("it is no {0}: it does not begin like one")]
    Magic(&'static str),
    /// Of another version of the format.
    #[error("it is of format {found}, and this build reads {ours}")]
    Version {
        /// The version it says.
        found: u32,
        /// [`FORMAT`].
        ours: u32,
    },
    /// Damaged.
    #[error("its {0} has another hash than it should")]
    Hash(&'static str),
    /// Intact, but another artifact than its name says.
    #[error("it is {is}")]
    OtherKey {
        /// The key that it was made for.
        is: Box<Key>,
    },
    /// Intact as far as can be seen, but more than [`DecodeLimits`] allow.
    #[error("{what}: {is}, over the limit of {max}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much there is.
        is: u64,
        /// The bound.
        max: u64,
    },
    /// The hashes match, and something can not be: who wrote it had a fault.
    #[error("{0}")]
    Malformed(&'static str),
    /// As before.
    #[error("malformed: {0}")]
    Postcard(#[from] postcard::Error),
}

impl DecodeError {
    /// Whether nobody with other limits could use it either.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Limit { .. })
    }

    pub(crate) fn limit(what: &'static str, is: u64, max: usize) -> Result<(), Self> {
        let max = max as u64;
        if is > max { Err(Self::Limit { what, is, max }) } else { Ok(()) }
    }
}

impl From<Malformed> for DecodeError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}

/// Bounds on what is loaded. What is over one is not used, and left where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of a file; and bytes that its artifact takes in memory, with the tables that are made of it.
    pub bytes_max: usize,
    /// Bytes of bytecode.
    pub code_bytes_max: usize,
    /// Bytes of a program's text.
    pub text_bytes_max: usize,
    /// Optimised regions.
    pub regions_max: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self {
            bytes_max: 256 << 20,
            code_bytes_max: 1 << 20,
            text_bytes_max: 64 << 20,
            regions_max: 4096,
        }
    }
}

const _: () = assert!(FORMAT == 1, "what reads older formats?");
