//! One job: what is asked, and what comes back.
//!
//! **Owns** the plain data of both, the same in process and across it. **Callers guarantee** nothing.
//! **Never** knows how it is written down: see `wire`.

use kiln_abi::{CodeObject, Pc};
use kiln_ir::{Config, Limits, ssa::Choice};
use thiserror::Error;

/// The CPU that code is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// The one it is made on.
    #[default]
    Host,
    /// x86-64-v3, the baseline of code that is kept.
    Baseline,
}

/// Regions to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRequest {
    /// The code as it is executed, without revm's padding.
    pub bytecode: Vec<u8>,
    /// What is baked in.
    pub config: Config,
    /// Bounds on the work.
    pub limits: Limits,
    /// By leader, how often its block ran. Others never did.
    pub counts: Vec<(Pc, u64)>,
    /// Which regions are chosen.
    pub choice: Choice,
    /// What they are compiled for.
    pub target: Target,
    /// Time the job may take, in milliseconds of wall-clock time, from when a worker has it.
    pub deadline_ms: u32,
}

/// CPU time by phase, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Decoding, blocks, jump resolution, choice of regions.
    pub analyse_ns: u64,
    /// The regions' SSA form.
    pub build_ns: u64,
    /// From SSA to LLVM's form, and its passes.
    pub optimise_ns: u64,
    /// From there to machine code, and its loading.
    pub codegen_ns: u64,
}

/// What a job made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// An object for each region that was compiled: with the table of entries of the whole code, and at most
    /// as many as the request's [`Choice::regions_max`].
    pub objects: Vec<CodeObject>,
    /// Regions that were chosen and have no object: they failed, or the time was over before.
    pub left_out: u32,
    /// Where the time went.
    pub phases: Phases,
    /// EVM instructions in all regions, copies of one counted each.
    pub instructions: u64,
    /// CPU time of the whole job, in nanoseconds. A worker process fills it in.
    pub cpu_ns: u64,
}

/// Why a job has no answer, as the compiler says it. The worker goes on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JobError {
    /// It was called off.
    #[error("the job was called off")]
    Cancelled,
    /// The compiler can not do it.
    #[error("{0}")]
    Failed(String),
    /// Over a limit.
    #[error("{0}")]
    TooLarge(String),
}
