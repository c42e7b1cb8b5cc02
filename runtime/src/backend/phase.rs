//! Where a subject stands between being asked for and being compiled: a state machine in one atomic.
//!
//! **Owns** the rule that a subject waits or is in flight at most once. **Callers guarantee** that
//! whoever moved it to *queued* or *running* moves it on. **Never** blocks.
//!
//! ```text
//! idle -> asked -> queued -> running -> idle (or barred, for good)
//! ```
//!
//! Every change is a read-modify-write with acquire and release, even those that change nothing: so
//! what was noted about a subject before it was asked for is seen by the compilation that answers.

use super::sync::{AtomicU32, Ordering};

/// Nobody wants it.
const IDLE: u32 = 0;
/// An event for it is under way.
const ASKED: u32 = 1;
/// A job for it waits.
const QUEUED: u32 = 2;
/// It is being compiled.
const RUNNING: u32 = 3;
const STEP: u32 = 3;
/// It was asked for while running.
const AGAIN: u32 = 1 << 2;
/// Somebody waits for the outcome.
const WAITED: u32 = 1 << 3;
/// It is never compiled again.
const BARRED: u32 = 1 << 4;

/// The state machine.
#[derive(Debug)]
pub(super) struct Phase(AtomicU32);

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The asker has to pass it on.
    New,
    /// It is on its way already.
    Known,
    /// It is not compiled any more.
    Barred,
}

/// What happened meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meanwhile {
    /// It was asked for again.
    pub(super) again: bool,
    /// Somebody waits for the outcome.
    pub(super) waited: bool,
}

impl Phase {
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(IDLE))
    }

    /// Changes the state unless `next` has none; the state before, if it changed.
    fn change(&self, next: impl FnMut(u32) -> Option<u32>) -> Option<u32> {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok()
    }

    /// From one of `from` (as bits of `1 << step`) to the given step, flags kept.
    fn step(&self, from: u32, to: u32) -> bool {
        let next = |state| {
            (state & BARRED == 0 && from >> (state & STEP) & 1 == 1).then_some(state & !STEP | to)
        };
        self.change(next).is_some()
    }

    /// Whether asking for it has no effect. Relaxed: a hint.
    #[inline]
    pub(super) fn is_taken(&self) -> bool {
        self.0.load(Ordering::Relaxed) != IDLE
    }

    /// Whether it is never compiled again.
    pub(super) fn is_barred(&self) -> bool {
        self.0.load(Ordering::Acquire) & BARRED != 0
    }

    /// Somebody wants it compiled.
    pub(super) fn ask(&self) -> Asked {
        let next = |state| {
            Some(match state & STEP {
                _ if state & BARRED != 0 => state,
                IDLE => ASKED,
                RUNNING => state | AGAIN,
                _ => state,
            })
        };
        match self.change(next) {
            Some(state) if state & BARRED != 0 => Asked::Barred,
            Some(IDLE) => Asked::New,
            _ => Asked::Known,
        }
    }

    /// The request is given up.
    pub(super) fn give_up(&self) -> bool {
        self.step(1 << ASKED, IDLE)
    }

    /// A request becomes a job. False if something else happened to it in the meantime.
    pub(super) fn queue_asked(&self) -> bool {
        self.step(1 << ASKED, QUEUED)
    }

    /// It becomes a job at once. False if it is one already.
    pub(super) fn queue(&self) -> bool {
        self.step(1 << IDLE | 1 << ASKED, QUEUED)
    }

    /// Its job begins.
    pub(super) fn begin(&self) -> bool {
        self.step(1 << QUEUED, RUNNING)
    }

    /// Whoever asks compiles it.
    pub(super) fn begin_here(&self) -> bool {
        self.step(1 << IDLE | 1 << ASKED, RUNNING)
    }

    /// Its job is put back, to be done later.
    pub(super) fn requeue(&self) {
        let changed =
            self.change(|state| (state & STEP == RUNNING).then_some(state & WAITED | QUEUED));
        assert!(changed.is_some(), "only what runs is put back");
    }

    /// It is never to be compiled, if nobody has asked for it yet.
    pub(super) fn bar(&self) {
        self.change(|state| (state == IDLE).then_some(BARRED));
    }

    /// Its job is over.
    pub(super) fn finish(&self, bar: bool) -> Meanwhile {
        let end = if bar { BARRED } else { IDLE };
        let state = self.change(|state| (state & STEP == RUNNING).then_some(end));
        match state {
            Some(state) => Meanwhile { again: state & AGAIN != 0, waited: state & WAITED != 0 },
            None => unreachable!("only what runs comes to an end"),
        }
    }

    /// Its job is dropped before it began. Answers whether somebody waits for it.
    pub(super) fn drop_queued(&self) -> bool {
        let state = self.change(|state| (state & STEP == QUEUED).then_some(IDLE));
        state.is_some_and(|state| state & WAITED != 0)
    }

    /// Somebody is going to wait for the job. False if there is none.
    pub(super) fn wait(&self) -> bool {
        self.change(|state| (state & STEP >= QUEUED).then_some(state | WAITED)).is_some()
    }
}
