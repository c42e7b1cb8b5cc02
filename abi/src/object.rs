//! What every compiler of kiln returns.

use crate::{Context, ExitTable, Pc, Word};

/// By pc, where compiled code can be entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryTable {
    /// One more than the bytes of bytecode; `offset << 1 | is_jumpdest`, 0 for none. A code
    /// object's first block never lies at offset 0, so that 0 is free.
    table: Box<[u32]>,
}

impl EntryTable {
    /// A table without entries for `code_len` bytes of bytecode.
    pub fn new(code_len: usize) -> Self {
        Self { table: vec![0; code_len + 1].into_boxed_slice() }
    }

    /// Adds an entry at native offset `offset`.
    ///
    /// # Panics
    /// If `offset` is 0 or at least 2^31, or `pc` lies behind the code.
    pub fn insert(&mut self, pc: Pc, offset: u32, is_jumpdest: bool) {
        assert!(offset != 0 && offset < 1 << 31, "entry {pc} at offset {offset}");
        self.table[pc.0 as usize] = offset << 1 | is_jumpdest as u32;
    }

    /// The native offset at which `pc` is entered.
    #[inline]
    pub fn get(&self, pc: usize) -> Option<u32> {
        match self.table.get(pc) {
            None | Some(0) => None,
            Some(entry) => Some(entry >> 1),
        }
    }

    /// The raw table, as [`crate::Context::entries`] points to it.
    pub fn raw(&self) -> &[u32] {
        &self.table
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.table.iter().filter(|&&entry| entry != 0).count()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.table.iter().all(|&entry| entry == 0)
    }
}

/// Position-independent machine code with everything needed to run it. There is nothing to link:
/// helpers are called through the [`crate::HelperTable`] of the context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeObject {
    /// Machine code, then its read-only data. To be placed at an address divisible by 32.
    pub text: Vec<u8>,
    /// Bytes of `text` that are code; the rest is data.
    pub code_len: usize,
    /// Where blocks are entered.
    pub entries: EntryTable,
    /// How each way out is made canonical.
    pub exits: ExitTable,
    /// Number of blocks compiled.
    pub blocks: usize,
}

/// How compiled code came back.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Leave {
    /// The [`crate::ExitId`] it left through.
    pub exit: u64,
    /// Its stack pointer: [`crate::Exit::moved`] words above the one of the block's entry.
    pub sp: *mut Word,
}

/// The trampoline into compiled code: sets up the registers that compiled code expects, jumps to
/// `block`, and returns when compiled code leaves.
///
/// # Safety
/// `cx` is a complete context for the frame; `sp` is one past the top word of its stack; `block` is
/// an entry of the code object whose `code_base`, `entries` and `exits` are in `cx`, mapped
/// executable and kept alive by the caller until the call returns.
pub type EnterFn = unsafe extern "C" fn(cx: *mut Context, sp: *mut Word, block: *const u8) -> Leave;
