//! The worker executable, with LLVM in it.

use kiln_abi::Pc;
use kiln_ir::{Config, Limits, SpecId, ssa::Choice};
use kiln_tier1::worker::{
    Executable, JobRequest, Pool, PoolConfig, Target, WorkerError, compile_with_llvm,
};
use std::path::PathBuf;

/// A loop that adds up its counter: `PUSH1 0 PUSH1 200 at: JUMPDEST SWAP1 DUP2 ADD SWAP1 PUSH1 1 SWAP1 SUB
/// DUP1 PUSH1 at JUMPI STOP`.
const LOOP: [u8; 18] =
    [0x60, 0, 0x60, 200, 0x5b, 0x90, 0x81, 0x01, 0x90, 0x60, 1, 0x90, 0x03, 0x80, 0x60, 4, 0x57, 0];

fn request(bytecode: Vec<u8>, target: Target) -> JobRequest {
    JobRequest {
        counts: (0..bytecode.len() as u32).map(|pc| (Pc(pc), 1000)).collect(),
        bytecode,
        config: Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: Default::default() },
        limits: Limits::default(),
        choice: Choice { hot: 100, regions_max: 64 },
        target,
        deadline_ms: 60_000,
    }
}

fn pool() -> Pool {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_kiln-tier1-worker"));
    Pool::new(PoolConfig::new(Executable::Path(path)))
}

#[test]
fn a_worker_makes_what_this_process_makes() {
    let pool = pool();
    for target in [Target::Host, Target::Baseline] {
        let request = request(LOOP.into(), target);
        let here = compile_with_llvm(&request, &|| false).expect("objects");
        let there = pool.compile(&request, &|| false).expect("objects");
        assert!(!here.objects.is_empty());
        assert_eq!(here.objects, there.objects);
        assert_eq!(here.instructions, there.instructions);
    }
    assert_eq!((pool.stats().started, pool.stats().failed), (1, 0));
}

#[test]
fn a_job_that_takes_too_long_costs_a_deadline() {
    let pool = pool();
    // Hundreds of milliseconds of work.
    let code = [0x60, 0, 0x35, 0x60, 1, 0x35, 0x01, 0x60, 2, 0x52, 0x5b].repeat(3000);
    let request = JobRequest { deadline_ms: 1, ..request(code, Target::Host) };
    // What was compiled in time, or in the grace, may come back.
    let result = pool.compile(&request, &|| false);
    assert!(matches!(result, Ok(_) | Err(WorkerError::Deadline)), "{result:?}");
    let again = pool.compile(&self::request(LOOP.into(), Target::Host), &|| false);
    assert_eq!(again.expect("objects").objects.len(), 1);
    assert_eq!(pool.stats().failed, 0);
}
