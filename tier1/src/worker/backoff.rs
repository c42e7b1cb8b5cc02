//! When a worker may be started again after others failed.
//!
//! **Owns** the count of failures in a row and the waits that follow from it. **Callers guarantee** that time
//! does not go back. **Never** reads a clock.

use std::time::{Duration, Instant};

/// The waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// After the first failure; it doubles with each further one.
    pub(super) first: Duration,
    /// At most.
    pub(super) max: Duration,
    /// Failures in a row until all is given up for a while.
    pub(super) failures_max: u32,
    /// That while.
    pub(super) pause: Duration,
}

/// Whether a worker may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// At once.
    Now,
    /// Not before then, which is soon.
    At(Instant),
    /// Not before then, which is too long to wait for.
    Unavailable(Instant),
}

/// What is known of the past.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    retry_at: Option<Instant>,
}

impl Backoff {
    /// A worker answered.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A worker failed. Answers whether no more are started for a while.
    pub(super) fn failed(&mut self, now: Instant, waits: &Waits) -> bool {
        self.failures = self.failures.saturating_add(1);
        let gives_up = self.failures >= waits.failures_max;
        let wait = match gives_up {
            true => waits.pause,
            false => {
                let doubled = 1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX);
                waits.first.saturating_mul(doubled).min(waits.max)
            }
        };
        self.retry_at = now.checked_add(wait);
        gives_up
    }

    /// After a pause it is tried once: the failures still count.
    pub(super) fn ready(&self, now: Instant, waits: &Waits) -> Ready {
        match self.retry_at {
            Some(at) if at > now && self.failures >= waits.failures_max => Ready::Unavailable(at),
            Some(at) if at > now => Ready::At(at),
            _ => Ready::Now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits = Waits {
        first: Duration::from_millis(10),
        max: Duration::from_millis(65),
        failures_max: 6,
        pause: Duration::from_secs(30),
    };

    #[test]
    fn waits_double_up_to_the_longest_and_then_there_is_a_pause() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        assert_eq!(backoff.ready(now, &WAITS), Ready::Now);
        for wait in [10, 20, 40, 65, 65] {
            assert!(!backoff.failed(now, &WAITS));
            let at = now + Duration::from_millis(wait);
            assert_eq!(backoff.ready(now, &WAITS), Ready::At(at));
            assert_eq!(backoff.ready(at, &WAITS), Ready::Now);
        }
        let at = now + WAITS.pause;
        assert!(backoff.failed(now, &WAITS));
        assert_eq!(backoff.ready(now, &WAITS), Ready::Unavailable(at));
        // One more try, and one failure is enough.
        assert_eq!(backoff.ready(at, &WAITS), Ready::Now);
        assert!(backoff.failed(at, &WAITS));
        assert_eq!(backoff.ready(at, &WAITS), Ready::Unavailable(at + WAITS.pause));
        backoff.succeeded();
        assert_eq!(backoff.ready(at, &WAITS), Ready::Now);
    }

    #[test]
    fn any_number_of_failures_has_a_wait() {
        let waits = Waits { failures_max: u32::MAX, ..WAITS };
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..100 {
            assert!(!backoff.failed(now, &waits));
        }
        assert_eq!(backoff.ready(now, &waits), Ready::At(now + WAITS.max));
    }
}
