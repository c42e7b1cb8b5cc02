//! The artifact store and the engine: what was compiled once is kept, and found again after a restart.
//!
//! **Owns** an engine's store: what is in it, what waits for being written, what is remembered of codes. `keeper` in
//! [`crate::engine`] is its thread.
//!
//! **Callers guarantee** that code of an artifact is one for this build and CPU: its key says so, and it was checked.
//!
//! **Never** is on the path of a frame that finds its program, and never fails for who executes: what can not be read
//! is compiled, and what can not be written is not kept.

mod build;
mod desk;
mod index;
mod memory;
mod program;
mod schedule;

pub use build::build_digest;
pub(crate) use desk::{Desk, Dismissed, THREAD};
pub(crate) use index::CodeKey;
pub(crate) use kiln_store::Digest;
pub(crate) use memory::{Notes, Unfinished};
pub(crate) use program::{LoadError, check_limits, rank_of, tier_of};
pub(crate) use schedule::{Action, Schedule, State};

use crate::{
    config::{Backend, Config, StoreMode},
    hooks::Tier,
    observe::trace,
    program::Program,
    slot::Slot,
    stats::Stats,
};
use index::Index;
use kiln_store::{
    Access, Artifact, BadReason, CollectPlan, DecodeLimits, Key, Loaded, Profile, Rank, Store,
    StoreError,
};
use memory::{Grounds, Remembered};
use revm::primitives::B256;
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// An engine's store.
#[derive(Debug)]
pub(crate) struct Persist {
    store: Store,
    mode: StoreMode,
    build: Digest,
    /// The best tier that programs may be of.
    top_tier: Tier,
    limits: DecodeLimits,
    bytes_max: u64,
    index: Index,
    grounds: Grounds,
    remembered: RwLock<Remembered>,
    unfinished: Mutex<Vec<Unfinished>>,
    preload: Mutex<Preload>,
    pub(crate) desk: Desk,
    /// Writing failed for good. Relaxed: noticed at the next look.
    off: AtomicBool,
    /// What opening counted, until somebody takes it.
    opening: Mutex<Stats>,
}

/// Codes whose programs are to be loaded before they are asked for.
#[derive(Debug, Default)]
struct Preload {
    /// The hottest first.
    codes: VecDeque<CodeKey>,
    /// Taken out, and not there yet.
    under_way: usize,
}

/// A program is being loaded before it is asked for.
#[derive(Debug)]
pub(crate) struct UnderWay<'a>(&'a Persist);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.0.preload).under_way -= 1;
    }
}

impl Persist {
    /// Opens the store that the options name; none if they name none, or there is no machine code.
    ///
    /// # Errors
    /// If the store is refused.
    pub(crate) fn open(config: &Config, top_tier: Tier) -> Result<Option<Self>, StoreError> {
        let Some(path) = &config.store else { return Ok(None) };
        if !config.enabled || config.backend != Backend::Native {
            return Ok(None);
        }
        let mode = config.store_mode;
        let access = match mode {
            StoreMode::ReadOnly => Access::ReadOnly,
            StoreMode::ReadWrite | StoreMode::WriteOnShutdown => Access::ReadWrite,
        };
        let store = Store::open(path, access)?;
        let build = build_digest(&config.limits);
        let index = Index::new(store.keys()?.into_iter().filter(|key| key.build == build));
        trace::store_opened(path, index.len(), build);
        let limits = DecodeLimits {
            code_bytes_max: config.limits.code_bytes_max,
            text_bytes_max: config.code_bytes_max,
            regions_max: config.regions_max,
            ..DecodeLimits::default()
        };
        let persist = Self {
            store,
            mode,
            build,
            top_tier,
            limits,
            bytes_max: config.store_bytes_max as u64,
            index,
            grounds: Grounds::new(build, &config.limits),
            remembered: RwLock::default(),
            unfinished: Mutex::default(),
            preload: Mutex::default(),
            desk: Desk::new(config.event_queue_len),
            off: AtomicBool::new(false),
            opening: Mutex::default(),
        };
        persist.remember();
        if config.store_preload {
            persist.order_preload();
        }
        Ok(Some(persist))
    }

    /// Reads what is remembered from earlier sessions. Without it the engine finds out anew.
    fn remember(&self) {
        let mut stats = Stats::default();
        match self.store.load_profile() {
            Ok(Loaded::Found(profile)) => {
                let (remembered, unfinished) = Remembered::new(*profile, &self.grounds);
                *self.remembered.write().unwrap_or_else(PoisonError::into_inner) = remembered;
                *lock(&self.unfinished) = unfinished;
            }
            Ok(Loaded::Missing) => {}
            Ok(Loaded::Bad(bad)) => {
                stats.store_bad += 1;
                trace::store_bad(&bad);
            }
            Err(error) => {
                stats.store_errors += 1;
                trace::store_error(&error);
            }
        }
        *lock(&self.opening) = stats;
    }

    /// What opening counted, once.
    pub(crate) fn opened(&self) -> Stats {
        std::mem::take(&mut *lock(&self.opening))
    }

    /// Forgets what is remembered, and what was to be done. What the store has stays.
    pub(crate) fn forget(&self) {
        *self.remembered.write().unwrap_or_else(PoisonError::into_inner) = Remembered::default();
        lock(&self.unfinished).clear();
        lock(&self.preload).codes.clear();
    }

    /// How many codes there are to be known from the start.
    pub(crate) fn codes(&self) -> usize {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        self.index.len() + remembered.hashes().count()
    }

    /// Each of them, by its hash.
    pub(crate) fn each_code(&self, mut look: impl FnMut(&B256)) {
        self.index.codes().iter().for_each(|(hash, _)| look(hash));
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        remembered.hashes().for_each(look);
    }

    /// Gives a slot that nobody else sees yet what is known of its code. Whether something was remembered.
    pub(crate) fn adopt(&self, slot: &Slot) -> bool {
        slot.set_stored(self.index.has(&key_of(slot), rank_of(self.top_tier)));
        self.remembered.read().unwrap_or_else(PoisonError::into_inner).restore(slot)
    }

    /// The key of the best artifact of a code that an engine may run, at least of this tier.
    pub(crate) fn find(&self, code: &CodeKey, from: Tier) -> Option<Key> {
        let to = rank_of(self.top_tier.max(from));
        let rank = self.index.best(code, rank_of(from), to)?;
        let (hash, baked) = *code;
        Some(Key { code_hash: hash.0, baked, build: self.build, rank })
    }

    /// Reads an artifact. What can not be used is counted, and not found again.
    pub(crate) fn load(&self, key: &Key, stats: &mut Stats) -> Option<Box<Artifact>> {
        match self.store.load(key, &self.limits) {
            Ok(Loaded::Found(artifact)) => return Some(artifact),
            Ok(Loaded::Missing) => stats.store_misses += 1,
            Ok(Loaded::Bad(bad)) => {
                let is_damage =
                    !matches!(&bad.reason, BadReason::Decode(error) if !error.is_damage());
                *(if is_damage { &mut stats.store_bad } else { &mut stats.store_refused }) += 1;
                if is_damage {
                    trace::store_bad(&bad);
                }
            }
            Err(error) => {
                stats.store_errors += 1;
                trace::store_error(&error);
            }
        }
        self.index.remove(key);
        None
    }

    /// It is of no use to this engine.
    pub(crate) fn dismiss(&self, key: &Key) {
        self.index.remove(key);
    }

    /// Whether anything may be written at all.
    pub(crate) fn may_write(&self) -> bool {
        self.mode != StoreMode::ReadOnly && !self.is_off()
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// Whether it is written to as things come about.
    pub(crate) fn writes_soon(&self) -> bool {
        self.mode == StoreMode::ReadWrite && !self.is_off()
    }

    /// Takes a program that came about into the queue of what is to be saved. On any thread: neither waits nor
    /// allocates, except that the first one starts a thread. Answers whether there was room for it.
    pub(crate) fn offer(&self, slot: &std::sync::Arc<Slot>) -> bool {
        !self.writes_soon() || !slot.await_saving() || self.desk.push(slot)
    }

    /// Saves the program that a slot has, unless the store has it. For the store's thread, or in its place.
    pub(crate) fn save(&self, slot: &Slot, stats: &mut Stats) {
        slot.begin_saving();
        if !self.may_write() || slot.is_retired() || slot.ticket.quarantined().is_some() {
            return;
        }
        let Some(program) = slot.program().filter(|program| !program.is_saved()) else { return };
        let Some(artifact) = self.artifact(slot, &program) else { return };
        match self.store.save(&artifact) {
            Ok(bytes) => {
                program.set_saved();
                self.index.add(&artifact.key);
                slot.set_stored(true);
                stats.store_saved += 1;
                stats.store_saved_bytes += bytes;
                trace::saved(&slot.bytecode, program.tier(), bytes);
            }
            Err(error) => self.failed(&error, stats),
        }
    }

    /// A program of this code was wrong: nothing that was kept of it is to be run again, by anybody.
    pub(crate) fn discard(&self, slot: &Slot, stats: &mut Stats) {
        // The true hash, as in `save`.
        let code_hash = slot.bytecode.hash_slow().0;
        for rank in Rank::ALL {
            let key = Key { code_hash, baked: slot.baked.digest, build: self.build, rank };
            self.index.remove(&key);
            if !self.may_write() {
                continue;
            }
            match self.store.remove(&key) {
                Ok(removed) => stats.store_discarded += u64::from(removed),
                Err(error) => self.failed(&error, stats),
            }
        }
    }

    fn artifact(&self, slot: &Slot, program: &Program) -> Option<Artifact> {
        // The true hash, whatever the database says.
        let code_hash = slot.bytecode.hash_slow().0;
        let (baked, build) = (slot.baked.digest, self.build);
        let key = Key { code_hash, baked, build, rank: rank_of(program.tier()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let created_s = now.map_or(0, |now| now.as_secs());
        Some(Artifact { created_s, ..program.to_artifact(key, &slot.baked.config)? })
    }

    /// Writing failed.
    fn failed(&self, error: &StoreError, stats: &mut Stats) {
        stats.store_errors += 1;
        if !error.is_lasting() {
            trace::store_error(error);
        } else if !self.off.swap(true, Ordering::Relaxed) {
            trace::store_off(error);
        }
    }

    /// Its thread panicked: a defect. Nothing is written any more.
    pub(crate) fn give_up(&self) {
        if !self.off.swap(true, Ordering::Relaxed) {
            trace::store_off("its thread panicked");
        }
    }

    /// Writes down what is known. Answers whether that went well.
    pub(crate) fn save_profile(&self, profile: &Profile, stats: &mut Stats) -> bool {
        match self.store.save_profile(profile) {
            Ok(_) => {
                stats.store_snapshots += 1;
                let Profile { codes, pending, quarantined, .. } = profile;
                trace::snapshot(codes.len(), pending.len(), quarantined.len());
                true
            }
            Err(error) => {
                self.failed(&error, stats);
                false
            }
        }
    }

    /// To take down what is known.
    pub(crate) fn notes(&self) -> Notes<'_> {
        let mut notes = Notes::new(&self.grounds);
        lock(&self.unfinished).iter().for_each(|unfinished| notes.add_unfinished(unfinished));
        notes
    }

    /// Notes that something that was asked for is not done, and is to be asked for again.
    pub(crate) fn leave(&self, unfinished: Unfinished) {
        lock(&self.unfinished).push(unfinished);
    }

    /// Something that was asked for in an earlier session.
    pub(crate) fn take_unfinished(&self) -> Option<Unfinished> {
        lock(&self.unfinished).pop()
    }

    /// Whether there is something of that.
    pub(crate) fn has_unfinished(&self) -> bool {
        !lock(&self.unfinished).is_empty()
    }

    /// Says that the program that a slot has was used.
    pub(crate) fn touch(&self, slot: &Slot, stats: &mut Stats) {
        let Some(tier) =
            slot.pin().as_ref().filter(|program| program.is_saved()).map(|it| it.tier())
        else {
            return;
        };
        let (hash, baked) = key_of(slot);
        let key = Key { code_hash: hash.0, baked, build: self.build, rank: rank_of(tier) };
        if let Err(error) = self.store.touch(&key) {
            self.failed(&error, stats);
        }
    }

    /// Tidies up, until `stop`. Answers whether it is done.
    pub(crate) fn collect(&self, stop: &dyn Fn() -> bool, stats: &mut Stats) -> bool {
        let plan = CollectPlan::new(self.bytes_max, self.build);
        let done = match self.store.collect(&plan, stop) {
            Ok(done) => done,
            Err(error) => {
                self.failed(&error, stats);
                return true;
            }
        };
        stats.store_collected += done.removed as u64;
        if done.removed > 0 {
            trace::collected(done.removed as u64, done.removed_bytes);
            match self.store.keys() {
                Ok(keys) => {
                    self.index.replace(keys.into_iter().filter(|key| key.build == self.build))
                }
                Err(error) => self.failed(&error, stats),
            }
        }
        done.is_done
    }

    /// Has all that the store has loaded before it is asked for, the hottest first.
    pub(crate) fn order_preload(&self) {
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
        let mut codes: Vec<_> =
            self.index.codes().into_iter().map(|code| (remembered.heat(&code), code)).collect();
        codes.sort_unstable_by(|a, b| b.cmp(a));
        lock(&self.preload).codes = codes.into_iter().map(|(_, code)| code).collect();
    }

    /// The next of them, which is under way until what comes with it is dropped.
    pub(crate) fn next_preload(&self) -> Option<(CodeKey, UnderWay<'_>)> {
        let mut preload = lock(&self.preload);
        let code = preload.codes.pop_front()?;
        preload.under_way += 1;
        Some((code, UnderWay(self)))
    }

    /// There is no room for more: the others are loaded when they are called.
    pub(crate) fn end_preload(&self) {
        lock(&self.preload).codes.clear();
    }

    /// Whether there are more, and whether some are under way.
    pub(crate) fn is_preloading(&self) -> (bool, bool) {
        let preload = lock(&self.preload);
        (!preload.codes.is_empty(), preload.under_way > 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the index calls a slot's code.
pub(crate) fn key_of(slot: &Slot) -> CodeKey {
    (slot.hash, slot.baked.digest)
}
