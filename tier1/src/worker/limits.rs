//! The limits that a worker process sets itself.
//!
//! **Owns** what they are and how they are set: address space, CPU time by job, core dumps, priority.
//! **Callers guarantee** that the process is a worker and nothing else. **Never** raises a hard limit.

use super::server::ServeError;
use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};
use std::io;

/// CPU time that a job gets on top of its deadline, in seconds: the parent is to be first.
const CPU_MARGIN_S: u64 = 2;

/// What a parent wants of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confine {
    /// Bytes of address space, on top of those the process has when it begins.
    pub(super) memory_bytes_max: u64,
    /// Added to the nice value.
    pub(super) nice: i32,
    /// Bytes of a request, at most.
    pub(super) request_bytes_max: u64,
    /// Bytes of an answer, at most.
    pub(super) answer_bytes_max: u64,
}

impl Confine {
    /// Sets the limits of this process.
    pub(super) fn apply(&self) -> Result<(), ServeError> {
        let limit = |what| move |source: io::Error| ServeError::Limit { what, source };
        let memory =
            address_space_bytes().map_err(limit("memory"))?.saturating_add(self.memory_bytes_max);
        limit_to(Resource::As, memory, memory).map_err(limit("memory"))?;
        limit_to(Resource::Core, 0, 0).map_err(limit("core dumps"))?;
        // The limit does not hold where the kernel hands core dumps to a program.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|errno| limit("core dumps")(errno.into()))?;
        // A courtesy: not every system lets it.
        let _ = rustix::process::nice(self.nice);
        Ok(())
    }
}

/// CPU time for a job of this process: the one it had, the job's deadline and a margin. Over it the system
/// ends the process, if the parent did not.
pub(super) fn limit_cpu(deadline_ms: u32) -> Result<(), ServeError> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.max(0) as u64;
    let soft = used + u64::from(deadline_ms).div_ceil(1000) + CPU_MARGIN_S;
    limit_to(Resource::Cpu, soft, u64::MAX)
        .map_err(|source| ServeError::Limit { what: "CPU time", source })
}

/// Sets a limit, at most to what the hard limit is.
fn limit_to(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let maximum = hard.min(maximum);
    let value = |value| (value != u64::MAX).then_some(value);
    let limit = Rlimit { current: value(current.min(maximum)), maximum: value(maximum) };
    Ok(setrlimit(resource, limit)?)
}

/// What the limit on the address space is compared with.
fn address_space_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no VmSize in /proc/self/status"))
}
