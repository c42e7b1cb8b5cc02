//! Notices that a thread does not get on, and says what each of them does.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often the watchdog looks.
const LOOK: Duration = Duration::from_millis(50);
/// After so many looks without a sign of life, a minute or more, a thread is stuck. Every single step
/// takes far less. Looks are counted, not time: a machine that stood still was not looked at.
const STUCK: u32 = 1200;

/// What one thread does.
#[derive(Debug, Default)]
pub(crate) struct Doing {
    what: Mutex<(&'static str, u64)>,
    /// Goes up with every step. Relaxed: only whether it moves is looked at.
    steps: AtomicU64,
    /// Relaxed: nothing hangs on when the watchdog notices.
    ended: AtomicBool,
}

impl Doing {
    /// Notes a step that begins, with a number that tells more.
    pub(crate) fn says(&self, what: &'static str, number: u64) {
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = (what, number);
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// The thread came to its end.
    pub(crate) fn ends(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Watches threads.
#[derive(Debug)]
pub(crate) struct Watchdog {
    threads: Vec<Doing>,
}

impl Watchdog {
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: (0..threads).map(|_| Doing::default()).collect() }
    }

    pub(crate) fn thread(&self, number: usize) -> &Doing {
        &self.threads[number]
    }

    /// Looks after all threads until each of them has come to its end. Aborts the process if one does
    /// not get on.
    pub(crate) fn watch(&self) {
        let mut last = vec![(0, 0); self.threads.len()];
        loop {
            std::thread::sleep(LOOK);
            for (thread, (steps, looks)) in self.threads.iter().zip(&mut last) {
                let now = thread.steps.load(Ordering::Relaxed);
                (*steps, *looks) = (now, if now == *steps { *looks + 1 } else { 0 });
            }
            let ended = |thread: &Doing| thread.ended.load(Ordering::Relaxed);
            if self.threads.iter().all(ended) {
                return;
            }
            let stuck =
                |(thread, (_, looks)): (&Doing, &(u64, u32))| !ended(thread) && *looks > STUCK;
            if self.threads.iter().zip(&last).any(stuck) {
                self.abort(&last);
            }
        }
    }

    fn abort(&self, last: &[(u64, u32)]) -> ! {
        let mut text = "stress: a thread is stuck\n".to_owned();
        for (number, (thread, (steps, looks))) in self.threads.iter().zip(last).enumerate() {
            let (what, at) = *thread.what.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = LOOK.as_secs_f64() * *looks as f64;
            text += &format!("  thread {number} {what} ({at}), step {steps}, for {seconds:.0} s\n");
        }
        // Past the test harness, which keeps output of tests that do not end.
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::abort();
    }
}
