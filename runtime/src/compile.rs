//! From bytecode to a program: the phases in order, each timed.
//!
//! **Owns** the order of the phases and their errors. **Callers guarantee** nothing: any bytecode
//! is valid input. **Never** publishes: the engine does.

use crate::{
    config::{self, Backend},
    memory::{CodeMemory, MemoryError},
    program::Program,
    slot::Seen,
    stats::Stats,
};
use kiln_abi::Pc;
use kiln_ir::{Blocks, Bounds, BuildError, Cancelled, JumpDests};
use kiln_tier0::Library;
use revm::bytecode::Bytecode;
use thiserror::Error;

/// Why code has no program. It is interpreted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// No code, or not code that is executed as such (an EIP-7702 designator).
    #[error("there is no legacy code to compile")]
    NotCode,
    /// The engine is switched off.
    #[error("compilation is switched off")]
    Disabled,
    /// Another thread compiles this code at the moment.
    #[error("the code is being compiled by another thread")]
    Busy,
    /// The code failed to compile before.
    #[error("the code failed to compile before")]
    Failed,
    /// The compiler panicked: a defect of kiln.
    #[error("the compiler panicked")]
    Panicked,
    /// Over a limit.
    #[error(transparent)]
    Build(BuildError),
    /// The compilation was called off.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Tier 0 can not express it.
    #[error(transparent)]
    Codegen(kiln_tier0::CompileError),
    /// No room for the code.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl From<BuildError> for CompileError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Build(error),
        }
    }
}

impl From<kiln_tier0::CompileError> for CompileError {
    fn from(error: kiln_tier0::CompileError) -> Self {
        match error {
            kiln_tier0::CompileError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Codegen(error),
        }
    }
}

/// What compiling needs.
pub(crate) struct Compiler<'a> {
    pub(crate) config: &'a config::Config,
    pub(crate) library: Option<&'a Library>,
    pub(crate) memory: &'a CodeMemory,
}

impl Compiler<'_> {
    /// Compiles all blocks, or those that were seen; then the work is proportional to them. Of these
    /// `select` chooses.
    pub(crate) fn compile(
        &self,
        bytecode: &Bytecode,
        baked: &kiln_ir::Config,
        seen: Option<&Seen>,
        select: &dyn Fn(Pc) -> bool,
        stats: &mut Stats,
    ) -> Result<Program, CompileError> {
        if !bytecode.is_legacy() || bytecode.is_empty() {
            return Err(CompileError::NotCode);
        }
        let code = bytecode.original_byte_slice();
        let bounds = Bounds { limits: &self.config.limits, cancelled: &|| false };
        let clock = Clock::start();
        let blocks =
            clock.time(&mut stats.analyse_ns, || match (seen, bytecode.legacy_jump_table()) {
                (Some(seen), Some(table)) => {
                    let dests = JumpDests::from_bits(table.as_slice());
                    Blocks::at_leaders(code, dests, seen.leaders(), baked, bounds)
                }
                _ => Blocks::scan(code, baked, bounds),
            })?;
        let module = clock
            .time(&mut stats.lower_ns, || kiln_ir::build(code, &blocks, baked, bounds, select))?;
        let program = match (self.config.backend, self.library) {
            (Backend::Native, Some(library)) => {
                self.native(bytecode, library, &module, bounds, stats)?
            }
            (Backend::Native, None) => return Err(CompileError::Disabled),
            (Backend::Evaluator, _) => Program::evaluated(bytecode.clone(), module),
        };
        stats.compile_cpu_ns += clock.elapsed();
        stats.programs += 1;
        stats.regions += program.regions() as u64;
        stats.instructions += program.instructions() as u64;
        stats.bytecode_bytes += code.len() as u64;
        stats.code_bytes += program.code_bytes() as u64;
        Ok(program)
    }

    fn native(
        &self,
        bytecode: &Bytecode,
        library: &Library,
        module: &kiln_ir::Module,
        bounds: Bounds<'_>,
        stats: &mut Stats,
    ) -> Result<Program, CompileError> {
        let clock = Clock::start();
        let object =
            clock.time(&mut stats.codegen_ns, || kiln_tier0::compile(library, module, bounds))?;
        let code = clock.time(&mut stats.publish_ns, || self.memory.place(&object.text))?;
        Ok(Program::native(bytecode.clone(), module, code, object.entries, object.exits))
    }
}

/// CPU time of this thread.
struct Clock(u64);

impl Clock {
    fn start() -> Self {
        Self(thread_cpu_ns())
    }

    fn elapsed(&self) -> u64 {
        thread_cpu_ns().saturating_sub(self.0)
    }

    fn time<R>(&self, spent: &mut u64, act: impl FnOnce() -> R) -> R {
        let start = Self::start();
        let result = act();
        *spent += start.elapsed();
        result
    }
}

#[cfg(all(unix, not(miri)))]
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(any(not(unix), miri))]
fn thread_cpu_ns() -> u64 {
    0
}
