//! What the back end counts.
//!
//! **Owns** the counters. **Never** orders anything: all are relaxed, for people to read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that any thread counts up.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(super) fn add(&self, n: u64) {
        // Relaxed: a counter.
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a back end did so far. Times are in nanoseconds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct BackendStats {
            $($(#[$doc])* pub(crate) $name: u64,)*
            /// Events that wait now.
            pub(crate) events_waiting: u64,
            /// Jobs that wait now, those not due yet among them.
            pub(crate) jobs_waiting: u64,
            /// Jobs on compile threads now.
            pub(crate) jobs_running: u64,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $(pub(crate) $name: Count,)*
        }

        impl Counts {
            /// All but the lengths of queues.
            pub(super) fn load(&self) -> BackendStats {
                BackendStats { $($name: self.$name.get(),)* ..BackendStats::default() }
            }
        }
    };
}

counts! {
    /// Requests that were passed to the backend thread.
    events_accepted,
    /// Requests that were dropped because the event queue was full.
    events_dropped,
    /// Jobs that were queued, those put off until their code may be compiled again not yet.
    jobs_queued,
    /// Requests for a code that was queued or being compiled already.
    jobs_deduped,
    /// Jobs that were dropped because their queue was full.
    jobs_dropped,
    /// Jobs that were dropped because they waited too long.
    jobs_aged,
    /// Jobs, waiting or done, that a clear made void.
    jobs_stale,
    /// Jobs that were cancelled: by their deadline, a pause, a clear, or shutdown.
    jobs_cancelled,
    /// Jobs that made a program, on any thread.
    jobs_compiled,
    /// Jobs that failed, on any thread, those over their deadline among them.
    jobs_failed,
    /// Of these, those in which the compiler panicked.
    jobs_panicked,
    /// Requests for codes that are in quarantine.
    jobs_refused,
    /// Codes that are never compiled again.
    quarantined,
    /// Compile threads that did not come back in time and were given up.
    workers_abandoned,
    /// Threads that were still running when a shutdown's time was over.
    threads_detached,
    /// Threads that the system did not give.
    threads_refused,
    /// Sweeps.
    sweeps,
    /// Sweeps that panicked.
    sweeps_panicked,
    /// CPU time of compile threads.
    compile_thread_cpu_ns,
    /// CPU time of the backend thread.
    backend_thread_cpu_ns,
}
