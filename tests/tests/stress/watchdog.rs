//! Notices that a thread does not get on, and says what each of them does.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without a sign of life for so long, a thread is stuck. Every single step takes far less, whatever
/// else the machine does.
const STUCK: Duration = Duration::from_secs(60);
/// How often the watchdog looks.
const LOOK: Duration = Duration::from_millis(50);

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
        let now = Instant::now();
        let mut last: Vec<_> = self.threads.iter().map(|_| (0, now)).collect();
        loop {
            std::thread::sleep(LOOK);
            for (thread, (steps, since)) in self.threads.iter().zip(&mut last) {
                let now = thread.steps.load(Ordering::Relaxed);
                if now != *steps {
                    (*steps, *since) = (now, Instant::now());
                }
            }
            let ended = |thread: &Doing| thread.ended.load(Ordering::Relaxed);
            if self.threads.iter().all(ended) {
                return;
            }
            let stuck = |(thread, (_, since)): (&Doing, &(u64, Instant))| {
                !ended(thread) && since.elapsed() > STUCK
            };
            if self.threads.iter().zip(&last).any(stuck) {
                self.abort(&last);
            }
        }
    }

    fn abort(&self, last: &[(u64, Instant)]) -> ! {
        let mut text = "stress: a thread is stuck\n".to_owned();
        for (number, (thread, (steps, since))) in self.threads.iter().zip(last).enumerate() {
            let (what, at) = *thread.what.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = since.elapsed().as_secs();
            text += &format!("  thread {number} {what} ({at}), step {steps}, for {seconds} s\n");
        }
        // Past the test harness, which keeps output of tests that do not end.
        let _ = std::io::stderr().write_all(text.as_bytes());
        std::process::abort();
    }
}
