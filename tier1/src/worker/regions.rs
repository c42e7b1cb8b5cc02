//! From a request to an answer, with any compiler of regions.
//!
//! **Owns** the order of the phases, their times, and what a region that does not compile means for the job.
//! **Callers guarantee** nothing. **Never** knows the compiler: that one is an argument, so that the same
//! code runs in a worker and in process.

use super::{Answer, JobError, JobRequest};
use kiln_abi::{CodeObject, Pc};
use kiln_ir::{
    Blocks, Bounds, BuildError,
    ssa::{Analysis, Function, build, choose},
};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;

/// Compiles the regions that a request asks for, the hottest first, with `compile`.
///
/// A region that fails stays on its tier; the others are answered. The same if the job is called off after the
/// first of them: who asked may have use for it. [`Answer::left_out`] counts them. [`super::Phases::optimise_ns`] is the compiler's to say, and
/// part of [`super::Phases::codegen_ns`] here.
///
/// # Errors
/// If there is no object, and something failed or was called off. Not if nothing was hot.
pub fn compile_regions(
    request: &JobRequest,
    cancelled: &dyn Fn() -> bool,
    compile: &mut dyn FnMut(&Function, Bounds<'_>) -> Result<CodeObject, JobError>,
) -> Result<Answer, JobError> {
    let bounds = Bounds { limits: &request.limits, cancelled };
    let start = thread_cpu_ns();
    let mut answer = Answer::default();
    let blocks = Blocks::scan(&request.bytecode, &request.config, bounds).map_err(refusal)?;
    let analysis = Analysis::new(&request.bytecode, &blocks, &request.config, bounds);
    let analysis = analysis.map_err(refusal)?;
    let counts: HashMap<Pc, u64> = request.counts.iter().copied().collect();
    let count = |leader: Pc| counts.get(&leader).copied().unwrap_or(0);
    let regions = choose(&analysis, &count, request.choice);
    let mut now = thread_cpu_ns();
    answer.phases.analyse_ns = now.saturating_sub(start);
    let mut first_error = None;
    for region in &regions {
        let function = build(&analysis, region, bounds).map_err(refusal);
        lap(&mut now, &mut answer.phases.build_ns);
        let object = function.and_then(|function| {
            let object = compile(&function, bounds)?;
            answer.instructions += u64::from(function.instructions);
            Ok(object)
        });
        lap(&mut now, &mut answer.phases.codegen_ns);
        match object {
            Ok(object) => answer.objects.push(object),
            Err(error) => {
                let is_over = error == JobError::Cancelled;
                first_error.get_or_insert(error);
                if is_over {
                    break;
                }
            }
        }
    }
    answer.left_out = (regions.len() - answer.objects.len()) as u32;
    answer.cpu_ns = now.saturating_sub(start);
    match first_error {
        Some(error) if answer.objects.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

fn refusal(error: BuildError) -> JobError {
    match error {
        BuildError::Cancelled(_) => JobError::Cancelled,
        error @ BuildError::Limit { .. } => JobError::TooLarge(error.to_string()),
    }
}

/// Adds the time since the last call.
fn lap(last: &mut u64, spent: &mut u64) {
    let now = thread_cpu_ns();
    *spent += now.saturating_sub(std::mem::replace(last, now));
}

/// CPU time of this thread, in nanoseconds.
pub(super) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Target;
    use kiln_abi::EntryTable;
    use kiln_ir::{Config, Limits, SpecId, ssa::Choice};
    use std::cell::Cell;

    /// Two loops, one behind the other, and STOP: `JUMPDEST PUSH1 1 CALLDATALOAD PUSH1 at JUMPI`. One region.
    const LOOPS: [u8; 15] = [
        0x5b, 0x60, 1, 0x35, 0x60, 0, 0x57, //
        0x5b, 0x60, 1, 0x35, 0x60, 7, 0x57, 0x00,
    ];

    fn request(bytecode: impl Into<Vec<u8>>) -> JobRequest {
        let bytecode = bytecode.into();
        JobRequest {
            counts: (0..bytecode.len() as u32).map(|pc| (Pc(pc), 1000 + u64::from(pc))).collect(),
            bytecode,
            config: Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: Default::default() },
            limits: Limits::default(),
            choice: Choice { hot: 100, regions_max: 8 },
            target: Target::Host,
            deadline_ms: 1000,
        }
    }

    fn object(function: &Function) -> CodeObject {
        let mut entries = EntryTable::new(function.code_len as usize, 1);
        entries.insert(function.pc, 1, function.is_jumpdest);
        CodeObject { text: vec![0; 64], code_len: 64, records: 64, entries, blocks: 1 }
    }

    fn compile(
        request: &JobRequest,
        mut result: impl FnMut(usize) -> Option<JobError>,
    ) -> Result<Answer, JobError> {
        let mut at = 0;
        compile_regions(request, &|| false, &mut |function, _| {
            at += 1;
            result(at - 1).map_or_else(|| Ok(object(function)), Err)
        })
    }

    #[test]
    fn hot_regions_are_compiled() {
        let answer = compile(&request(LOOPS), |_| None).expect("an answer");
        let pcs: Vec<Pc> =
            answer.objects.iter().flat_map(|object| object.entries.iter()).map(|e| e.0).collect();
        assert_eq!(pcs, [Pc(0)]);
        assert!(answer.instructions >= 9 && answer.phases.build_ns > 0 && answer.cpu_ns > 0);
        let cold = JobRequest { counts: Vec::new(), ..request(LOOPS) };
        let answer = compile(&cold, |_| None).expect("nothing to do");
        assert!(answer.objects.is_empty());
    }

    #[test]
    fn a_region_that_fails_costs_only_itself() {
        // Far more than one region's worth.
        let code: Vec<u8> = (0..3000).flat_map(|_| [0x5b, 0x60, 1, 0x50]).collect();
        let request = request(code);
        let all = compile(&request, |_| None).expect("an answer").objects.len();
        assert!(all > 2);
        let failed = || JobError::Failed("no".into());
        let answer = compile(&request, |at| (at == 0).then(failed)).expect("the others");
        assert_eq!((answer.objects.len(), answer.left_out), (all - 1, 1));
        assert_eq!(compile(&request, |_| Some(failed())), Err(failed()));
        let cancelled = |at| (at == 2).then_some(JobError::Cancelled);
        let answer = compile(&request, cancelled).expect("two");
        assert_eq!((answer.objects.len(), answer.left_out as usize), (2, all - 2));
        assert_eq!(compile(&request, |_| Some(JobError::Cancelled)), Err(JobError::Cancelled));
    }

    #[test]
    fn limits_and_the_callers_word_end_it() {
        let request = request(LOOPS);
        let small = JobRequest {
            limits: Limits { code_bytes_max: 14, ..Limits::default() },
            ..request.clone()
        };
        assert!(matches!(compile(&small, |_| None), Err(JobError::TooLarge(_))));
        for asked_max in 0..40 {
            let asked = Cell::new(0);
            let cancelled = || asked.replace(asked.get() + 1) >= asked_max;
            let result =
                compile_regions(&request, &cancelled, &mut |function, _| Ok(object(function)));
            assert!(matches!(result, Ok(_) | Err(JobError::Cancelled)));
            assert!(asked_max > 0 || result.is_err());
        }
    }

    #[test]
    fn any_bytes_are_code() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            let code: Vec<u8> = (0..rng.usize(..300))
                .map(|_| match rng.u8(..6) {
                    0 => 0x5b,
                    1 => 0x57,
                    2 => rng.u8(0x60..0x63),
                    3 => rng.u8(0x80..0x9f),
                    _ => rng.u8(..),
                })
                .collect();
            let request = request(code);
            let answer = compile(&request, |_| None).expect("an answer");
            assert!(answer.objects.len() <= request.choice.regions_max);
        }
    }
}
