//! Tier 1 as an engine has it: in worker processes, in this one, or not at all.
//!
//! **Owns** the choice between them: an executable is looked for when the engine is made, and started at the first
//! job. **Callers guarantee** nothing.
//! **Never** compiles in this process what a worker failed at: that may have been a crash.

use crate::{compile::CompileError, config::Worker, stats::Stats};
use kiln_tier1::worker::{Answer, Executable, JobError, JobRequest, Pool, PoolConfig, WorkerError};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Whether this build has LLVM in it.
const IN_PROCESS: bool = cfg!(feature = "llvm");

/// What a worker may take to answer after a deadline: it answers what it has once its region is compiled.
const GRACE_MS: u32 = 2000;

/// A worker that had no job for so long is ended.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Has tier 1 jobs done.
#[derive(Debug)]
pub(crate) struct Tier1 {
    /// The workers; none: by the compile thread itself.
    pool: Option<Pool>,
    /// The executable turned out to be no worker of this build, or none that can be started. Relaxed: who
    /// misses it finds out for itself.
    no_worker: AtomicBool,
}

impl Tier1 {
    /// Tier 1, if it can be had: nothing is started yet.
    pub(crate) fn find(worker: &Worker) -> Option<Self> {
        let executable = match worker {
            Worker::Off => None,
            Worker::Found => Executable::find(None),
            Worker::Path(path) => Executable::find(Some(path)),
        };
        let pool = executable.map(|executable| {
            Pool::new(PoolConfig { grace_ms: GRACE_MS, ..PoolConfig::new(executable) })
        });
        (pool.is_some() || IN_PROCESS).then_some(Self { pool, no_worker: AtomicBool::new(false) })
    }

    /// The workers, as long as there can be some, or nothing else can do it.
    fn workers(&self) -> Option<&Pool> {
        let pool = self.pool.as_ref()?;
        (!IN_PROCESS || !self.no_worker.load(Ordering::Relaxed)).then_some(pool)
    }

    /// Ends workers that have nothing to do. For the sweeper.
    pub(crate) fn trim(&self) {
        if let Some(pool) = &self.pool {
            pool.trim(IDLE_MAX);
        }
    }

    /// Has a job done, and waits for it.
    pub(crate) fn compile(
        &self,
        request: &JobRequest,
        cancelled: &dyn Fn() -> bool,
        stats: &mut Stats,
    ) -> Result<Answer, CompileError> {
        let Some(pool) = self.workers() else {
            return in_process(request, cancelled).map_err(job_error);
        };
        match pool.compile(request, cancelled) {
            Ok(answer) => {
                stats.worker_cpu_ns += answer.cpu_ns;
                Ok(answer)
            }
            // No job has reached it: it may be a `kiln` that was built without LLVM.
            Err(
                error @ (WorkerError::Spawn(_)
                | WorkerError::Handshake { .. }
                | WorkerError::Version { .. }),
            ) if IN_PROCESS => {
                tracing::warn!(target: "kiln", %error, "tier 1 compiles in this process");
                self.no_worker.store(true, Ordering::Relaxed);
                in_process(request, cancelled).map_err(job_error)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Makes this process a tier 1 worker, if it was started as one by an engine: serves until that is gone, and
/// exits. Else returns at once, and engines of this process start their workers from its own executable. To be
/// called first thing in `main`. Without feature `llvm` it does nothing.
pub fn serve_if_worker() {
    #[cfg(feature = "llvm")]
    kiln_tier1::worker::serve_if_worker(kiln_tier1::worker::compile_with_llvm);
}

#[cfg(feature = "llvm")]
fn in_process(request: &JobRequest, cancelled: &dyn Fn() -> bool) -> Result<Answer, JobError> {
    kiln_tier1::worker::compile_with_llvm(request, cancelled)
}

#[cfg(not(feature = "llvm"))]
fn in_process(_: &JobRequest, _: &dyn Fn() -> bool) -> Result<Answer, JobError> {
    Err(JobError::Failed("this build has no LLVM".to_owned()))
}

fn job_error(error: JobError) -> CompileError {
    match error {
        JobError::Cancelled => CompileError::Cancelled(kiln_ir::Cancelled),
        error => CompileError::Tier1(error.to_string()),
    }
}

impl From<WorkerError> for CompileError {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Cancelled | WorkerError::Deadline => Self::Cancelled(kiln_ir::Cancelled),
            WorkerError::Refused(error) => job_error(error),
            error @ (WorkerError::Unavailable { .. }
            | WorkerError::Spawn(_)
            | WorkerError::Handshake { .. }
            | WorkerError::Version { .. }) => Self::NoWorker(error.to_string()),
            error => Self::Tier1(error.to_string()),
        }
    }
}
