//! A 256-bit EVM word in memory.

use core::fmt;

/// A 256-bit word: four 64-bit limbs, least significant first, aligned to 8 bytes.
///
/// The same layout as the words of revm's stack (`ruint::Uint<256, 4>`), which the runtime asserts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(C, align(8))]
pub struct Word(pub [u64; 4]);

impl Word {
    /// Zero.
    pub const ZERO: Self = Self([0; 4]);
    /// One.
    pub const ONE: Self = Self([1, 0, 0, 0]);
    /// All bits set.
    pub const MAX: Self = Self([u64::MAX; 4]);
    /// Bytes of a word.
    pub const BYTES: usize = 32;

    /// The word with the given low limb and zeros above.
    pub const fn from_u64(value: u64) -> Self {
        Self([value, 0, 0, 0])
    }

    /// The value, if it fits 64 bits.
    pub const fn as_u64(&self) -> Option<u64> {
        if self.0[1] | self.0[2] | self.0[3] == 0 { Some(self.0[0]) } else { None }
    }

    /// Whether all limbs are zero.
    pub const fn is_zero(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }
}

impl From<u64> for Word {
    fn from(value: u64) -> Self {
        Self::from_u64(value)
    }
}

/// Hexadecimal with `0x` and no leading zeros.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.0.iter().rposition(|&limb| limb != 0).unwrap_or(0);
        write!(f, "0x{:x}", self.0[top])?;
        self.0[..top].iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_without_leading_zeros() {
        assert_eq!(Word::ZERO.to_string(), "0x0");
        assert_eq!(Word::from_u64(0x2a).to_string(), "0x2a");
        assert_eq!(Word([1, 0, 3, 0]).to_string(), "0x300000000000000000000000000000001");
        assert_eq!(Word::MAX.to_string(), format!("0x{}", "f".repeat(64)));
    }
}
