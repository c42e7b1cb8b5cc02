//! A small cache of slots in front of the engine's map, owned by one [`crate::Tiered`].
//!
//! **Owns** what makes a hit cheap: the last verified code address (with the code kept alive, so
//! that the address can not come to mean another one) and an `Arc` of the program, which pins it
//! while a frame runs. **Never** answers for a code whose bytes it did not compare.

use crate::{
    engine::{BakedId, Engine, same_code},
    program::Program,
    slot::Slot,
};
use revm::{bytecode::Bytecode, primitives::B256};
use std::sync::Arc;

/// A power of two.
const ENTRIES: usize = 128;

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct Resident {
    /// Empty until first used.
    entries: Vec<Option<Entry>>,
}

/// A code that was looked up.
#[derive(Debug)]
pub(crate) struct Entry {
    hash: B256,
    baked: BakedId,
    generation: u64,
    /// The bytecode last compared with the slot's.
    verified: Bytecode,
    pub(crate) slot: Arc<Slot>,
    pub(crate) program: Option<Arc<Program>>,
}

impl Resident {
    /// The entry for a code, from the engine's map if it is not here. Answers its index.
    #[inline]
    pub(crate) fn find(
        &mut self,
        engine: &Engine,
        bytecode: &Bytecode,
        hash: B256,
        baked: BakedId,
    ) -> usize {
        let index = (u16::from_le_bytes([hash[8], hash[9]]) as usize ^ bytecode.len()) % ENTRIES;
        let generation = engine.generation();
        if let Some(Some(entry)) = self.entries.get_mut(index)
            && entry.hash == hash
            && entry.baked == baked
            && entry.generation == generation
            && entry.verify(bytecode)
        {
            return index;
        }
        self.fetch(engine, bytecode, hash, baked, index, generation);
        index
    }

    #[cold]
    fn fetch(
        &mut self,
        engine: &Engine,
        bytecode: &Bytecode,
        hash: B256,
        baked: BakedId,
        index: usize,
        generation: u64,
    ) {
        if self.entries.is_empty() {
            self.entries.resize_with(ENTRIES, || None);
        }
        let slot = engine.slot(bytecode, hash, baked);
        let program = slot.program.load_full();
        let verified = bytecode.clone();
        self.entries[index] = Some(Entry { hash, baked, generation, verified, slot, program });
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
    #[inline]
    fn verify(&mut self, bytecode: &Bytecode) -> bool {
        if self.verified.bytecode_ptr() == bytecode.bytecode_ptr()
            && self.verified.len() == bytecode.len()
        {
            return true;
        }
        let same = same_code(&self.verified, bytecode);
        if same {
            self.verified = bytecode.clone();
        }
        same
    }
}
