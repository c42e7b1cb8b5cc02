//! Exit records: how the frame state becomes canonical where compiled code leaves.
//!
//! Compiled code keeps part of a block's stack in its head: constants that were not stored, words
//! that lie in another slot than their own. An [`Exit`] lists what must be written where, so that
//! leaving costs compiled code one jump and no bytes for stores that almost never run.

use crate::Word;
use core::fmt;

/// A program counter: a byte offset into the bytecode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pc(pub u32);

/// A stack slot relative to the top of the stack at block entry: -1 is the top word at entry, 0 the
/// first word above it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub i16);

/// An index into [`ExitTable::exits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitId(pub u32);

/// What the host does after an exit's state was made canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitKind {
    /// The interpreter runs at least the instruction at the exit's pc, then compiled code may be
    /// entered again.
    Interpret,
    /// Compiled code may be entered again at the exit's pc at once (it was not compiled in this
    /// object, but may be in another).
    Resume,
    /// STOP: the frame ends with nothing to return.
    Stop,
    /// RETURN: offset and length are the top two words.
    Return,
    /// REVERT: offset and length are the top two words.
    Revert,
}

/// Where a word that is to be written comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The content of another slot.
    Slot(Slot),
    /// A constant: an index into [`ExitTable::pool`].
    Const(u32),
}

/// One write that makes the stack canonical. All sources of an exit are read before any target is
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fixup {
    /// The slot to write.
    pub slot: Slot,
    /// What to write there.
    pub source: Source,
}

/// One way out of compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The instruction the canonical state stands in front of.
    pub pc: Pc,
    /// What the host does next.
    pub kind: ExitKind,
    /// Slots by which compiled code has already moved its stack pointer when it leaves here: the
    /// entry pointer of the block is the pointer at the exit less `moved` words.
    pub moved: i16,
    /// Stack height at the exit, relative to the height at block entry.
    pub height: i16,
    /// Static gas that was charged with the block and belongs to `pc` or later: given back.
    pub gas_back: u32,
    /// Of `gas_back`, what belongs to instructions *after* the one at `pc`: what is charged but not
    /// yet due while a helper acts for the instruction at `pc`.
    pub rest: u32,
    /// First of this exit's fixups in [`ExitTable::fixups`].
    pub fixups_start: u32,
    /// Number of fixups.
    pub fixups_len: u16,
}

impl Exit {
    /// An exit at `pc` that changes nothing: nothing to write, no gas to give back. Its fixups, if it gets
    /// any, begin at `fixups_start`.
    pub const fn plain(pc: Pc, kind: ExitKind, fixups_start: u32) -> Self {
        let (moved, height, gas_back, rest) = (0, 0, 0, 0);
        Self { pc, kind, moved, height, gas_back, rest, fixups_start, fixups_len: 0 }
    }
}

/// The exits of a code object, or of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitTable {
    /// The exits, by [`ExitId`].
    pub exits: Vec<Exit>,
    /// The writes of all exits.
    pub fixups: Vec<Fixup>,
    /// Constants that fixups (and code) refer to.
    pub pool: Vec<Word>,
}

impl ExitTable {
    /// The exit with this id.
    ///
    /// # Panics
    /// If the id is not of this table.
    pub fn exit(&self, id: ExitId) -> &Exit {
        &self.exits[id.0 as usize]
    }

    /// The writes of an exit of this table.
    ///
    /// # Panics
    /// If the exit is not of this table.
    pub fn fixups(&self, exit: &Exit) -> &[Fixup] {
        &self.fixups[exit.fixups_start as usize..][..exit.fixups_len as usize]
    }
}

impl fmt::Display for Pc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:x}", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for ExitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x{}", self.0)
    }
}
