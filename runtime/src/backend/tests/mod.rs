//! The back end with a compiler that does what a test says.
//!
//! Threads meet in channels; where a test has to see what the backend thread did on its own, it looks
//! until it is so ([`Rig::until`]). No test depends on how long something takes.

mod commands;
mod faults;
mod flow;
mod phase;

use super::*;
use std::{
    sync::{
        atomic::{AtomicU64, AtomicUsize},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

const TIER: Tier = Tier::Baseline;
/// Longer than anything takes, unless a test has failed.
const LONG: Duration = Duration::from_secs(60);

/// What is compiled in tests.
#[derive(Debug, Default)]
struct Code {
    ticket: Ticket,
    compiled: AtomicUsize,
    published: AtomicUsize,
    /// What a request noted, and what the last compilation saw of it. Relaxed, as in slots.
    noted: AtomicUsize,
    saw: AtomicUsize,
}

impl Subject for Code {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

type Compiler = dyn Fn(&Arc<Code>, &Job) -> Result<(), Failure> + Send + Sync;

struct Fake {
    compiler: Box<Compiler>,
    sweeps: AtomicUsize,
    notes: Mutex<Vec<Note>>,
}

impl Work for Fake {
    type Subject = Code;
    type Output = ();

    fn compile(&self, code: &Arc<Code>, job: &Job) -> Result<(), Failure> {
        code.saw.store(code.noted.load(Ordering::Relaxed), Ordering::Relaxed);
        code.compiled.fetch_add(1, Ordering::Relaxed);
        (self.compiler)(code, job)
    }

    fn publish(&self, code: &Arc<Code>, (): ()) {
        code.published.fetch_add(1, Ordering::Relaxed);
    }

    fn sweep(&self, _: &BackendStats) {
        self.sweeps.fetch_add(1, Ordering::Relaxed);
    }

    fn note(&self, _: &Code, _: Tier, note: &Note) {
        self.notes.lock().unwrap().push(note.clone());
    }
}

/// A back end, its clock and its compiler.
struct Rig {
    backend: Backend<Fake>,
    work: Arc<Fake>,
    now_ms: Arc<AtomicU64>,
}

/// Parks as soon as there is nothing to do, so that wake-ups are tested.
fn config() -> BackendConfig {
    BackendConfig {
        linger_rounds: 0,
        shutdown_ms: 60_000,
        quota: QuotaConfig { cooldown_ms: 0, ..QuotaConfig::default() },
        ..BackendConfig::default()
    }
}

impl Rig {
    fn new(
        config: BackendConfig,
        compiler: impl Fn(&Arc<Code>, &Job) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        let compiler: Box<Compiler> = Box::new(compiler);
        let work =
            Arc::new(Fake { compiler, sweeps: AtomicUsize::new(0), notes: Mutex::default() });
        let now_ms = Arc::new(AtomicU64::new(1_000_000));
        let clock = Clock::Manual(now_ms.clone());
        Self { backend: Backend::with_clock(config, work.clone(), clock), work, now_ms }
    }

    /// One that always succeeds.
    fn easy(config: BackendConfig) -> Self {
        Self::new(config, |_, _| Ok(()))
    }

    fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
        self.backend.0.poke();
    }

    /// Looks until it is so.
    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn(&BackendStats) -> bool) {
        let start = Instant::now();
        while !is_so(&self.backend.stats()) {
            assert!(start.elapsed() < LONG, "never: {what}; {:?}", self.backend.stats());
            thread::yield_now();
        }
    }

    fn stats(&self) -> BackendStats {
        self.backend.stats()
    }

    fn ask(&self, code: &Arc<Code>) -> Requested {
        self.backend.request(code, TIER)
    }

    fn compile_wait(&self, code: &Arc<Code>) -> Outcome {
        self.backend.compile_wait(code, TIER, LONG)
    }
}

fn code() -> Arc<Code> {
    Arc::default()
}

fn codes(n: usize) -> Vec<Arc<Code>> {
    (0..n).map(|_| code()).collect()
}

fn count(of: &AtomicUsize) -> usize {
    of.load(Ordering::Relaxed)
}

/// A compiler that says when it begins, and ends when it is told how.
struct Stepwise {
    began: Receiver<Arc<Code>>,
    go_on: Sender<Result<(), Failure>>,
}

fn stepwise(config: BackendConfig) -> (Rig, Stepwise) {
    let (begin, began) = channel();
    let (go_on, goes_on) = channel();
    let goes_on = Mutex::new(goes_on);
    let rig = Rig::new(config, move |code, _| {
        let _ = begin.send(code.clone());
        goes_on.lock().unwrap().recv().unwrap_or(Ok(()))
    });
    (rig, Stepwise { began, go_on })
}

/// A compiler that says when it begins, and goes on until it is cancelled.
fn endless(config: BackendConfig) -> (Rig, Receiver<Arc<Code>>) {
    let (begin, began) = channel();
    let rig = Rig::new(config, move |code, job| {
        let _ = begin.send(code.clone());
        while !job.is_cancelled() {
            thread::yield_now();
        }
        Err(Failure::Cancelled)
    });
    (rig, began)
}
