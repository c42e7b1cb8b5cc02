//! The client: has jobs done by workers.
//!
//! **Owns** the workers: those that wait in its list; one that has a job belongs to the thread that waits for
//! the answer. **Callers guarantee** that what they drop is not in use. **Never** starts a thread, or a process
//! before there is a job for it; never has more processes than there are threads in [`Pool::compile`] and
//! places in the list.

use super::{
    Answer, Executable, JobRequest, WorkerError,
    backoff::{Backoff, Ready, Waits},
    channel::{CANCEL_POLL, Wait},
    child::{Prepared, Start, Worker},
    limits::Confine,
    wire::{self, WireError},
};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a pool is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// What is started.
    pub executable: Executable,
    /// Bytes of address space that a worker may have on top of those it begins with.
    pub memory_bytes_max: u64,
    /// Bytes of a request, at most.
    pub request_bytes_max: usize,
    /// Bytes of an answer, at most; also of all its objects with their tables.
    pub answer_bytes_max: usize,
    /// Time from the start of a process until it is ready, at most, in milliseconds.
    pub handshake_ms_max: u32,
    /// Time that a worker has to answer after its job was called off or passed its deadline, in
    /// milliseconds. Then it is killed.
    pub grace_ms: u32,
    /// Workers that wait for jobs, at most. More are ended when they have answered.
    pub idle_max: usize,
    /// Jobs that a process answers before another one takes its place: what libraries leak is bounded.
    pub jobs_max: u64,
    /// Wait after the first failure, in milliseconds. It doubles with each further one in a row.
    pub backoff_ms: u32,
    /// The longest of these waits, in milliseconds.
    pub backoff_ms_max: u32,
    /// Failures in a row until no process is started for a while.
    pub failures_max: u32,
    /// That while, in milliseconds.
    pub pause_ms: u32,
    /// Added to the nice value of workers.
    pub nice: i32,
}

impl PoolConfig {
    /// The defaults.
    pub fn new(executable: Executable) -> Self {
        Self {
            executable,
            memory_bytes_max: 2 << 30,
            request_bytes_max: 16 << 20,
            answer_bytes_max: 64 << 20,
            handshake_ms_max: 10_000,
            grace_ms: 100,
            idle_max: 4,
            jobs_max: 1000,
            backoff_ms: 10,
            backoff_ms_max: 1000,
            failures_max: 8,
            pause_ms: 30_000,
            nice: 10,
        }
    }

    fn waits(&self) -> Waits {
        Waits {
            first: ms(self.backoff_ms),
            max: ms(self.backoff_ms_max),
            failures_max: self.failures_max,
            pause: ms(self.pause_ms),
        }
    }

    fn confine(&self) -> Confine {
        Confine {
            memory_bytes_max: self.memory_bytes_max,
            nice: self.nice,
            request_bytes_max: self.request_bytes_max as u64,
            answer_bytes_max: self.answer_bytes_max as u64,
        }
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

/// What a pool did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Processes that were started and became ready.
    pub started: u64,
    /// Jobs that were answered, refusals included.
    pub answered: u64,
    /// Failures of workers: no start, no handshake, a crash, garbage.
    pub failed: u64,
    /// Workers killed because of a job that was called off or passed its deadline.
    pub killed: u64,
    /// Workers that wait for a job.
    pub idle: usize,
}

struct Idle {
    worker: Worker,
    since: Instant,
}

#[derive(Default)]
struct State {
    /// The one that waits for the shortest time last.
    idle: Vec<Idle>,
    backoff: Backoff,
    stats: PoolStats,
}

/// Workers of one executable. Dropping it ends those that wait.
pub struct Pool {
    config: PoolConfig,
    state: Mutex<State>,
    /// The number of the next job. Relaxed: only that each is another.
    next_id: AtomicU64,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool without workers.
    pub fn new(config: PoolConfig) -> Self {
        Self { config, state: Mutex::default(), next_id: AtomicU64::new(0) }
    }

    /// Has one job done, and waits for it: in a worker that waits, else in a new one. Any number of threads
    /// may, each with a worker of its own. `cancelled` is asked every 5 milliseconds.
    ///
    /// A job that is called off, or passes its deadline, has [`PoolConfig::grace_ms`] to be answered, so that
    /// a worker that notices is kept; then the worker is killed. An answer in the grace counts where it was
    /// the deadline, and is dropped where the caller called off. Starting a worker and waiting for one after
    /// failures are not part of the job's time; they, too, end when `cancelled` says so.
    ///
    /// # Errors
    /// See [`WorkerError`]. A job that failed may be given again; it is not tried twice by itself.
    pub fn compile(
        &self,
        request: &JobRequest,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Answer, WorkerError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame =
            wire::encode_job(id, request, self.config.request_bytes_max).map_err(|error| {
                match error {
                    WireError::TooLong { bytes, max } => {
                        WorkerError::TooLong { what: "request", bytes, max }
                    }
                    error => WorkerError::Garbage { why: error.to_string() },
                }
            })?;
        let mut worker = self.check_out(cancelled)?;
        let job = Prepared { id, request, frame };
        let result = worker.run(job, ms(self.config.grace_ms), cancelled);
        self.check_in(worker, result.as_ref().err());
        result
    }

    /// Whether a worker can be had: starts one, if none waits.
    ///
    /// # Errors
    /// What [`Pool::compile`] would say.
    pub fn probe(&self, cancelled: &dyn Fn() -> bool) -> Result<(), WorkerError> {
        let worker = self.check_out(cancelled)?;
        self.keep(worker);
        Ok(())
    }

    /// Ends workers that waited for longer, and those that ended by themselves. Answers how many.
    pub fn trim(&self, idle_max: Duration) -> usize {
        let now = Instant::now();
        let mut gone = Vec::new();
        {
            let mut state = self.lock();
            let idle = std::mem::take(&mut state.idle);
            for mut idle in idle {
                let is_old = now.saturating_duration_since(idle.since) > idle_max;
                let list =
                    if is_old || !idle.worker.is_usable() { &mut gone } else { &mut state.idle };
                list.push(idle);
            }
        }
        gone.len()
    }

    /// What it did so far.
    pub fn stats(&self) -> PoolStats {
        let state = self.lock();
        PoolStats { idle: state.idle.len(), ..state.stats }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panic left is a list and counters, each whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker that waited, or a new one as soon as there may be one.
    fn check_out(&self, cancelled: &dyn Fn() -> bool) -> Result<Worker, WorkerError> {
        loop {
            let idle = self.lock().idle.pop();
            if let Some(Idle { mut worker, .. }) = idle {
                if worker.is_usable() {
                    return Ok(worker);
                }
                // It ended while no one looked; that says nothing of the next one.
                continue;
            }
            if cancelled() {
                return Err(WorkerError::Cancelled);
            }
            let now = Instant::now();
            let ready = self.lock().backoff.ready(now, &self.config.waits());
            match ready {
                Ready::Now => return self.start(cancelled),
                Ready::At(at) => std::thread::sleep(CANCEL_POLL.min(at - now)),
                Ready::Unavailable(until) => return Err(WorkerError::Unavailable { until }),
            }
        }
    }

    fn start(&self, cancelled: &dyn Fn() -> bool) -> Result<Worker, WorkerError> {
        let until = Instant::now() + ms(self.config.handshake_ms_max);
        let started = Worker::start(&Start {
            executable: &self.config.executable,
            confine: self.config.confine(),
            answer_bytes_max: self.config.answer_bytes_max,
            wait: Wait { until, cancelled },
        });
        match &started {
            Ok(worker) => {
                self.lock().stats.started += 1;
                tracing::debug!(target: "kiln::tier1", pid = worker.pid(), "worker started");
            }
            Err(error) => self.count(Some(error), false),
        }
        started
    }

    /// Takes note of how a job ended, and keeps its worker if there is more to expect of it.
    fn check_in(&self, mut worker: Worker, error: Option<&WorkerError>) {
        let usable = worker.is_usable();
        self.count(error, usable);
        if usable && worker.jobs() < self.config.jobs_max {
            self.keep(worker);
        }
    }

    fn keep(&self, worker: Worker) {
        // What there is no place for is ended outside of the lock.
        let _surplus = {
            let mut state = self.lock();
            state.idle.push(Idle { worker, since: Instant::now() });
            match state.idle.len() > self.config.idle_max {
                true => Some(state.idle.remove(0)),
                false => None,
            }
        };
    }

    fn count(&self, error: Option<&WorkerError>, usable: bool) {
        let mut state = self.lock();
        match error {
            Some(error) if error.is_failure() => {
                state.stats.failed += 1;
                let paused = state.backoff.failed(Instant::now(), &self.config.waits());
                drop(state);
                tracing::warn!(target: "kiln::tier1", %error, paused, "worker failed");
            }
            Some(WorkerError::Deadline | WorkerError::Cancelled) if !usable => {
                state.stats.killed += 1;
            }
            Some(WorkerError::Deadline | WorkerError::Cancelled) => {}
            _ => {
                state.stats.answered += 1;
                state.backoff.succeeded();
            }
        }
    }
}
