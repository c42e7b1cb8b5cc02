//! The store's thread: it saves programs, takes down what is known, loads before anybody asks, and tidies up.
//!
//! **Owns** what [`crate::persist::Schedule`] decides, done; and the end of an engine, back end first, then the store.
//! **Callers guarantee** nothing. **Never** has who executes wait, and never keeps the engine alive.

use super::{Engine, shared::Shared};
use crate::{
    backend::{Backend, Clock, Handle, Refusal, STACK_BYTES, Stopped, WeakHandle, thread_cpu_ns},
    config::{Config, StoreMode},
    observe::trace,
    persist::{Action, Dismissed, Persist, Schedule, State, THREAD, Unfinished},
    slot::Slot,
    stats::Stats,
};
use std::{
    io,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

/// Programs saved between two looks at what else there is to do.
const BATCH: usize = 16;
/// Between two looks at whether anything is executed, while there is much to do, in milliseconds.
const LOOK_MS: u64 = 5;
/// Between two looks at whether a pause is over.
const PAUSE_WAIT: Duration = Duration::from_millis(5);
/// How long a look at what others wait for may wait, at the end of a preload.
const PRELOAD_WAIT: Duration = Duration::from_millis(1);

/// The back end and the store's thread, of all clones of an engine. Dropping it ends both.
pub(super) struct Back {
    back: Backend<Shared>,
    shared: Arc<Shared>,
}

impl Deref for Back {
    type Target = Backend<Shared>;

    fn deref(&self) -> &Backend<Shared> {
        &self.back
    }
}

impl Back {
    pub(super) fn new(back: Backend<Shared>, shared: Arc<Shared>) -> Self {
        let this = Self { back, shared };
        if let Some(persist) = &this.shared.persist {
            this.employ(persist);
        }
        this
    }

    fn employ(&self, persist: &Persist) {
        let (shared, back) = (Arc::downgrade(&self.shared), self.back.weak());
        persist.desk.employ(Box::new(move || start(&shared, &back)));
        self.shared.count(persist.opened());
        if persist.is_preloading().0 || persist.has_unfinished() {
            persist.desk.start();
        }
    }

    /// Ends all threads, and has what is left written before.
    pub(super) fn stop(&self, timeout: Duration) -> Stopped {
        let end = Instant::now() + timeout;
        let mut stopped = self.back.shut_down(timeout);
        if let Some(persist) = &self.shared.persist {
            let left = end.saturating_duration_since(Instant::now());
            match persist.desk.dismiss(persist.may_write(), left) {
                Dismissed::None => {}
                Dismissed::Joined => stopped.joined += 1,
                Dismissed::Detached => stopped.detached += 1,
            }
        }
        stopped
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        let _ = self.stop(Duration::from_millis(self.shared.config.shutdown_ms.into()));
    }
}

fn start(shared: &Weak<Shared>, back: &WeakHandle<Shared>) -> Option<io::Result<JoinHandle<()>>> {
    let (shared, back) = (shared.upgrade()?, back.upgrade()?);
    let thread = Builder::new().name(THREAD.into()).stack_size(STACK_BYTES);
    Some(thread.spawn(move || {
        if let Some(persist) = &shared.persist {
            let _ending = persist.desk.begin();
            let serve = || Keeper::new(&shared, &back, persist).serve();
            if catch_unwind(AssertUnwindSafe(serve)).is_err() {
                persist.give_up();
            }
        }
    }))
}

fn schedule(config: &Config) -> Schedule {
    Schedule {
        writes: config.store_mode == StoreMode::ReadWrite,
        first_ms: config.snapshot_first_ms.into(),
        interval_ms: config.snapshot_interval_ms.into(),
        idle_ms: config.snapshot_idle_ms.into(),
    }
}

/// The thread's own.
struct Keeper<'a> {
    shared: &'a Shared,
    back: &'a Handle<Shared>,
    persist: &'a Persist,
    schedule: Schedule,
    clock: Clock,
    state: State,
    /// What was executed at the last look, and when that was.
    executed: u64,
    looked_ms: u64,
    /// Programs loaded before anybody asked.
    preloaded: usize,
    /// What found no room in the queue.
    backlog: Vec<Arc<Slot>>,
    cpu_ns: u64,
}

impl<'a> Keeper<'a> {
    fn new(shared: &'a Shared, back: &'a Handle<Shared>, persist: &'a Persist) -> Self {
        let clock = Clock::default();
        let now_ms = clock.now_ms();
        // The thread begins when something came about.
        let state = State {
            made_ms: now_ms,
            ran_ms: now_ms,
            stale: true,
            untidy: true,
            resume: persist.has_unfinished(),
            ..State::default()
        };
        Self {
            shared,
            back,
            persist,
            schedule: schedule(&shared.config),
            clock,
            state,
            executed: shared.executed(),
            looked_ms: now_ms,
            preloaded: 0,
            backlog: Vec::new(),
            cpu_ns: thread_cpu_ns(),
        }
    }

    fn serve(&mut self) {
        loop {
            self.look();
            let now_ms = self.clock.now_ms();
            match self.schedule.next(&self.state, now_ms) {
                Action::End => return self.end(),
                Action::Flush => self.flush(),
                Action::Preload => self.preload(),
                Action::Resume => self.resume(),
                Action::Save => self.save_batch(),
                Action::Snapshot => self.snapshot(now_ms),
                Action::Tidy => self.tidy(),
                Action::Sleep(until_ms) => {
                    let longest = Duration::from_millis(until_ms.saturating_sub(now_ms).max(1));
                    self.persist.desk.sleep(Some(longest));
                }
                Action::Park => self.persist.desk.sleep(None),
            }
        }
    }

    /// Finds out what there is to do.
    fn look(&mut self) {
        let now_ms = self.clock.now_ms();
        if now_ms >= self.looked_ms + LOOK_MS {
            self.looked_ms = now_ms;
            let executed = self.shared.executed();
            if executed != std::mem::replace(&mut self.executed, executed) {
                self.state.ran_ms = now_ms;
                self.state.stale = true;
            }
            let cpu_ns = thread_cpu_ns();
            let spent = cpu_ns.saturating_sub(std::mem::replace(&mut self.cpu_ns, cpu_ns));
            self.shared.count(Stats { store_cpu_ns: spent, ..Stats::default() });
        }
        let desk = &self.persist.desk;
        let (waiting, crowded) = desk.waiting();
        let waiting = waiting + self.backlog.len();
        let waits_since_ms = self.state.waits_since_ms.unwrap_or(now_ms);
        self.state.waits_since_ms = (waiting > 0).then_some(waits_since_ms);
        self.state.crowded = crowded;
        self.state.ends = desk.end().is_some();
        self.state.flush = desk.flush_wanted().is_some();
        self.state.preload = self.persist.is_preloading().0;
        self.state.off = self.persist.is_off();
    }

    /// Whether somebody wants something else done, or executes.
    fn is_wanted(&self) -> bool {
        let desk = &self.persist.desk;
        desk.end().is_some()
            || desk.flush_wanted().is_some()
            || self.shared.executed() != self.executed
    }

    fn save(&mut self, slot: &Slot) {
        let mut stats = Stats::default();
        self.persist.save(slot, &mut stats);
        if stats != Stats::default() {
            self.state.stale = true;
            self.state.untidy = true;
            self.shared.count(stats);
        }
    }

    fn save_batch(&mut self) {
        let desk = &self.persist.desk;
        let mut batch: Vec<_> = std::iter::from_fn(|| desk.pop()).take(BATCH).collect();
        if batch.is_empty() {
            batch = self.backlog.split_off(self.backlog.len().saturating_sub(BATCH));
        }
        batch.iter().for_each(|slot| self.save(slot));
        if desk.waiting().0 == 0 && self.backlog.is_empty() {
            self.state.waits_since_ms = None;
            if desk.overflowed() {
                self.backlog = self.unsaved();
                // Those that gained most by being compiled are taken first.
                self.backlog.reverse();
            }
        }
    }

    /// Every slot with a program that is not saved, the ones first that gained most by being compiled.
    fn unsaved(&self) -> Vec<Arc<Slot>> {
        let mut slots = Vec::new();
        self.shared.each_slot(|slot| {
            if slot.pin().as_ref().is_some_and(|program| !program.is_saved()) {
                slots.push(slot.clone());
            }
        });
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.uses_of_all()));
        slots
    }

    /// Saves every program that is not, also those that found no room in the queue, for as long as there is time. Answers
    /// whether all were looked at.
    fn save_all(&mut self) -> bool {
        while let Some(slot) = self.persist.desk.pop() {
            slot.begin_saving();
        }
        self.backlog.clear();
        let slots = self.unsaved();
        slots.iter().all(|slot| {
            let in_time = self.persist.desk.end().is_none_or(|end| Instant::now() < end);
            if in_time {
                self.save(slot);
            }
            in_time && self.persist.may_write()
        })
    }

    fn flush(&mut self) {
        let flush = self.persist.desk.flush_wanted();
        let is_done = self.save_all() || !self.persist.may_write();
        if let Some(flush) = flush.filter(|_| is_done) {
            self.persist.desk.flushed(flush);
        }
    }

    fn preload(&mut self) {
        if self.shared.preload_one(self.persist, self.back) {
            self.preloaded += 1;
            let last = !self.persist.is_preloading().0;
            self.shared.preloaded(self.preloaded, last);
            if last {
                trace::preloaded(self.preloaded);
            }
        } else if self.back.is_paused() {
            self.persist.desk.sleep(Some(PAUSE_WAIT));
        }
    }

    /// Asks again for what an earlier session left. What finds no room stays for the next one.
    fn resume(&mut self) {
        let mut stats = Stats::default();
        while let Some(unfinished) = self.persist.take_unfinished() {
            let Unfinished { bytecode, hash, baked, tier } = &unfinished;
            let slot = self.shared.slot(bytecode, *hash, self.shared.intern(&baked.config)).slot;
            if slot.pin().as_ref().is_some_and(|program| program.tier() >= *tier) {
                continue;
            }
            let tier = (*tier).min(self.shared.policy.top_tier.max(self.shared.config.first_tier));
            match self.back.compile(&slot, tier) {
                Err(Refusal::QueueFull | Refusal::Paused | Refusal::ShutDown) => {
                    self.persist.leave(unfinished);
                    break;
                }
                // What comes of it is counted elsewhere.
                _ => stats.store_resumed += 1,
            }
        }
        self.state.resume = false;
        self.shared.count(stats);
    }

    fn snapshot(&mut self, now_ms: u64) {
        self.state.snapshot_ms = Some(now_ms);
        self.state.stale = false;
        self.shared.snapshot(self.persist);
    }

    fn tidy(&mut self) {
        let mut stats = Stats::default();
        let mut slots = Vec::new();
        self.shared.each_slot(|slot| slots.push(slot.clone()));
        for slot in &slots {
            if self.is_wanted() || !self.persist.may_write() {
                return;
            }
            self.persist.touch(slot, &mut stats);
        }
        drop(slots);
        let done = self.persist.collect(&|| self.is_wanted(), &mut stats);
        self.state.untidy = !done;
        self.shared.count(stats);
    }

    /// The engine is at its end: what is known first, which is little and says most.
    fn end(&mut self) {
        if self.persist.may_write() {
            self.shared.snapshot(self.persist);
            self.save_all();
        }
        self.looked_ms = 0;
        self.look();
    }
}

impl Shared {
    /// Something that goes up while anything is executed: no reason to believe so otherwise.
    fn executed(&self) -> u64 {
        let Stats { lookups, native_entries, interpreted_instructions, .. } = self.frame_stats();
        lookups.wrapping_add(native_entries).wrapping_add(interpreted_instructions)
    }

    /// Takes down what is known about codes, and writes it. Answers whether that went well.
    pub(super) fn snapshot(&self, persist: &Persist) -> bool {
        if !persist.may_write() {
            return false;
        }
        let mut slots = Vec::new();
        self.each_slot(|slot| slots.push(slot.clone()));
        let mut notes = persist.notes();
        // Code that was found to be wrong has no slot any more, and is in quarantine all the same.
        let is_known = |slot: &Slot| !slot.is_retired() || slot.ticket.quarantined().is_some();
        for slot in slots.iter().filter(|slot| is_known(slot)) {
            notes.add(slot);
            let awaited = slot.ticket.awaited();
            if let Some(unfinished) = awaited.and_then(|tier| Unfinished::of(slot, tier)) {
                notes.add_unfinished(&unfinished);
            }
        }
        drop(slots);
        let mut stats = Stats::default();
        let saved = persist.save_profile(&notes.finish(), &mut stats);
        self.count(stats);
        saved
    }
}

impl Engine {
    /// Loads what the store has before anybody asks for it, the hottest codes first, as far as there is room, and waits
    /// for that. Codes that were loaded already are not loaded again; while the engine is paused nothing is. Answers how many codes this thread looked at;
    /// 0 without a store.
    ///
    /// An engine does this in the background when it is made, unless [`Config::store_preload`] is off.
    pub fn preload(&self) -> usize {
        let Some(persist) = &self.shared.persist else { return 0 };
        let (is_under_way, others) = persist.is_preloading();
        if !is_under_way && !others {
            persist.order_preload();
        }
        let handle = self.back.handle();
        let mut codes = 0;
        while self.shared.preload_one(persist, &handle) {
            codes += 1;
        }
        while persist.is_preloading().1 {
            std::thread::sleep(PRELOAD_WAIT);
        }
        self.shared.preloaded(codes, true);
        codes
    }

    /// Has all programs saved that the store does not have, and waits for that, at most `timeout`. Answers whether that
    /// was done: not without a store that may be written to, after a lasting error, or after a shutdown.
    pub fn flush_store(&self, timeout: Duration) -> bool {
        let persist = self.shared.persist.as_ref();
        persist.is_some_and(|persist| {
            persist.may_write() && persist.desk.flush(timeout) && persist.may_write()
        })
    }

    /// Writes down now what is known about codes: what they run, how hot they are, which are not to be compiled, and
    /// what is being compiled. Answers whether that was done: not without a store that may be written to, or if that
    /// fails.
    pub fn snapshot(&self) -> bool {
        self.shared.persist.as_ref().is_some_and(|persist| self.shared.snapshot(persist))
    }
}
