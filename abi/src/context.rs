//! The context: the one structure compiled code and helpers share.

use crate::{HelperTable, Word};
use core::ffi::c_void;

/// Words an EVM stack holds.
pub const STACK_LIMIT: usize = 1024;

/// The operand of `vpshufb` that reverses the bytes of each 64-bit limb.
pub const SWAP_BYTES: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        // Within a half of 16 bytes, by number.
        bytes[at] = (at % 16 / 8 * 8 + 7 - at % 8) as u8;
        at += 1;
    }
    bytes
};

/// Back-edges that compiled code takes between two safepoints, less one.
pub const POLL_BACK_EDGES: u32 = 1024;

/// What a helper left behind when it made compiled code leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Nothing was done: the exit record says how to make the state canonical.
    Bail = 0,
    /// The interpreter already holds the canonical state, gas included; it goes on from its pc.
    Canonical = 1,
    /// An instruction ended the frame: [`Context::halt`] holds revm's `InstructionResult`; the
    /// interpreter holds everything else.
    Ended = 2,
    /// A helper panicked; the payload waits in the runtime.
    Panicked = 3,
}

/// The state compiled code works on. Built by the runtime on the native stack for each entry, so it
/// never outlives the frame run it belongs to.
///
/// The first fields are the hot ones: they are reached with a one-byte displacement.
#[derive(Debug)]
#[repr(C)]
pub struct Context {
    /// Gas left, after the static gas of the running block was charged.
    pub gas: u64,
    /// The lowest word of the EVM stack.
    pub stack_base: *mut Word,
    /// One past the last word the EVM stack may hold: `stack_base + STACK_LIMIT`.
    pub stack_end: *mut Word,
    /// The first byte of this frame's EVM memory.
    pub mem_base: *mut u8,
    /// A word may be read or written at byte offset `o` without asking iff `o < mem_word_limit`.
    pub mem_word_limit: u64,
    /// A byte may be written at offset `o` without asking iff `o < mem_byte_limit`.
    pub mem_byte_limit: u64,
    /// What compiled code calls.
    pub helpers: *const HelperTable,
    /// The [`crate::EntryTable`]: by pc, `entry << 1 | is_jumpdest`, where `entry` is the offset from
    /// `code_base`; 0: none.
    pub entries: *const u32,
    /// The pcs it has: one more than the bytes of bytecode.
    pub entries_len: u64,
    /// What entries are offsets from.
    pub code_base: *const u8,
    /// Back-edges that compiled code may still take: each takes one off, and the one that finds 0
    /// leaves at its target. Set by the host whenever it enters; wraps.
    pub poll: u32,
    /// Why a helper made compiled code leave.
    pub outcome: Outcome,
    /// Calldata. May lie in EVM memory, so it goes stale exactly when `mem_base` does.
    pub calldata: *const u8,
    /// Bytes of calldata.
    pub calldata_len: u64,
    /// [`SWAP_BYTES`].
    pub swap_bytes: [u8; 32],
    /// Bytes of return data.
    pub returndata_len: u64,
    /// The 20 bytes of the caller's address, big-endian.
    pub caller: *const u8,
    /// The 20 bytes of the frame's address, big-endian.
    pub address: *const u8,
    /// What MSIZE pushes.
    pub msize: u64,
    /// The value of the call.
    pub call_value: *const Word,
    /// revm's `InstructionResult`, with [`Outcome::Ended`].
    pub halt: u32,
    /// The runtime's own state for this frame run; opaque to compiled code.
    pub runtime: *mut c_void,
}

/// The byte offset of a field of [`Context`], as compiled code addresses it.
#[macro_export]
macro_rules! context_offset {
    ($field:ident) => {
        ::core::mem::offset_of!($crate::Context, $field) as i32
    };
}

const _: () = {
    // Reached with an 8-bit displacement from the register that holds the context.
    assert!(context_offset!(code_base) < 128);
    assert!(context_offset!(poll) < 128);
    assert!(context_offset!(swap_bytes) < 128);
    assert!(context_offset!(gas) == 0);
    assert!(size_of::<Word>() == 32 && align_of::<Word>() == 8);
    assert!(size_of::<Outcome>() == 4);
};
