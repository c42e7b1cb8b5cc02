//! Tier 1 as an engine has it: in worker processes, in this one, or not at all.
//!
//! **Owns** the choice between them, which is made at the first job. **Callers guarantee** nothing.
//! **Never** compiles in this process what a worker failed at: that may have been a crash.

use crate::{compile::CompileError, config::Worker, stats::Stats};
use kiln_tier1::worker::{Answer, Executable, JobError, JobRequest, Pool, PoolConfig, WorkerError};

/// Whether this build has LLVM in it.
const IN_PROCESS: bool = cfg!(feature = "llvm");

/// What a worker may take to answer after a deadline: it answers what it has once its region is compiled.
const GRACE_MS: u32 = 2000;

/// How tier 1 jobs are done.
#[derive(Debug)]
pub(crate) enum Tier1 {
    /// By worker processes.
    Workers(Box<Pool>),
    /// By the compile thread itself.
    InProcess,
}

impl Tier1 {
    /// Tier 1, if it can be had: nothing is started yet.
    pub(crate) fn find(worker: &Worker) -> Option<Self> {
        let executable = match worker {
            Worker::Off => None,
            Worker::Found => Executable::find(None),
            Worker::Path(path) => Executable::find(Some(path)),
        };
        match executable {
            Some(executable) => {
                let config = PoolConfig { grace_ms: GRACE_MS, ..PoolConfig::new(executable) };
                Some(Self::Workers(Box::new(Pool::new(config))))
            }
            None => IN_PROCESS.then_some(Self::InProcess),
        }
    }

    /// Has a job done, and waits for it.
    pub(crate) fn compile(
        &self,
        request: &JobRequest,
        cancelled: &dyn Fn() -> bool,
        stats: &mut Stats,
    ) -> Result<Answer, CompileError> {
        match self {
            Self::Workers(pool) => {
                let answer = pool.compile(request, cancelled)?;
                stats.worker_cpu_ns += answer.cpu_ns;
                Ok(answer)
            }
            Self::InProcess => in_process(request, cancelled).map_err(job_error),
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
            error @ WorkerError::Unavailable { .. } => Self::NoWorker(error.to_string()),
            error => Self::Tier1(error.to_string()),
        }
    }
}
