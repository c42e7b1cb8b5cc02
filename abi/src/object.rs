//! What every compiler of kiln returns.

use crate::{Context, EntryTable, Word};

/// Position-independent machine code with everything needed to run it. There is nothing to link:
/// helpers are called through the [`crate::HelperTable`] of the context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeObject {
    /// Machine code, then its read-only data: constants, and the records of its exits
    /// ([`crate::Records`]). To be placed at an address divisible by 32.
    pub text: Vec<u8>,
    /// Bytes of `text` that are code; the rest is data.
    pub code_len: usize,
    /// Where blocks are entered.
    pub entries: EntryTable,
    /// Where in `text` the records begin.
    pub records: usize,
    /// Number of blocks compiled.
    pub blocks: usize,
}

/// How compiled code came back.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Leave {
    /// The [`crate::Record`] of the exit it left through. Means nothing but where
    /// [`crate::Outcome::Bail`] says why.
    pub record: *const u32,
    /// Its stack pointer: [`crate::Exit::moved`] words above the one of the block's entry.
    pub sp: *mut Word,
}

/// The trampoline into compiled code: sets up the registers that compiled code expects, jumps to
/// `block`, and returns when compiled code leaves.
///
/// # Safety
/// `cx` is a complete context for the frame; `sp` is one past the top word of its stack; `block` is
/// an entry of the code object whose `code_base` and `entries` are in `cx`, mapped
/// executable and kept alive by the caller until the call returns.
pub type EnterFn = unsafe extern "C" fn(cx: *mut Context, sp: *mut Word, block: *const u8) -> Leave;
