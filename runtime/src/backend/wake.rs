//! When a thread that waits for work has to be woken.
//!
//! **Owns** the decision, one flag. **Callers guarantee** that work is visible in its queue before they
//! ask [`Wake::is_due`], and that one thread at a time parks. **Never** parks or unparks: the callers do.
//!
//! A producer pays for a wake-up only if the consumer is parked for good. The protocol is Dekker's:
//! each side writes its own (work, the flag), passes a fence, and reads the other's. So either the
//! producer sees the flag, or the consumer sees the work.

use super::sync::{AtomicBool, Ordering, fence};

/// Whether the consumer is parked.
#[derive(Debug)]
pub(crate) struct Wake {
    /// Changed by read-modify-writes with acquire and release, so that all changes are in one order
    /// that everybody agrees with; the fences order it against the queue.
    parked: AtomicBool,
}

impl Wake {
    pub(crate) fn new() -> Self {
        Self { parked: AtomicBool::new(false) }
    }

    /// For producers, after work was queued: whether they have to unpark the consumer. Of several,
    /// one has to.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        // Pairs with the fence in `may_park`.
        fence(Ordering::SeqCst);
        self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel)
    }

    /// For the consumer: whether it may park now. If so, it calls [`Wake::woke`] afterwards.
    pub(crate) fn may_park(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.parked.swap(true, Ordering::AcqRel);
        // Pairs with the fence in `is_due`.
        fence(Ordering::SeqCst);
        let idle = is_idle();
        if !idle {
            self.woke();
        }
        idle
    }

    /// The consumer runs again, for whatever reason.
    pub(crate) fn woke(&self) {
        self.parked.swap(false, Ordering::AcqRel);
    }
}
