//! Evictions: what [`crate::sweep`] decides, done to slots.
//!
//! **Owns** the order: age, look, evict. **Callers guarantee** nothing. **Never** frees code under a
//! frame: evicting takes a program out of its slot, and its memory is free when the last frame has left.

use super::shared::Shared;
use crate::{
    backend::{Clock, Job},
    hooks::CompileThread,
    observe::trace,
    slot::Slot,
    stats::Stats,
    sweep::{self, Cause, Resident, Room, SweepConfig},
};
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

/// When the last sweep was. One at a time: it is locked during a sweep.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    clock: Clock,
    last_ms: u64,
}

/// Placed code takes whole cache lines.
const LINE: usize = 64;

/// Blocks that a frame runs between its entry or a call and the next call or its end: the median of
/// mainnet. Uses are counted in frame runs, demand in blocks.
const BLOCKS_PER_FRAME: u32 = 14;

impl Shared {
    /// Throws away what is idle, and what is worth least if there is too much.
    pub(super) fn sweep(&self) {
        let mut sweeper = match self.sweeper.try_lock() {
            Ok(sweeper) => sweeper,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is at it.
            Err(TryLockError::WouldBlock) => return,
        };
        let _span = trace::sweep_span().entered();
        let now_ms = sweeper.clock.now_ms();
        let elapsed_ms = now_ms.saturating_sub(sweeper.last_ms);
        sweeper.last_ms = now_ms;
        let (mut slots, mut residents, mut idle) = (Vec::new(), Vec::new(), Vec::new());
        self.each_slot(|slot| {
            slot.age(elapsed_ms);
            match resident(slot) {
                Some(resident) => {
                    slots.push(slot.clone());
                    residents.push(resident);
                }
                None => idle.push(slot.idle_ms()),
            }
        });
        let config = SweepConfig {
            bytes_max: self.room_for(&residents),
            idle_ms_max: self.config.idle_ms_max,
            slots_max: self.config.slots_max,
        };
        let mut stats = Stats { sweeps: 1, ..Stats::default() };
        let evictions = sweep::evictions(&residents, &config);
        for &(index, cause) in &evictions {
            evict(&slots[index], cause, &mut stats);
        }
        trace::swept(slots.len(), evictions.len(), self.memory.bytes_used());
        // Held here, none would be forgotten.
        drop(slots);
        stats.slots_forgotten += self.forget(&idle, &config);
        self.count(stats);
    }

    /// Forgets codes without a program, if there are too many. Answers how many.
    fn forget(&self, idle: &[u64], config: &SweepConfig) -> u64 {
        // Those as idle as the first to stay may stay, too.
        let longest = sweep::forgotten(idle, config.slots_max);
        let Some(least_ms) = longest.iter().map(|&index| idle[index]).min() else { return 0 };
        let mut left = std::cell::Cell::new(longest.len());
        let keep = |slot: &Arc<Slot>| {
            let forget = left.get() > 0 && slot.idle_ms() >= least_ms && slot.pin().is_none();
            left.set(left.get() - forget as usize);
            !forget
        };
        let forgotten = self.forget_slots(keep);
        debug_assert!(forgotten <= longest.len() - *left.get_mut());
        forgotten as u64
    }

    /// Makes room in code memory for a program of so many bytes, if it is worth that. For who can take
    /// the time: not for threads that execute, if there are others.
    pub(super) fn make_room(&self, slot: &Slot, bytes: usize, demand: u32, job: &Job) -> bool {
        if job.thread() == CompileThread::Calling && self.policy.background {
            return false;
        }
        let _one: MutexGuard<'_, Sweeper> =
            self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut slots, mut residents) = (Vec::new(), Vec::new());
        self.each_slot(|other| {
            if let Some(resident) = resident(other) {
                slots.push(other.clone());
                residents.push(resident);
            }
        });
        let bytes = bytes.max(1).next_multiple_of(LINE);
        // Who asks by name wants it no less than who runs it often.
        let demand = if demand == 0 { self.policy.hot_executions } else { demand };
        let score = slot.score().saturating_add(demand.div_ceil(BLOCKS_PER_FRAME));
        let new = Resident { bytes, score, ..Resident::default() };
        let mut stats = Stats::default();
        let room = sweep::make_room(&residents, &new, self.room_for(&residents));
        match &room {
            Room::Without(indices) => {
                indices.iter().for_each(|&index| evict(&slots[index], Cause::Budget, &mut stats));
            }
            Room::Refused => {
                stats.programs_refused += 1;
                trace::refused(&slot.bytecode, bytes);
            }
        }
        self.count(stats);
        room != Room::Refused
    }

    /// Bytes for programs that slots have. Others are still run by frames, or being published.
    fn room_for(&self, residents: &[Resident]) -> usize {
        let theirs: usize = residents.iter().map(|resident| resident.bytes).sum();
        let others = self.memory.bytes_used().saturating_sub(theirs);
        self.config.code_bytes_max.saturating_sub(others)
    }
}

/// What the sweep looks at, if the slot has a program.
fn resident(slot: &Slot) -> Option<Resident> {
    let program = slot.pin();
    let bytes = program.as_ref()?.memory_bytes();
    Some(Resident { bytes, score: slot.score(), idle_ms: slot.idle_ms() })
}

fn evict(slot: &Slot, cause: Cause, stats: &mut Stats) {
    let (text, count) = match cause {
        Cause::Idle => ("idle", &mut stats.evicted_idle),
        Cause::Budget => ("budget", &mut stats.evicted_budget),
    };
    *count += 1;
    trace::evicted(&slot.bytecode, text);
    slot.evict();
}
