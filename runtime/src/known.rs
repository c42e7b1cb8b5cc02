//! Which codes an engine may know something about: a small filter in front of everything else that is
//! looked up for a frame.
//!
//! Most codes run a few times and never become warm; for them one bit, in a table that stays in the
//! nearest cache, is all that a frame costs. **Owns** the bits. **Never** forgets a code that was added
//! since the last clear; may claim to know one that was not.

use revm::primitives::B256;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of bits at least; a power of two. 4 KiB: with 1,000 codes three others in a hundred seem known.
const WORDS: usize = 512;
/// And at most: half a MiB.
const WORDS_MAX: usize = 1 << 16;
/// Words for so many codes that are known from the start.
const CODES_OF_WORD: usize = 2;

/// The filter.
#[derive(Debug)]
pub(crate) struct Known {
    /// Relaxed throughout: who misses a code interprets a frame more.
    bits: Box<[AtomicU64]>,
}

impl Default for Known {
    fn default() -> Self {
        Self::with_room(0)
    }
}

impl Known {
    /// With so many bits that it is good for so many codes, and some more.
    pub(crate) fn with_room(codes: usize) -> Self {
        let words = (codes / CODES_OF_WORD).clamp(WORDS, WORDS_MAX).next_power_of_two();
        Self { bits: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Word and bit of a code, by what the database says its hash is.
    #[inline]
    fn place(&self, hash: &B256) -> (usize, u64) {
        let place = u32::from_le_bytes([hash[2], hash[3], hash[4], hash[5]]) as usize;
        ((place / 64) & (self.bits.len() - 1), 1 << (place % 64))
    }

    pub(crate) fn add(&self, hash: &B256) {
        let (word, bit) = self.place(hash);
        if self.bits[word].load(Ordering::Relaxed) & bit == 0 {
            self.bits[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether it was added, or looks like one that was.
    #[inline]
    pub(crate) fn has(&self, hash: &B256) -> bool {
        let (word, bit) = self.place(hash);
        self.bits[word].load(Ordering::Relaxed) & bit != 0
    }

    pub(crate) fn clear(&self) {
        self.bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_a_store() {
        let known = Known::with_room(20_000);
        let hash = |n: u64| revm::primitives::keccak256(n.to_le_bytes());
        (0..20_000).for_each(|n| known.add(&hash(n)));
        assert!((0..20_000).all(|n| known.has(&hash(n))));
        let false_ones = (20_000..30_000).filter(|&n| known.has(&hash(n))).count();
        assert!(false_ones < 500, "{false_ones} of 10000");
        assert_eq!(Known::with_room(usize::MAX).bits.len(), WORDS_MAX);
    }

    #[test]
    fn what_was_added_is_known() {
        let known = Known::default();
        let hashes: Vec<B256> =
            (0..1000u64).map(|n| revm::primitives::keccak256(n.to_le_bytes())).collect();
        let (added, others) = hashes.split_at(500);
        added.iter().for_each(|hash| known.add(hash));
        assert!(added.iter().all(|hash| known.has(hash)));
        let false_ones = others.iter().filter(|hash| known.has(hash)).count();
        assert!(false_ones < 25, "{false_ones} of 500");
        known.clear();
        assert!(!hashes.iter().any(|hash| known.has(hash)));
    }
}
