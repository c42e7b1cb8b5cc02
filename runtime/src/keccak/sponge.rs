//! Keccak-256: the sponge around the [permutation](super::permutation), as Ethereum pads it.

use super::permutation::{Permutation, State};
use revm::primitives::B256;

/// Bytes absorbed by one permutation.
const RATE: usize = 136;

/// Bytes of a lane.
const LANE: usize = size_of::<u64>();

/// Keccak-256, not SHA3-256: the padding is that of the original submission.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> B256 {
    hash_with(Permutation::fastest(), bytes)
}

#[inline]
pub(super) fn hash_with(permutation: Permutation, bytes: &[u8]) -> B256 {
    let mut state: State = [0; 25];
    let mut blocks = bytes.chunks_exact(RATE);
    for block in &mut blocks {
        absorb(&mut state, block);
        permutation.apply(&mut state);
    }
    let rest = blocks.remainder();
    absorb(&mut state, rest);
    // Whole lanes rather than bytes: a lane must not be loaded before all its bytes are stored.
    state[rest.len() / LANE] ^= 1 << (8 * (rest.len() % LANE));
    state[RATE / LANE - 1] ^= 1 << 63;
    permutation.apply(&mut state);
    let mut hash = [0; 32];
    for (bytes, lane) in hash.chunks_exact_mut(LANE).zip(state) {
        bytes.copy_from_slice(&lane.to_le_bytes());
    }
    B256::new(hash)
}

/// Adds at most [`RATE`] bytes to the state.
#[inline]
fn absorb(state: &mut State, bytes: &[u8]) {
    let (lanes, rest) = bytes.as_chunks::<LANE>();
    for (lane, bytes) in state.iter_mut().zip(lanes) {
        *lane ^= u64::from_le_bytes(*bytes);
    }
    for (at, byte) in rest.iter().enumerate() {
        state[lanes.len()] ^= (*byte as u64) << (8 * at);
    }
}
