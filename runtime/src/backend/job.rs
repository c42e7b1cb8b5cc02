//! One compilation, as its compiler sees it: what to do, and when to stop.
//!
//! **Owns** cancellation and the ways a job can end. **Callers guarantee** that compilers look at
//! [`Job::is_cancelled`] often, once a block. **Never** interrupts anything by force.

use super::clock::Clock;
use crate::hooks::{CompileThread, Tier};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
};
use thiserror::Error;

/// All tiers, in the order in which waiting jobs are taken.
pub(super) const TIERS: [Tier; 3] = Tier::ALL;

/// One value for each tier.
#[derive(Debug, Default)]
pub(super) struct PerTier<T>([T; TIERS.len()]);

impl<T> PerTier<T> {
    pub(super) fn of(&self, tier: Tier) -> &T {
        &self.0[tier as usize]
    }

    pub(super) fn of_mut(&mut self, tier: Tier) -> &mut T {
        &mut self.0[tier as usize]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

/// What every job looks at to see whether it is still wanted.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) clock: Clock,
    /// Clears so far. It changes with the publication gate held for writing; who needs it exact holds
    /// that gate. Relaxed elsewhere: noticed at the next look.
    pub(super) generation: AtomicU64,
    /// Guards that pause. Relaxed: noticed at the next look.
    pub(super) pauses: AtomicU32,
    /// Set once. Release; pairs with the acquire of who decides to end by it.
    pub(super) shut_down: AtomicBool,
}

impl Control {
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(super) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }
}

/// Why a job is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cancelled {
    Deadline = 1,
    Paused,
    Cleared,
    ShutDown,
}

impl Cancelled {
    fn from_u8(value: u8) -> Option<Self> {
        [Self::Deadline, Self::Paused, Self::Cleared, Self::ShutDown]
            .into_iter()
            .find(|&cause| cause as u8 == value)
    }
}

/// What a compiler is told.
#[derive(Debug)]
pub(crate) struct Job {
    tier: Tier,
    thread: CompileThread,
    pub(super) deadline_ms: u64,
    pub(super) generation: u64,
    control: Arc<Control>,
    /// Whether a pause cancels it.
    pausable: bool,
    /// The first cause that was seen, or 0. Relaxed: written and read by the compiling thread.
    cancelled: AtomicU8,
}

impl Job {
    pub(super) fn new(
        tier: Tier,
        thread: CompileThread,
        deadline_ms: u64,
        generation: u64,
        pausable: bool,
        control: &Arc<Control>,
    ) -> Self {
        let cancelled = AtomicU8::new(0);
        let control = control.clone();
        Self { tier, thread, deadline_ms, generation, control, pausable, cancelled }
    }

    /// What to make.
    pub(crate) fn tier(&self) -> Tier {
        self.tier
    }

    /// Who does it.
    pub(crate) fn thread(&self) -> CompileThread {
        self.thread
    }

    pub(super) fn is_background(&self) -> bool {
        self.thread == CompileThread::Background
    }

    /// Whether it is not wanted any more: its deadline passed, or its engine was paused, cleared or
    /// shut down. Once true it stays true. Costs a look at the clock.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancellation().is_some()
    }

    pub(super) fn cancellation(&self) -> Option<Cancelled> {
        if let Some(cause) = Cancelled::from_u8(self.cancelled.load(Ordering::Relaxed)) {
            return Some(cause);
        }
        let control = &self.control;
        let cause = if control.is_shut_down() {
            Cancelled::ShutDown
        } else if control.generation() != self.generation {
            Cancelled::Cleared
        } else if self.pausable && control.is_paused() {
            Cancelled::Paused
        } else if control.clock.now_ms() > self.deadline_ms {
            Cancelled::Deadline
        } else {
            return None;
        };
        self.cancelled.store(cause as u8, Ordering::Relaxed);
        Some(cause)
    }
}

/// Why a compiler made nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It saw [`Job::is_cancelled`].
    Cancelled,
    /// It may go better another time.
    Failed(Arc<str>),
    /// It panicked, and caught that itself.
    Panicked(Arc<str>),
    /// There was no room for the result, or it was not worth having.
    Unused(Arc<str>),
    /// The same input fails always.
    Hopeless(Arc<str>),
    /// Nothing that is made of it is to be trusted, by any tier.
    Wrong(Arc<str>),
}

/// Why a code that was asked for by name is not compiled, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No code, or not code that is executed as such (an EIP-7702 designator).
    #[error("there is no legacy code to compile")]
    NotCode,
    /// It was compiled, without success.
    #[error("{0}")]
    Failed(Arc<str>),
    /// It is not compiled any more.
    #[error("in quarantine: {0}")]
    Quarantined(Arc<str>),
    /// Another thread is at it.
    #[error("the code is being compiled by another thread")]
    Busy,
    /// It was compiled too recently.
    #[error("the code was compiled too recently")]
    TooSoon,
    /// The outcome did not come in time. The job goes on.
    #[error("timed out")]
    TimedOut,
    /// Too many jobs wait.
    #[error("too many jobs wait")]
    QueueFull,
    /// Compilation is paused.
    #[error("compilation is paused")]
    Paused,
    /// A clear made the job void.
    #[error("cleared meanwhile")]
    Cleared,
    /// The engine was shut down.
    #[error("shut down")]
    ShutDown,
    /// It never was switched on, or its compiler did not return too often.
    #[error("compilation is switched off")]
    Off,
}

/// How a request ended.
pub(crate) type Outcome = Result<(), Refusal>;

#[cfg(test)]
mod tests {
    use super::*;

    fn job(control: &Arc<Control>) -> Job {
        let now = control.clock.now_ms();
        Job::new(
            Tier::Baseline,
            CompileThread::Background,
            now + 10,
            control.generation(),
            true,
            control,
        )
    }

    fn control() -> (Arc<Control>, Arc<AtomicU64>) {
        let now = Arc::new(AtomicU64::new(100));
        let clock = Clock::Manual(now.clone());
        (Arc::new(Control { clock, ..Control::default() }), now)
    }

    #[test]
    fn every_cause_cancels_and_the_first_stays() {
        let (control, now) = control();
        let jobs = [job(&control), job(&control), job(&control), job(&control)];
        assert!(jobs.iter().all(|job| !job.is_cancelled()));
        now.store(110, Ordering::Relaxed);
        assert!(!jobs[0].is_cancelled(), "at the deadline it is still in time");
        now.store(111, Ordering::Relaxed);
        assert_eq!(jobs[0].cancellation(), Some(Cancelled::Deadline));
        control.pauses.store(1, Ordering::Relaxed);
        assert_eq!(jobs[1].cancellation(), Some(Cancelled::Paused));
        control.generation.store(1, Ordering::Relaxed);
        assert_eq!(jobs[2].cancellation(), Some(Cancelled::Cleared));
        control.shut_down.store(true, Ordering::Relaxed);
        assert_eq!(jobs[3].cancellation(), Some(Cancelled::ShutDown));
        assert_eq!(jobs[0].cancellation(), Some(Cancelled::Deadline));
    }

    #[test]
    fn a_pause_may_be_none_of_its_business() {
        let (control, _) = control();
        let job = Job::new(Tier::Baseline, CompileThread::Calling, 200, 0, false, &control);
        control.pauses.store(1, Ordering::Relaxed);
        assert!(!job.is_cancelled());
    }
}
