//! A memo of short hashes: half of what a transaction hashes it has hashed before.
//!
//! **Owns** 256 inputs with their hashes, in 128 sets of two. Belongs to one EVM, moves with it, and
//! is nobody's global. **Callers guarantee** nothing: whole inputs are compared, so an answer is
//! exact and a bad distribution costs time only. **Never** grows.

use super::sponge::hash;
use revm::primitives::B256;
use std::fmt;

/// The longest input that is kept: a mapping's key and slot.
pub(crate) const INPUT_BYTES_MAX: usize = 64;

const SETS: usize = 128;
const WAYS: usize = 2;
/// Words of an input.
const WORDS: usize = INPUT_BYTES_MAX / size_of::<u64>();

/// Hashes of inputs of up to [`INPUT_BYTES_MAX`] bytes; 24.75 KiB once it holds one.
#[derive(Default)]
pub(crate) struct Memo {
    /// None before the first hash, so that an EVM that hashes nothing pays nothing.
    table: Option<Box<Table>>,
}

/// Valid when all bytes are zero: nothing is kept.
struct Table {
    entries: [[Entry; WAYS]; SETS],
    sets: [Set; SETS],
}

/// 96 bytes at multiples of 32 in an aligned table: two cache lines, always.
#[repr(C, align(32))]
struct Entry {
    /// Little-endian, zero behind the end of the input.
    input: [u64; WORDS],
    hash: [u8; 32],
}

struct Set {
    /// For each way: one more than the length of the input, and bits of its mix above; zero if there
    /// is none. Says in one load which of the ways to compare, if any.
    tags: [u16; WAYS],
    /// The way to replace: the one that was not used last.
    older: u16,
}

const _: () = {
    assert!(size_of::<Entry>() == 96);
    assert!(size_of::<Table>() <= 25 * 1024);
    const fn is_send<T: Send>() {}
    is_send::<Memo>();
};

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

impl Memo {
    /// Keccak-256 of `bytes`, from memory if it was asked for lately.
    #[inline]
    pub(crate) fn hash(&mut self, bytes: &[u8]) -> B256 {
        match words(bytes) {
            Some(input) => self.hash_words(&input, bytes),
            None => hash(bytes),
        }
    }

    /// Whether the hash of `bytes` is kept.
    #[cfg(test)]
    pub(super) fn holds(&self, bytes: &[u8]) -> bool {
        let (Some(table), Some(input)) = (&self.table, words(bytes)) else { return false };
        let (index, tag) = place(&input, bytes.len());
        let ways = table.sets[index].tags.iter().zip(&table.entries[index]);
        ways.into_iter().any(|(kept, entry)| *kept == tag && same(&entry.input, &input))
    }

    #[inline]
    fn hash_words(&mut self, input: &[u64; WORDS], bytes: &[u8]) -> B256 {
        let table = self.table.get_or_insert_with(Table::new);
        let (index, tag) = place(input, bytes.len());
        let (set, entries) = (&mut table.sets[index], &mut table.entries[index]);
        for (way, (kept, entry)) in set.tags.iter().zip(&*entries).enumerate() {
            if *kept == tag && same(&entry.input, input) {
                set.older = 1 - way as u16;
                return B256::new(entry.hash);
            }
        }
        let hash = hash(bytes);
        let way = set.older as usize % WAYS;
        set.tags[way] = tag;
        set.older = 1 - way as u16;
        entries[way] = Entry { input: *input, hash: hash.0 };
        hash
    }
}

impl Table {
    #[cold]
    fn new() -> Box<Self> {
        // SAFETY: integers, for which zero is a value.
        unsafe { Box::new_zeroed().assume_init() }
    }
}

/// The input as words, zero behind its end, if it is short enough.
#[inline]
fn words(bytes: &[u8]) -> Option<[u64; WORDS]> {
    let mut padded = [0; INPUT_BYTES_MAX];
    let bytes: &[u8; INPUT_BYTES_MAX] = match bytes.len() {
        INPUT_BYTES_MAX => bytes.try_into().ok()?,
        len @ ..INPUT_BYTES_MAX => {
            padded[..len].copy_from_slice(bytes);
            &padded
        }
        _ => return None,
    };
    let (words, _) = bytes.as_chunks::<8>();
    let mut input = [0; WORDS];
    for (word, bytes) in input.iter_mut().zip(words) {
        *word = u64::from_le_bytes(*bytes);
    }
    Some(input)
}

/// The set of an input, and its tag.
#[inline]
fn place(input: &[u64; WORDS], len: usize) -> (usize, u16) {
    let mix = mix(input);
    (mix as usize % SETS, (mix >> 48) as u16 & !0x7f | (len as u16 + 1))
}

/// Spreads inputs. The keys of a mapping differ in few bytes, at either end of a word.
#[inline]
fn mix(input: &[u64; WORDS]) -> u64 {
    let [a, b, c, d, e, f, g, h] = *input;
    let fold = |x: u64, y: u64| {
        let product = x as u128 * y as u128;
        product as u64 ^ (product >> 64) as u64
    };
    // Digits of pi, made odd: no likely input makes a factor zero.
    let left = fold(
        a ^ c.rotate_left(23) ^ 0x243f_6a88_85a3_08d3,
        b ^ d.rotate_left(29) ^ 0x1319_8a2e_0370_7345,
    );
    let right = fold(
        e ^ g.rotate_left(23) ^ 0xa409_3822_299f_31d1,
        f ^ h.rotate_left(29) ^ 0x082e_fa98_ec4e_6c89,
    );
    let mixed = left.rotate_left(32) ^ right;
    mixed ^ mixed >> 32
}

/// Where an input goes: its set and its tag.
#[cfg(test)]
pub(super) fn place_of(bytes: &[u8]) -> Option<(usize, u16)> {
    words(bytes).map(|input| place(&input, bytes.len()))
}

/// Without a branch per word.
#[inline]
fn same(a: &[u64; WORDS], b: &[u64; WORDS]) -> bool {
    a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
