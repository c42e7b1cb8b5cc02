//! Keccak-256, a seventh of the time of mainnet blocks.
//!
//! **Owns** the hash, the [`Memo`] of what an EVM hashed lately, which is the way to it, and
//! [`instruction`], KECCAK256 for interpreted frames; compiled code comes through its helper.
//!
//! **Callers guarantee** that KECCAK256 is not replaced where they take these ways.
//!
//! **Never** gives another hash than `revm::primitives::keccak256`, keeps anything outside of a
//! [`Memo`], or calls what could suspend.

mod instruction;
mod memo;
mod permutation;
mod sponge;
#[cfg(test)]
mod tests;

pub(crate) use instruction::instruction;
pub(crate) use memo::Memo;
