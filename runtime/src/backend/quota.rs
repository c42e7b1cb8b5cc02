//! How often a subject may be compiled: a pure function of what happened so far and the time.
//!
//! **Owns** the rule. **Callers guarantee** that `now_ms` never goes back. **Never** looks at a clock,
//! a lock or a thread.

/// The options of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaConfig {
    /// Between two attempts, in milliseconds.
    pub(crate) cooldown_ms: u32,
    /// The longest wait after failures, in milliseconds: it doubles with each failure in a row.
    pub(crate) backoff_ms_max: u32,
    /// Failures in a row before quarantine; at least 1.
    pub(crate) attempts_max: u32,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { cooldown_ms: 2, backoff_ms_max: 60_000, attempts_max: 3 }
    }
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quota {
    /// Attempts that came to an end.
    pub(crate) attempts: u32,
    /// Failures since the last success.
    pub(crate) failures: u32,
    /// No attempt begins before.
    pub(crate) not_before_ms: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It made something.
    Compiled,
    /// It failed, and may fail again.
    Failed,
    /// There was no room for what it made, or that was not worth having. That says nothing about the
    /// subject: it waits as after a failure, but is not quarantined for it.
    Unused,
    /// It failed, and would always fail.
    Hopeless,
    /// What was made of it is wrong.
    Wrong,
    /// It was stopped for a reason that has nothing to do with the subject.
    Cancelled,
}

/// Whether a subject may be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// Not before this time, in milliseconds.
    At(u64),
}

impl Quota {
    /// Whether an attempt may begin.
    pub(crate) fn admit(&self, now_ms: u64) -> Admission {
        if now_ms >= self.not_before_ms {
            Admission::Now
        } else {
            Admission::At(self.not_before_ms)
        }
    }

    /// What holds after an attempt, and whether that is quarantine.
    pub(crate) fn after(self, attempt: Attempt, config: &QuotaConfig, now_ms: u64) -> (Self, bool) {
        let failures = match attempt {
            Attempt::Cancelled => return (self, false),
            Attempt::Compiled => 0,
            Attempt::Failed | Attempt::Unused | Attempt::Hopeless | Attempt::Wrong => {
                self.failures.saturating_add(1)
            }
        };
        let quarantine = match attempt {
            Attempt::Hopeless | Attempt::Wrong => true,
            Attempt::Failed => failures >= config.attempts_max,
            _ => false,
        };
        let not_before_ms = now_ms.saturating_add(wait_ms(failures, config));
        (Self { attempts: self.attempts.saturating_add(1), failures, not_before_ms }, quarantine)
    }
}

/// The wait after so many failures in a row: the cooldown, doubled each time, at least a millisecond
/// after a failure.
fn wait_ms(failures: u32, config: &QuotaConfig) -> u64 {
    let cooldown = config.cooldown_ms as u64;
    if failures == 0 {
        return cooldown;
    }
    let doubled = cooldown.max(1).checked_shl(failures.min(32)).unwrap_or(u64::MAX);
    doubled.min(config.backoff_ms_max as u64).max(cooldown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: QuotaConfig =
        QuotaConfig { cooldown_ms: 5, backoff_ms_max: 100, attempts_max: 9 };

    #[test]
    fn attempts_are_apart() {
        let quota = Quota::default();
        assert_eq!(quota.admit(0), Admission::Now);
        let (quota, quarantine) = quota.after(Attempt::Compiled, &CONFIG, 1000);
        assert_eq!((quota.attempts, quarantine), (1, false));
        assert_eq!(quota.admit(1004), Admission::At(1005));
        assert_eq!(quota.admit(1005), Admission::Now);
    }

    #[test]
    fn waits_double_up_to_a_maximum_and_begin_anew_after_success() {
        let mut quota = Quota::default();
        let mut waits = Vec::new();
        for _ in 0..7 {
            quota = quota.after(Attempt::Failed, &CONFIG, 1000).0;
            waits.push(quota.not_before_ms - 1000);
        }
        assert_eq!(waits, [10, 20, 40, 80, 100, 100, 100]);
        quota = quota.after(Attempt::Compiled, &CONFIG, 1000).0;
        assert_eq!((quota.not_before_ms, quota.failures), (1005, 0));
        assert_eq!(quota.after(Attempt::Failed, &CONFIG, 1000).0.not_before_ms, 1010);
    }

    #[test]
    fn failures_in_a_row_lead_to_quarantine() {
        let mut quota = Quota::default();
        let config = QuotaConfig { attempts_max: 3, ..CONFIG };
        let mut fail = |attempt| {
            let (next, quarantine) = quota.after(attempt, &config, 0);
            quota = next;
            quarantine
        };
        assert!(!fail(Attempt::Failed) && !fail(Attempt::Failed));
        assert!(!fail(Attempt::Compiled), "the row is broken");
        assert!(!fail(Attempt::Failed) && !fail(Attempt::Failed) && fail(Attempt::Failed));
    }

    #[test]
    fn some_failures_say_all_and_some_say_nothing() {
        assert!(Quota::default().after(Attempt::Hopeless, &CONFIG, 0).1);
        assert!(Quota::default().after(Attempt::Wrong, &CONFIG, 0).1);
        let quota = Quota { attempts: 3, failures: 2, not_before_ms: 7 };
        assert_eq!(quota.after(Attempt::Cancelled, &CONFIG, 50), (quota, false));
        let full = (0..20).fold(quota, |quota, _| {
            let (quota, quarantine) = quota.after(Attempt::Unused, &CONFIG, 0);
            assert!(!quarantine);
            quota
        });
        assert_eq!(full.not_before_ms, 100);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let config =
            QuotaConfig { cooldown_ms: u32::MAX, backoff_ms_max: u32::MAX, attempts_max: u32::MAX };
        let quota = Quota { attempts: u32::MAX, failures: u32::MAX - 1, not_before_ms: 0 };
        let (after, quarantine) = quota.after(Attempt::Failed, &config, u64::MAX);
        assert_eq!((after.not_before_ms, after.attempts, quarantine), (u64::MAX, u32::MAX, true));
        let none = QuotaConfig { cooldown_ms: 0, backoff_ms_max: 0, attempts_max: 3 };
        assert_eq!(Quota::default().after(Attempt::Failed, &none, 9).0.not_before_ms, 9);
    }
}
