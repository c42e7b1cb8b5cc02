//! What the back end keeps with each subject.
//!
//! **Owns** the subject's phase, its quota and why it is in quarantine. **Callers guarantee** that only
//! who compiles a subject notes attempts. **Never** allocates, except for the reason of a quarantine.

use super::{phase::Phase, quota::Quota};
use crate::hooks::Tier;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

/// Embedded in every subject; 48 bytes.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Orders all that follows: it is written while the phase is *running*, by who made it so.
    pub(super) phase: Phase,
    attempts: AtomicU32,
    failures: AtomicU32,
    /// The tier that it was asked to be compiled with last. Relaxed: for the record.
    wanted: AtomicU8,
    not_before_ms: AtomicU64,
    quarantined: OnceLock<Arc<str>>,
}

const _: () = assert!(size_of::<Ticket>() <= 48);

impl Default for Ticket {
    fn default() -> Self {
        Self {
            phase: Phase::new(),
            attempts: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            wanted: AtomicU8::new(0),
            not_before_ms: AtomicU64::new(0),
            quarantined: OnceLock::new(),
        }
    }
}

impl Ticket {
    /// Whether a request would have no effect: the subject is on its way, or in quarantine. A hint,
    /// one relaxed load.
    #[inline]
    pub(crate) fn is_taken(&self) -> bool {
        self.phase.is_taken()
    }

    /// Why the subject is never compiled again, if so.
    pub(crate) fn quarantined(&self) -> Option<&Arc<str>> {
        self.quarantined.get()
    }

    /// It is asked to be compiled with this tier.
    pub(super) fn want(&self, tier: Tier) {
        self.wanted.store(tier as u8, Ordering::Relaxed);
    }

    /// The tier it is to be compiled with, if it is on its way.
    pub(crate) fn awaited(&self) -> Option<Tier> {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let tier = Tier::ALL.into_iter().find(|&tier| tier as u8 == wanted);
        tier.filter(|_| self.is_taken() && !self.phase.is_barred())
    }

    /// Attempts so far.
    pub(crate) fn quota(&self) -> Quota {
        // Relaxed: ordered by the phase.
        Quota {
            attempts: self.attempts.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            not_before_ms: self.not_before_ms.load(Ordering::Relaxed),
        }
    }

    /// For who compiles the subject, before it says that it is over.
    pub(super) fn note(&self, quota: Quota) {
        // Relaxed: ordered by the phase.
        self.attempts.store(quota.attempts, Ordering::Relaxed);
        self.failures.store(quota.failures, Ordering::Relaxed);
        self.not_before_ms.store(quota.not_before_ms, Ordering::Relaxed);
    }

    /// It was put in quarantine in an earlier session. For a subject that nobody asks for yet.
    pub(crate) fn bar(&self, reason: Arc<str>) {
        self.quarantine(reason);
        self.phase.bar();
    }

    /// As [`Ticket::note`]. The first reason stays.
    pub(super) fn quarantine(&self, reason: Arc<str>) {
        let _ = self.quarantined.set(reason);
    }
}
