//! What there is, and what goes when it is too much.
//!
//! **Owns** the order in which artifacts go ([`CollectPlan::victims`], a pure function), and the bounded passes that
//! remove them, damage, and what killed writers left. **Callers guarantee** nothing. **Never** removes what another
//! process is writing, and never what it does not know.

use crate::{
    Bad, DecodeLimits, Digest, Key, Loaded, Rank, Store, StoreError,
    folder::remove_unheld,
    store::{PROFILE, used},
};
use rustix::fs::FileType;
use std::{cmp::Reverse, collections::HashMap, time::SystemTime};

/// Artifacts that one pass removes.
const REMOVED_MAX: usize = 256;
/// What is freed beyond what must be, so that not every artifact that is saved has another one removed: one of so
/// many parts of the budget.
const FREE: u64 = 8;

/// An artifact, as the folder lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its key.
    pub key: Key,
    /// Bytes of its file.
    pub bytes: u64,
    /// When it was saved, or touched since.
    pub used: SystemTime,
}

/// How much there may be, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectPlan {
    /// Bytes of all artifacts. What was set aside and the profile have bounds of their own.
    pub bytes_max: u64,
    /// [`Key::build`] of this build. What other builds made goes first.
    pub build: Digest,
    /// Artifacts that are removed in one pass.
    pub removed_max: usize,
}

impl CollectPlan {
    /// For this build, with passes of a usual length.
    pub const fn new(bytes_max: u64, build: Digest) -> Self {
        Self { bytes_max, build, removed_max: REMOVED_MAX }
    }

    /// Which artifacts go, in this order, as places in the list: none within the budget; else those of other builds,
    /// those that there is a better rank of, and the rest, of each the ones first that were not used for longest, down
    /// to seven eighths of the budget.
    pub fn victims(&self, listed: &[Stored]) -> Vec<usize> {
        let mut bytes: u64 = listed.iter().map(|stored| stored.bytes).sum();
        if bytes <= self.bytes_max {
            return Vec::new();
        }
        let target = self.bytes_max - self.bytes_max / FREE;
        let mut best: HashMap<Key, Rank> = HashMap::new();
        for Stored { key, .. } in listed {
            let best = best.entry(any_rank(key)).or_insert(key.rank);
            *best = key.rank.max(*best);
        }
        let class = |key: &Key| match key {
            key if key.build != self.build => 0,
            key if best.get(&any_rank(key)).is_some_and(|&best| best > key.rank) => 1,
            _ => 2,
        };
        let mut order: Vec<_> = (0..listed.len()).collect();
        order.sort_by_key(|&at| {
            let Stored { key, bytes, used } = listed[at];
            (class(&key), used, Reverse(bytes), key)
        });
        let is_over = |at: &usize| {
            let over = bytes > target;
            bytes -= listed[*at].bytes;
            over
        };
        order.into_iter().take_while(is_over).collect()
    }
}

/// The same for every rank of a program.
fn any_rank(key: &Key) -> Key {
    Key { rank: Rank::BASELINE, ..*key }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Artifacts that were removed.
    pub removed: usize,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Files of writers that are gone.
    pub temporary: usize,
    /// Bytes of all artifacts that are left.
    pub left_bytes: u64,
    /// Whether there is nothing more to remove: it was neither stopped nor too much for one pass.
    pub is_done: bool,
}

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Artifacts that are as they should be.
    pub good: usize,
    /// Their bytes.
    pub good_bytes: u64,
    /// The others.
    pub bad: Vec<Bad>,
    /// Whether all were looked at.
    pub is_done: bool,
}

impl Store {
    /// All artifacts, of every build, in no order.
    ///
    /// # Errors
    /// If the folder can not be listed.
    pub fn list(&self) -> Result<Vec<Stored>, StoreError> {
        let mut listed = Vec::new();
        for key in self.keys()? {
            // One that another process removed since then is not there.
            let Some(stat) = self.artifacts.stat(&key.to_string())? else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                listed.push(Stored { key, bytes: stat.st_size as u64, used: used(&stat) });
            }
        }
        Ok(listed)
    }

    /// One pass: removes what writers that are gone have left, and artifacts by the plan. Between any two files
    /// `stop` is asked.
    ///
    /// # Errors
    /// If the store is read-only, another process holds the lock, or something can not be removed.
    pub fn collect(
        &self,
        plan: &CollectPlan,
        stop: &dyn Fn() -> bool,
    ) -> Result<Collected, StoreError> {
        let writable = self.writable("to collect")?;
        let _lock = self.lock()?;
        let mut done = Collected::default();
        for name in writable.temporary.names()? {
            if stop() {
                return Ok(done);
            }
            // What is no file there is not this store's.
            done.temporary +=
                usize::from(remove_unheld(&writable.temporary, &name).unwrap_or(false));
        }
        self.bound_aside()?;
        let listed = self.list()?;
        done.left_bytes = listed.iter().map(|stored| stored.bytes).sum();
        let victims = plan.victims(&listed);
        for &at in &victims {
            if stop() || done.removed == plan.removed_max {
                return Ok(done);
            }
            self.artifacts.remove(&listed[at].key.to_string())?;
            done.removed += 1;
            done.removed_bytes += listed[at].bytes;
            done.left_bytes -= listed[at].bytes;
        }
        done.is_done = true;
        Ok(done)
    }

    /// Reads every artifact of every build as if it were to be used. What can not be is set aside.
    ///
    /// # Errors
    /// If the folder or a file can not be read.
    pub fn verify(
        &self,
        limits: &DecodeLimits,
        stop: &dyn Fn() -> bool,
    ) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        let mut listed = self.keys()?;
        listed.sort_unstable();
        for key in listed {
            if stop() {
                return Ok(verified);
            }
            let bytes = self.artifacts.stat(&key.to_string())?.map_or(0, |stat| stat.st_size);
            match self.load(&key, limits)? {
                Loaded::Found(_) => {
                    verified.good += 1;
                    verified.good_bytes += bytes as u64;
                }
                Loaded::Missing => {}
                Loaded::Bad(bad) => verified.bad.push(bad),
            }
        }
        verified.is_done = true;
        Ok(verified)
    }

    /// Removes everything: artifacts of every build, the profile, what was set aside, and what writers that are gone
    /// have left. Answers how many artifacts and bytes of them there were.
    ///
    /// # Errors
    /// If the store is read-only, another process holds the lock, or something can not be removed.
    pub fn clear(&self) -> Result<(usize, u64), StoreError> {
        let writable = self.writable("to clear it")?;
        let _lock = self.lock()?;
        let (mut removed, mut bytes) = (0, 0);
        for stored in self.list()? {
            if self.artifacts.remove(&stored.key.to_string())? {
                (removed, bytes) = (removed + 1, bytes + stored.bytes);
            }
        }
        for name in writable.aside.names()? {
            writable.aside.remove(&name)?;
        }
        for name in writable.temporary.names()? {
            // What is no file there is not this store's.
            let _ = remove_unheld(&writable.temporary, &name);
        }
        self.folder.remove(PROFILE)?;
        Ok((removed, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;
    use std::time::Duration;

    const OURS: Digest = Digest([1; 16]);

    fn stored(rng: &mut Rng) -> Stored {
        let build = if rng.u8(..4) == 0 { Digest([2; 16]) } else { OURS };
        let key = Key {
            code_hash: [rng.u8(..20); 32],
            baked: Digest([rng.u8(..2); 16]),
            build,
            rank: Rank::ALL[rng.usize(..3)],
        };
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(rng.u64(..100));
        Stored { key, bytes: rng.u64(1..50), used }
    }

    #[test]
    fn within_the_budget_nothing_goes() {
        let mut rng = Rng::with_seed(1);
        let listed: Vec<_> = (0..50).map(|_| stored(&mut rng)).collect();
        let bytes = listed.iter().map(|stored| stored.bytes).sum();
        assert!(CollectPlan::new(bytes, OURS).victims(&listed).is_empty());
        assert!(!CollectPlan::new(bytes - 1, OURS).victims(&listed).is_empty());
        assert_eq!(CollectPlan::new(0, OURS).victims(&listed).len(), 50);
        assert!(CollectPlan::new(0, OURS).victims(&[]).is_empty());
    }

    #[test]
    fn as_few_as_must_go_and_the_least_useful_first() {
        let mut rng = Rng::with_seed(2);
        for _ in 0..500 {
            let mut listed: Vec<_> = (0..rng.usize(1..60)).map(|_| stored(&mut rng)).collect();
            listed.sort_by_key(|stored| stored.key);
            listed.dedup_by_key(|stored| stored.key);
            let all: u64 = listed.iter().map(|stored| stored.bytes).sum();
            let plan = CollectPlan::new(rng.u64(..=all), OURS);
            let victims = plan.victims(&listed);
            let gone: u64 = victims.iter().map(|&at| listed[at].bytes).sum();
            let target = plan.bytes_max - plan.bytes_max / FREE;
            assert!(all - gone <= plan.bytes_max);
            if let Some(&last) = victims.last() {
                assert!(all - gone <= target && all - gone + listed[last].bytes > target);
            }
            // What stays is worth more than what goes.
            let is_superseded = |one: &Stored| {
                let better = |other: &Stored| {
                    any_rank(&other.key) == any_rank(&one.key) && other.key.rank > one.key.rank
                };
                listed.iter().any(better)
            };
            let worth = |one: &Stored| (one.key.build == OURS, !is_superseded(one), one.used);
            let worth = |one: &Stored| match worth(one) {
                (false, _, used) => (0, used),
                (true, kept, used) => (1 + i32::from(kept), used),
            };
            for stays in (0..listed.len()).filter(|at| !victims.contains(at)) {
                assert!(victims.iter().all(|&at| worth(&listed[at]) <= worth(&listed[stays])));
            }
        }
    }
}
