//! The time that deadlines, waits and ages are measured in.
//!
//! **Owns** the origin. **Never** goes back, and is never the time of day.

use std::time::Instant;

/// Milliseconds since it was made.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The machine's.
    Monotonic(Instant),
    /// Turned by hand. Relaxed: only the number counts.
    #[cfg(test)]
    Manual(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

impl Default for Clock {
    fn default() -> Self {
        Self::Monotonic(Instant::now())
    }
}

impl Clock {
    /// Milliseconds by now.
    pub(crate) fn now_ms(&self) -> u64 {
        match self {
            Self::Monotonic(origin) => origin.elapsed().as_millis() as u64,
            #[cfg(test)]
            Self::Manual(now) => now.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}

/// CPU time of this thread, in nanoseconds; 0 where there is no such clock.
pub(crate) fn thread_cpu_ns() -> u64 {
    #[cfg(all(unix, not(miri)))]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
    #[cfg(any(not(unix), miri))]
    0
}
