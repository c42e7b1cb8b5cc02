//! What the store has, by code and configuration.
//!
//! **Owns** the index of an engine: the folder's listing when the engine was made, and what became of it since, as far
//! as this engine had a part in it. **Callers guarantee** that keys are of this build. **Never** looks at files: what it
//! says is there may be gone, and loading it says so.

use kiln_store::{Digest, Key, Rank};
use revm::primitives::B256;
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// A code under a configuration.
pub(crate) type CodeKey = (B256, Digest);

/// The ranks there are of a code, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ranks(u8);

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index(RwLock<HashMap<CodeKey, Ranks>>);

fn bit(rank: Rank) -> u8 {
    1 << rank.as_u8()
}

fn code_key(key: &Key) -> CodeKey {
    (B256::new(key.code_hash), key.baked)
}

impl Index {
    pub(crate) fn new(keys: impl Iterator<Item = Key>) -> Self {
        let mut all = HashMap::<CodeKey, Ranks>::new();
        keys.for_each(|key| all.entry(code_key(&key)).or_default().0 |= bit(key.rank));
        Self(RwLock::new(all))
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<CodeKey, Ranks>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<CodeKey, Ranks>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is an artifact of a code of this rank at most.
    pub(crate) fn has(&self, code: &CodeKey, to: Rank) -> bool {
        self.best(code, Rank::BASELINE, to).is_some()
    }

    /// The best rank within bounds that there is of a code.
    pub(crate) fn best(&self, code: &CodeKey, from: Rank, to: Rank) -> Option<Rank> {
        let Ranks(ranks) = *self.read().get(code)?;
        let mut found = Rank::ALL.into_iter().rev().filter(|&rank| ranks & bit(rank) != 0);
        found.find(|rank| (from..=to).contains(rank))
    }

    pub(crate) fn add(&self, key: &Key) {
        self.write().entry(code_key(key)).or_default().0 |= bit(key.rank);
    }

    /// It is not there, or of no use.
    pub(crate) fn remove(&self, key: &Key) {
        let mut all = self.write();
        if let Some(ranks) = all.get_mut(&code_key(key)) {
            ranks.0 &= !bit(key.rank);
            if ranks.0 == 0 {
                all.remove(&code_key(key));
            }
        }
    }

    /// What there is instead of what was thought.
    pub(crate) fn replace(&self, keys: impl Iterator<Item = Key>) {
        let Self(new) = Self::new(keys);
        *self.write() = new.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// Every code.
    pub(crate) fn codes(&self) -> Vec<CodeKey> {
        self.read().keys().copied().collect()
    }

    /// How many codes there are.
    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(code: u8, rank: Rank) -> Key {
        let none = Digest::default();
        Key { code_hash: [code; 32], baked: none, build: none, rank }
    }

    #[test]
    fn the_best_rank_within_bounds_is_found() {
        let index = Index::new([key(1, Rank::BASELINE), key(1, Rank::TIER1)].into_iter());
        let best = |from, to| index.best(&code_key(&key(1, from)), from, to);
        assert_eq!(best(Rank::BASELINE, Rank::TIER1), Some(Rank::TIER1));
        assert_eq!(best(Rank::BASELINE, Rank::OPTIMISED), Some(Rank::BASELINE));
        assert_eq!(best(Rank::OPTIMISED, Rank::OPTIMISED), None);
        assert_eq!(
            index.best(&code_key(&key(2, Rank::BASELINE)), Rank::BASELINE, Rank::TIER1),
            None
        );
        let other = (B256::repeat_byte(1), Digest::of(b"other"));
        assert!(!index.has(&other, Rank::TIER1));
    }

    #[test]
    fn it_follows_what_is_saved_and_lost() {
        let index = Index::default();
        let (low, high) = (key(1, Rank::BASELINE), key(1, Rank::OPTIMISED));
        index.add(&low);
        index.add(&high);
        index.add(&key(2, Rank::BASELINE));
        assert_eq!((index.len(), index.codes().len()), (2, 2));
        index.remove(&high);
        index.remove(&high);
        assert_eq!(index.best(&code_key(&low), Rank::BASELINE, Rank::TIER1), Some(Rank::BASELINE));
        index.remove(&low);
        assert!(!index.has(&code_key(&low), Rank::TIER1));
        assert_eq!(index.len(), 1);
        index.replace([low].into_iter());
        assert_eq!(index.codes(), [code_key(&low)]);
    }
}
