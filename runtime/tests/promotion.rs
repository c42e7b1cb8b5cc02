//! Codes that run long enough are profiled, and get optimised regions, under running frames too.

mod common;

use common::{Ctx, call, context, transact};
use kiln_ir::OpcodeSet;
use kiln_runtime::{Compile, Config, Engine, Tier, Tiered};
use revm::{
    MainBuilder,
    bytecode::Bytecode,
    context::{TxEnv, result::ExecutionResult},
    interpreter::instructions::gas_table_spec,
    primitives::{hardfork::SpecId, hex, keccak256},
    state::EvmState,
};
use std::{path::PathBuf, time::Duration};

/// i = calldata; s = 0; do { s = s * 3 + i; i -= 1 } while (i); return s
const LOOP: &str = "5f35 5f 5b 6003 02 81 01 90 6001 9003 90 81 6003 57 5f 52 6020 5f f3";

fn eager() -> Config {
    Config {
        compile: Compile::Seen,
        hot_executions: 1,
        optimise_frames: 16,
        profile_blocks: 64,
        top_tier: Tier::Optimised,
        ..Config::eager()
    }
}

fn rounds(count: u64) -> TxEnv {
    let mut data = [0; 32];
    data[24..].copy_from_slice(&count.to_be_bytes());
    call(10_000_000, &data)
}

fn run(engine: &Engine, tx: TxEnv) -> (ExecutionResult, EvmState) {
    let evm: revm::MainnetEvm<Ctx> = context(SpecId::CANCUN, LOOP, "").build_mainnet();
    transact(&mut Tiered::mainnet(evm, engine.clone()), tx)
}

fn expected(tx: TxEnv) -> (ExecutionResult, EvmState) {
    transact(&mut context(SpecId::CANCUN, LOOP, "").build_mainnet(), tx)
}

/// The tier of the loop's program.
fn tier(engine: &Engine) -> Option<Tier> {
    let code = Bytecode::new_raw(hex::decode(LOOP.replace(' ', "")).unwrap().into());
    let spec = SpecId::CANCUN;
    let baked = kiln_ir::Config { spec, gas: gas_table_spec(spec), replaced: OpcodeSet::EMPTY };
    let hash = keccak256(code.original_byte_slice());
    engine.compile(&code, hash, &baked).ok().map(|program| program.tier())
}

#[test]
fn frames_add_up() {
    let engine = Engine::new(eager()).unwrap();
    let outcome = expected(rounds(20));
    for _ in 0..15 {
        assert_eq!(run(&engine, rounds(20)), outcome);
    }
    assert_eq!(tier(&engine), Some(Tier::Baseline));
    for _ in 0..64 {
        assert_eq!(run(&engine, rounds(20)), outcome);
    }
    assert_eq!(tier(&engine), Some(Tier::Optimised));
    let stats = engine.stats();
    assert!(stats.optimised_regions > 0 && stats.region_errors == 0, "{stats:?}");
    assert!(stats.recorded_instructions > 0, "it was profiled: {stats:?}");
}

#[test]
fn a_long_loop_is_promoted_while_it_runs() {
    let engine = Engine::new(eager()).unwrap();
    // Polls come each thousand rounds, and count as twenty frames.
    let tx = rounds(20_000);
    assert_eq!(run(&engine, tx.clone()), expected(tx));
    assert_eq!(tier(&engine), Some(Tier::Optimised));
    let stats = engine.stats();
    assert!(stats.swaps >= 1, "the frame went on in the new program: {stats:?}");
    assert_eq!(stats.lookups, 1);
}

#[test]
fn in_the_background_too() {
    let engine = Engine::new(Config { compile_threads: 1, ..eager() }).unwrap();
    let outcome = expected(rounds(2000));
    for _ in 0..1000 {
        assert_eq!(run(&engine, rounds(2000)), outcome);
        if tier(&engine) == Some(Tier::Optimised) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not promoted: {:?}", engine.stats());
}

#[test]
fn there_may_be_a_lower_ceiling() {
    let engine = Engine::new(Config { top_tier: Tier::Baseline, ..eager() }).unwrap();
    let tx = rounds(20_000);
    assert_eq!(run(&engine, tx.clone()), expected(tx));
    assert_eq!(tier(&engine), Some(Tier::Baseline));
}

#[test]
fn a_promotion_that_fails_leaves_the_program() {
    // No such worker, and nothing in this process that could do it.
    if cfg!(feature = "llvm") {
        return;
    }
    let engine = Engine::new(Config {
        top_tier: Tier::Tier1,
        tier1_frames: 16,
        tier1_worker: kiln_runtime::Worker::Path(PathBuf::from("/no/such/worker")),
        ..eager()
    });
    let engine = engine.unwrap();
    let outcome = expected(rounds(20_000));
    for _ in 0..4 {
        assert_eq!(run(&engine, rounds(20_000)), outcome);
    }
    assert_eq!(tier(&engine), Some(Tier::Optimised));
    let stats = engine.stats();
    assert!(stats.compile_errors > 0, "{stats:?}");
    assert_eq!(stats.quarantined, 0, "it says nothing against the code");
}

#[test]
fn all_code_can_be_compiled_with_a_tier_at_once() {
    let engine = Engine::new(Config { first_tier: Tier::Optimised, ..Config::eager() }).unwrap();
    let tx = rounds(7);
    assert_eq!(run(&engine, tx.clone()), expected(tx));
    assert_eq!(tier(&engine), Some(Tier::Optimised));
    let none = Config {
        first_tier: Tier::Tier1,
        tier1_worker: kiln_runtime::Worker::Off,
        ..Config::eager()
    };
    let started = Engine::new(none).map(|_| ()).map_err(|error| error.to_string());
    let why = "tier 1 needs a worker executable that has LLVM, or a build with feature llvm";
    let expected = if cfg!(feature = "llvm") { Ok(()) } else { Err(why.to_owned()) };
    assert_eq!(started, expected);
}
