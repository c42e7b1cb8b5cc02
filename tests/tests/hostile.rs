//! Code that wants to hurt: every program ends as the interpreter ends it, and the work of compiling
//! it is proportional to its size, or it is refused.

use kiln_ir::{Blocks, Config, Limits, OpcodeSet};
use kiln_runtime::{Config as EngineConfig, Engine};
use kiln_tests::Case;
use kiln_tests::asm::assemble;
use kiln_tests::compare::check;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind};
use revm::bytecode::opcode as op;
use revm::interpreter::instructions::gas_table_spec;
use revm::primitives::hardfork::SpecId;

/// Compiled words of any kind per byte of code, beyond a constant: far above what real code needs.
const WORK_PER_BYTE: usize = 40;

fn repeated(text: &str, bytes: usize) -> Vec<u8> {
    let unit = assemble(text).expect("assembles");
    unit.iter().copied().cycle().take(bytes / unit.len() * unit.len()).collect()
}

fn random(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| rng.u8(..)).collect()
}

/// Random opcodes of a set, with their immediates.
fn mix(seed: u64, opcodes: &[u8], bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..bytes).map(|_| opcodes[rng.usize(..opcodes.len())]).collect()
}

fn programs() -> Vec<(&'static str, Vec<u8>)> {
    const KIB: usize = 1024;
    vec![
        ("empty", Vec::new()),
        ("one byte", vec![op::ADD]),
        ("64 KiB of 5b", vec![op::JUMPDEST; 64 * KIB]),
        ("64 KiB of 6000 56", repeated("0x600056", 64 * KIB)),
        ("64 KiB of 5b 6000 56", repeated("0x5b600056", 64 * KIB)),
        ("64 KiB of 5f 5f 57", repeated("0x5f5f57", 64 * KIB)),
        ("64 KiB of 5b 5f 35 56", repeated("0x5b5f3556", 64 * KIB)),
        ("1 MiB of 5b", vec![op::JUMPDEST; KIB * KIB]),
        ("1 MiB of 00", vec![op::STOP; KIB * KIB]),
        ("1 MiB of random bytes", random(1, KIB * KIB)),
        ("over every limit", vec![op::JUMPDEST; 3 * KIB * KIB]),
        ("128 KiB of PUSH32", repeated("PUSH -1", 128 * KIB)),
        ("128 KiB of PUSH32 POP", repeated("PUSH -1 POP", 128 * KIB)),
        ("128 KiB of PUSH32 that differ", random_pushes(128 * KIB)),
        ("128 KiB of PUSH1 JUMPI", repeated("PUSH 1 PUSH 5 JUMPI 0x5b", 128 * KIB)),
        ("128 KiB of dupn and 5b", mix(2, &[op::DUPN, op::JUMPDEST, op::SWAPN], 128 * KIB)),
        ("128 KiB of exchange", repeated("0x5f5f5f5fe88ee82fe8", 128 * KIB)),
        ("128 KiB of SWAP16 DUP16", deep(repeated("SWAP16 DUP16 POP SWAP15", 128 * KIB))),
        ("128 KiB of shuffles", deep(mix(3, &shuffles(), 128 * KIB))),
        (
            "a deep stack and many exits",
            deep(repeated("SWAP16 SWAP1 SWAP9 CALLER SLOAD", 128 * KIB)),
        ),
        ("a full stack of constants and many exits", many_exits(128 * KIB)),
        ("PC MSTORE", repeated("PC PC MSTORE", 64 * KIB)),
        ("GAS POP", repeated("GAS POP", 128 * KIB)),
        ("DUP1 ADD", deep(repeated("DUP1 ADD", 128 * KIB))),
        ("calls", repeated("PC PC PC PC PC PC PC CALL", 64 * KIB)),
        ("24 KiB and more", large(0xfff0)),
    ]
}

fn random_pushes(bytes: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(9);
    let mut code = Vec::new();
    while code.len() < bytes {
        code.push(op::PUSH32);
        code.extend((0..32).map(|_| rng.u8(..)));
        code.push(op::POP);
    }
    code
}

fn shuffles() -> Vec<u8> {
    (op::DUP1..=op::SWAP16).chain([op::POP; 16]).chain([op::SLOAD, op::ADD]).collect()
}

/// Behind a stack of 40 different words.
fn deep(code: Vec<u8>) -> Vec<u8> {
    [assemble("40*( PC )").expect("assembles"), code].concat()
}

/// Every exit has as many constants to write as a block may hold.
fn many_exits(bytes: usize) -> Vec<u8> {
    let block = assemble("600*( PUSH1 7 ) 600*( PUSH0 SLOAD POP ) 600*( POP ) JUMPDEST");
    block.expect("assembles").into_iter().cycle().take(bytes).collect()
}

/// A program that does something at its far end only.
fn large(bytes: u16) -> Vec<u8> {
    let mut code = vec![op::PUSH2];
    code.extend(bytes.to_be_bytes());
    code.push(op::JUMP);
    code.resize(bytes as usize, op::INVALID);
    code.extend(assemble("JUMPDEST PC PUSH 0 MSTORE PUSH 32 PUSH 0 RETURN").expect("assembles"));
    code
}

#[test]
fn ends_as_the_interpreter_ends_it() {
    let engines = Engines::new().expect("engines start");
    for (name, code) in programs() {
        for (spec, gas) in [(SpecId::SHANGHAI, 300_000), (SpecId::AMSTERDAM, 3_000_000)] {
            let case = Case { gas, ..Case::of_code(spec, code.clone()) };
            if let Some(difference) = check(&engines, Kind::COMPARED, &case) {
                panic!("{name}, {spec:?}: {difference}");
            }
            engines.clear();
        }
    }
}

/// What optimising compilers find hard, entered at every leader that the code comes by.
#[test]
fn regions_end_as_the_interpreter_ends_them() {
    let engines = Engines::new().expect("engines start");
    // All of a code would take LLVM minutes: what runs of it is enough.
    let kinds = [
        Kind::EvaluatorRegions,
        Kind::OptimisedAll,
        #[cfg(feature = "llvm")]
        Kind::Tier1Seen,
    ];
    for (name, code) in kiln_region_tests::hostile::codes() {
        let case = Case::of_code(SpecId::AMSTERDAM, code);
        let case = Case { gas: 500_000, calldata: random(11, 512), ..case };
        if let Some(difference) = check(&engines, &kinds, &case) {
            panic!("{name}: {difference}");
        }
        engines.clear();
    }
}

#[test]
fn work_is_proportional_to_size() {
    let limits = Limits::default();
    for (name, code) in programs() {
        for spec in [SpecId::CANCUN, SpecId::AMSTERDAM] {
            let replaced = OpcodeSet::EMPTY;
            let config = Config { spec, gas: gas_table_spec(spec), replaced };
            let built = Blocks::scan(&code, &config, &limits)
                .and_then(|blocks| kiln_ir::build(&code, &blocks, &config, &limits, &|_| true));
            let Ok(module) = built else {
                // Refused is bounded.
                assert!(code.len() > 100 * 1024, "{name} is refused: {:?}", built.err());
                continue;
            };
            let work = module.insts.len() + module.exits.fixups.len() + module.exits.pool.len();
            let most = WORK_PER_BYTE * code.len() + 1000;
            assert!(work <= most, "{name}, {spec:?}: {work} is more than {most}");
            assert!(module.insts.len() <= limits.insts_max, "{name}");
            assert!(module.exits.fixups.len() <= limits.fixups_max, "{name}");
        }
    }
}

#[test]
fn random_bytes() {
    let engines = Engines::new().expect("engines start");
    for seed in 0..400 {
        let len = 1 << (seed % 11);
        let mut case = Case::of_code(SpecId::OSAKA, random(seed, len));
        case.spec = [SpecId::FRONTIER, SpecId::CANCUN, SpecId::AMSTERDAM][seed as usize % 3];
        case.calldata = random(seed + 1, 64);
        if let Some(difference) = check(&engines, Kind::COMPARED, &case) {
            panic!("seed {seed}: {difference}\n{case}");
        }
    }
    engines.clear();
}

/// Every prefix of a program: pushes and immediates are cut in all places.
#[test]
fn truncated() {
    let engines = Engines::new().expect("engines start");
    let text = "PUSH1 1 PUSH2 0x0203 PUSH 0x0102030405060708 PUSH -5 DUPN 0x80 SWAPN 0x80 EXCHANGE 0x8e \
        PUSH -1 POP 20*( PUSH 7 ) DUPN 0x80 EXCHANGE 0x2f PUSH 0 MSTORE PUSH32 1";
    let code = assemble(text).expect("assembles");
    for len in 0..=code.len() {
        for spec in [SpecId::CANCUN, SpecId::AMSTERDAM] {
            let case = Case::of_code(spec, &code[..len]);
            if let Some(difference) = check(&engines, Kind::COMPARED, &case) {
                panic!("{difference}\n{case}");
            }
        }
    }
}

/// A code over a limit stays interpreted, and is not tried again and again.
#[test]
fn a_failed_compile_is_remembered() {
    let engine = Engine::new(EngineConfig {
        limits: Limits { code_bytes_max: 64, ..Limits::default() },
        backend: kiln_runtime::Backend::Evaluator,
        ..EngineConfig::eager()
    })
    .expect("the engine starts");
    let mut case = Case::of_code(SpecId::CANCUN, vec![op::JUMPDEST; 100]);
    case.repeat = 10;
    let db = CaseDb::new(&case);
    let expected = kiln_tests::engine::oracle(&case, &db);
    let actual = kiln_tests::engine::tiered(&case, &db, &engine);
    assert_eq!(kiln_tests::compare::differences(&expected, &actual), Vec::<String>::new());
    let stats = engine.stats();
    assert_eq!((stats.compile_errors, stats.programs), (1, 0), "it is tried once");
}
