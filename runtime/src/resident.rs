//! A small cache of slots in front of the engine's map, owned by one [`crate::Tiered`].
//!
//! **Owns** what makes a hit cheap: the last verified code address (with the code kept alive, so
//! that the address can not come to mean another one). **Never** answers for a code whose bytes it did
//! not compare, and never keeps a program from being freed.

use crate::{
    engine::{BakedId, Engine, same_code},
    heat::CodeTag,
    slot::Slot,
};
use revm::{bytecode::Bytecode, primitives::B256};
use std::sync::Arc;

/// Entries at first; a power of two. Few, for EVMs that are made for one transaction.
const ENTRIES_MIN: usize = 8;
/// Entries at most; a power of two.
const ENTRIES_MAX: usize = 4096;

/// The cache: direct-mapped, grows when two codes that are in use meet in one place.
#[derive(Debug, Default)]
pub(crate) struct Resident {
    /// Empty until first used, then a power of two.
    entries: Vec<Option<Entry>>,
}

/// A code that was looked up.
///
/// The address comes first: a frame of the code that was here the last time needs no more than one cache
/// line, nor to look at the code or its hash.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Entry {
    code: *const u8,
    code_len: usize,
    generation: u64,
    slot: Arc<Slot>,
    baked: BakedId,
    tag: CodeTag,
    /// The bytecode last compared with the slot's: what keeps its address from coming to mean another.
    verified: Bytecode,
    hash: B256,
}

// SAFETY: the address is only compared.
unsafe impl Send for Entry {}
// SAFETY: as above.
unsafe impl Sync for Entry {}

impl Resident {
    /// Takes the memory for the first entries.
    pub(crate) fn prepare(&mut self) {
        if self.entries.is_empty() {
            self.entries.resize_with(ENTRIES_MIN, || None);
        }
    }

    /// The entry for a code, from the engine's map if it is not here. Answers its index.
    #[inline]
    pub(crate) fn find(
        &mut self,
        engine: &Engine,
        bytecode: &Bytecode,
        hash: B256,
        baked: BakedId,
    ) -> usize {
        let generation = engine.generation();
        let index = self.place(hash);
        if let Some(Some(entry)) = self.entries.get_mut(index)
            && entry.generation == generation
            && entry.baked == baked
            && entry.verify(bytecode, hash)
        {
            return index;
        }
        self.fetch(engine, bytecode, hash, baked, generation)
    }

    #[inline]
    fn place(&self, hash: B256) -> usize {
        // Anything while there are no entries: then `get_mut` finds nothing there.
        u16::from_le_bytes([hash[8], hash[9]]) as usize & self.entries.len().wrapping_sub(1)
    }

    #[cold]
    #[inline(never)]
    fn fetch(
        &mut self,
        engine: &Engine,
        bytecode: &Bytecode,
        hash: B256,
        baked: BakedId,
        generation: u64,
    ) -> usize {
        self.make_room(hash, generation);
        let index = self.place(hash);
        let slot = engine.slot(bytecode, hash, baked);
        let (verified, tag) = (bytecode.clone(), CodeTag::new(hash));
        let (code, code_len) = (verified.bytecode_ptr(), verified.len());
        let entry = Entry { code, code_len, generation, slot, baked, tag, verified, hash };
        self.entries[index] = Some(entry);
        index
    }

    /// Grows until `hash` has a place that no other code uses, as far as that goes.
    fn make_room(&mut self, hash: B256, generation: u64) {
        self.prepare();
        let in_use = |entry: &Option<Entry>| {
            entry.as_ref().is_some_and(|entry| entry.hash != hash && entry.generation == generation)
        };
        while self.entries.len() < ENTRIES_MAX && in_use(&self.entries[self.place(hash)]) {
            let len = self.entries.len() * 4;
            let old = std::mem::take(&mut self.entries);
            self.entries.resize_with(len, || None);
            for entry in old.into_iter().flatten() {
                let index = self.place(entry.hash);
                self.entries[index] = Some(entry);
            }
        }
    }

    /// An entry that [`Resident::find`] named.
    #[inline]
    pub(crate) fn entry(&mut self, index: usize) -> &mut Entry {
        match &mut self.entries[index] {
            Some(entry) => entry,
            None => unreachable!("an entry that was found is there"),
        }
    }
}

impl Entry {
    /// The code's slot, and what it is counted under.
    #[inline]
    pub(crate) fn slot(&self) -> (&Arc<Slot>, CodeTag) {
        (&self.slot, self.tag)
    }

    #[inline]
    fn verify(&mut self, bytecode: &Bytecode, hash: B256) -> bool {
        // The same bytes: whatever hash they come with, the slot is theirs.
        let same = self.code == bytecode.bytecode_ptr() && self.code_len == bytecode.len();
        same || self.compare(bytecode, hash)
    }

    /// Compares the codes themselves.
    #[cold]
    #[inline(never)]
    fn compare(&mut self, bytecode: &Bytecode, hash: B256) -> bool {
        let same = self.hash == hash && same_code(&self.verified, bytecode);
        if same {
            self.verified = bytecode.clone();
            (self.code, self.code_len) = (self.verified.bytecode_ptr(), self.verified.len());
        }
        same
    }
}
