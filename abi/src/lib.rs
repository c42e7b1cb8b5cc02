//! The contract between compiled code and the host that runs it.
//!
//! **Owns** the layout of the [`Context`] that compiled code works on, the [`HelperTable`] it calls
//! through, the [`Exit`]s and their [`Record`]s, which say how to make the frame state canonical again, and the
//! [`CodeObject`] that every tier returns. Offsets are derived with `offset_of!`, never written down.
//!
//! **Callers guarantee** that a [`Context`] is filled in by the runtime before compiled code is
//! entered, and that the records of a [`CodeObject`] belong to the code they are used with.
//!
//! **Never** knows revm, a compiler, or bytecode.

mod context;
mod entries;
pub mod envelope;
mod exit;
mod helpers;
mod object;
mod record;
mod word;

pub use context::{Context, Outcome, POLL_BACK_EDGES, STACK_LIMIT, SWAP_BYTES};
pub use entries::{EntryTable, RawEntries};
pub use exit::{Exit, ExitId, ExitKind, ExitTable, Fixup, Pc, Slot, Source};
pub use helpers::{
    CONTINUE, ContinueOrLeave, ExitRecord, ExpandFn, Guarded3Fn, Helper, HelperShape, HelperTable,
    InstructionFn, LEAVE, Pure1Fn, Pure2Fn, Pure3Fn,
};
pub use object::{CodeObject, EnterFn, Leave};
pub use record::{Fixups, Packed, Record, Records, Written};
pub use word::Word;

/// A digest of this crate's sources, 32 hexadecimal digits: two builds that do not share it do not share compiled code.
pub const SOURCE: &str = env!("SOURCE_DIGEST");
