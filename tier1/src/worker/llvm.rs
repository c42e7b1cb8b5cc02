//! The compile function of workers: LLVM's.
//!
//! **Owns** a compiler for each thread and target, made at the first job for it. **Callers guarantee** nothing.
//! **Never** keeps anything of one job for the next but the compiler itself.

use super::{Answer, JobError, JobRequest, Target, regions::compile_regions};
use crate::{CompileError, Compiler};
use std::cell::Cell;

#[derive(Default)]
struct Compilers {
    host: Option<Compiler>,
    baseline: Option<Compiler>,
}

thread_local! {
    /// Taken while a job runs, so that a panic drops it with all that is in it.
    static COMPILERS: Cell<Compilers> = const { Cell::new(Compilers { host: None, baseline: None }) };
}

/// Compiles the regions that a request asks for with LLVM, on this thread: what
/// [`super::serve_if_worker`] takes, and what a process without workers calls itself.
///
/// # Errors
/// As [`compile_regions`]; and if LLVM does not support this machine.
pub fn compile_with_llvm(
    request: &JobRequest,
    cancelled: &dyn Fn() -> bool,
) -> Result<Answer, JobError> {
    let mut compilers = COMPILERS.take();
    let place = match request.target {
        Target::Host => &mut compilers.host,
        Target::Baseline => &mut compilers.baseline,
    };
    let compiler = match place {
        Some(compiler) => compiler,
        None => {
            let compiler = Compiler::new(request.target);
            place.insert(compiler.map_err(|error| JobError::Failed(error.to_string()))?)
        }
    };
    let answer = compile_regions(request, cancelled, &mut |function, bounds| {
        compiler.compile(function, bounds).map_err(refusal)
    });
    COMPILERS.set(compilers);
    answer
}

fn refusal(error: CompileError) -> JobError {
    match error {
        CompileError::Cancelled(_) => JobError::Cancelled,
        error @ (CompileError::TooLarge | CompileError::Text { .. }) => {
            JobError::TooLarge(error.to_string())
        }
        error => JobError::Failed(error.to_string()),
    }
}
