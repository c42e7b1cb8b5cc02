//! What a tier 1 worker costs besides what it compiles.

use crate::{BenchError, Ready, Tier, frames};
use std::{io, mem};

/// CPU time that is spent once for each worker process, in nanoseconds. None of it is in the compile
/// time of programs that are compiled later; all of `setup_ns` and none of `start_ns` is in that of
/// the first.
#[derive(Clone, Copy, Debug)]
pub struct WorkerStart {
    /// The process: loading LLVM, and ending. Whatever it takes outside its jobs.
    pub start_ns: u64,
    /// What a worker's first job takes longer than its later ones: LLVM's set-up.
    pub setup_ns: u64,
    /// A later job for a program of a dozen instructions.
    pub job_ns: u64,
}

impl WorkerStart {
    /// Starts an engine's worker for a small program. None if this build has no LLVM.
    ///
    /// # Errors
    /// There is no engine on this machine, or tier 1 compiles nothing.
    pub fn measure() -> Result<Option<Self>, BenchError> {
        if !Tier::BUILT.contains(&Tier::Tier1) {
            return Ok(None);
        }
        let before = children_cpu_ns()?;
        let Ready { engine, cost, .. } = Ready::new(Tier::Tier1, &frames::subject()?)?;
        let jobs_ns = engine.stats().worker_cpu_ns;
        // Ends its worker, and waits for it.
        drop(engine);
        let spent = children_cpu_ns()?.saturating_sub(before);
        let (first, later) = (cost.first.worker_cpu_ns, cost.later.worker_cpu_ns);
        Ok(Some(Self {
            start_ns: spent.saturating_sub(jobs_ns),
            setup_ns: first.saturating_sub(later),
            job_ns: later,
        }))
    }
}

/// CPU time of child processes that ended and were waited for.
fn children_cpu_ns() -> Result<u64, BenchError> {
    // SAFETY: a struct of integers, for which zeroes are values.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to such a struct, and is written only.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) } != 0 {
        return Err(BenchError::Usage(io::Error::last_os_error()));
    }
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    Ok(ns(usage.ru_utime) + ns(usage.ru_stime))
}
