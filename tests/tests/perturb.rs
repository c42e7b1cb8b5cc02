//! Perturbed engines: slow paths, tiny regions, every way out, nothing kept. None of it shows in any result, and each
//! changes what is compiled.

use kiln_runtime::{Engine, Perturb, Stats};
use kiln_tests::Case;
use kiln_tests::asm::push_word;
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{oracle, tiered};
use kiln_tests::generate::seeded;
use kiln_tests::minimise::minimise;
use kiln_tests::perturbed::{engines, perturbations};
use revm::bytecode::opcode::{self as op, OpCode};
use revm::primitives::{U256, hardfork::SpecId};
use std::path::Path;

/// Generated cases for each perturbation, unless `KILN_TEST_CASES` says otherwise.
const GENERATED: u64 = 120;
/// The seed of the first, unless `KILN_TEST_SEED` says otherwise.
const SEED: u64 = 7_000_000;
/// Cases for an engine that takes a tenth of a second to compile one: one in so many.
const SLOW_EVERY: usize = 16;

type Named = (String, Engine);

fn start(perturb: Perturb) -> Vec<Named> {
    engines(perturb).expect("engines start")
}

fn perturb(text: &str) -> Perturb {
    text.parse().expect("the text of options")
}

fn details(case: &Case, engine: &Engine) -> Vec<String> {
    let db = CaseDb::new(case);
    differences(&oracle(case, &db), &tiered(case, &db, engine))
}

/// All engines do what the oracle does, or the case is printed, minimised.
fn agree(engines: &[Named], nth: usize, what: &str, case: &Case) {
    let db = CaseDb::new(case);
    let expected = oracle(case, &db);
    for (name, engine) in engines {
        if name.starts_with("tier 1") && !nth.is_multiple_of(SLOW_EVERY) {
            continue;
        }
        let found = differences(&expected, &tiered(case, &db, engine));
        if found.is_empty() {
            continue;
        }
        let fails = |case: &Case| {
            engine.clear();
            !details(case, engine).is_empty()
        };
        let small = if fails(case) { minimise(case.clone(), fails) } else { case.clone() };
        panic!("{what}: {name}:\n{}\n\n{small}", found.join("\n"));
    }
}

fn clear(engines: &[Named]) {
    engines.iter().for_each(|(_, engine)| engine.clear());
}

fn case_files() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of cases is there")
        .map(|entry| entry.expect("its entries can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "evm"))
        .collect();
    files.sort();
    let case = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("a case file can be read");
        text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().map(|path| (path.display().to_string(), case(path))).collect()
}

#[test]
fn case_files_agree() {
    let files = case_files();
    assert!(files.len() > 100, "{} case files", files.len());
    for perturb in perturbations() {
        let engines = start(perturb);
        for (nth, (name, case)) in files.iter().enumerate() {
            agree(&engines, nth, name, case);
            clear(&engines);
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

#[test]
fn generated_cases_agree() {
    let (first, count) = (number("KILN_TEST_SEED", SEED), number("KILN_TEST_CASES", GENERATED));
    for perturb in perturbations() {
        let engines = start(perturb);
        for seed in first..first + count {
            agree(&engines, seed as usize, &format!("seed {seed}"), &seeded(seed));
            if seed % 64 == 0 {
                clear(&engines);
            }
        }
        // What was never entered was not tested.
        for (name, engine) in &engines {
            assert!(engine.stats().native_entries > 0, "{name}: {:?}", engine.stats());
        }
    }
}

/// Values at the edges of limbs and signs.
fn classes() -> Vec<U256> {
    let one = U256::from(1);
    let mut classes = vec![U256::ZERO, one, U256::from(31), U256::from(255), U256::MAX];
    for bits in [64, 128, 255] {
        classes.extend([(one << bits) - one, one << bits]);
    }
    classes.push(U256::from(u64::MAX) << 64);
    classes
}

/// Results of an opcode for all operands of these classes: known when compiled, in memory, or the same word.
fn operands(opcode: u8, inputs: usize) -> Vec<Case> {
    let classes = classes();
    let few: Vec<U256> = classes.iter().copied().step_by(if inputs == 3 { 3 } else { 1 }).collect();
    let mut combinations = vec![Vec::new()];
    for _ in 0..inputs {
        let longer = |words: &Vec<U256>| {
            let words = words.clone();
            few.clone().into_iter().map(move |word| [&words[..], &[word]].concat())
        };
        combinations = combinations.iter().flat_map(longer).collect();
    }
    combinations.chunks(40).map(|chunk| program(opcode, chunk)).collect()
}

fn program(opcode: u8, combinations: &[Vec<U256>]) -> Case {
    let (mut code, mut calldata, mut results) = (Vec::new(), Vec::new(), 0);
    for words in combinations {
        for known in [0, 1, usize::MAX] {
            for (index, &word) in words.iter().enumerate().rev() {
                if known >> index & 1 != 0 {
                    push_word(&mut code, word);
                } else {
                    push_word(&mut code, U256::from(calldata.len()));
                    code.push(op::CALLDATALOAD);
                    calldata.extend(word.to_be_bytes::<32>());
                }
            }
            code.push(opcode);
            push_word(&mut code, U256::from(32 * results));
            code.push(op::MSTORE);
            results += 1;
        }
    }
    push_word(&mut code, U256::from(32 * results));
    code.extend([op::PUSH0, op::RETURN]);
    let gas = 16_000_000;
    Case { gas, calldata, ..Case::of_code(SpecId::OSAKA, code) }
}

#[test]
fn operands_agree() {
    let mut nth = 0;
    for perturb in ["no-inline", "spill", "no-inline,tiny-regions,every-exit,spill"].map(perturb) {
        let engines = start(perturb);
        for opcode in 0..op::KECCAK256 {
            let Some(info) = OpCode::info_by_op(opcode) else { continue };
            if info.inputs() == 0 || info.outputs() != 1 {
                continue;
            }
            for case in operands(opcode, info.inputs().into()) {
                agree(&engines, nth, OpCode::name_by_op(opcode), &case);
                nth += 1;
                clear(&engines);
            }
        }
    }
}

/// A loop over arithmetic, memory, hashes, storage and logs.
fn looping() -> Case {
    let text = "
        PUSH1 9
        JUMPDEST
        DUP1 PUSH1 3 MUL PUSH1 5 DUP2 SHL DIV PUSH0 MSTORE
        PUSH0 MLOAD PUSH1 32 MSTORE
        PUSH1 64 PUSH0 KECCAK256 DUP2 SSTORE
        DUP1 SLOAD PUSH1 64 MSTORE
        PUSH1 32 PUSH0 LOG0
        DUP1 PUSH1 2 EXP POP
        PUSH1 1 SWAP1 SUB
        DUP1 PUSH1 2 JUMPI
        PUSH1 96 PUSH0 RETURN";
    Case::of_code(SpecId::OSAKA, kiln_tests::asm::assemble(text).expect("the text assembles"))
}

/// What each engine did for the loop.
fn stats(perturb: Perturb) -> Vec<Stats> {
    let case = looping();
    let of = |(name, engine): &Named| {
        // Compiled by the second one, where it takes heat.
        for _ in 0..3 {
            let found = details(&case, engine);
            assert!(found.is_empty(), "{name}:\n{}", found.join("\n"));
        }
        engine.stats()
    };
    start(perturb).iter().map(of).collect()
}

/// An option that became one without effect would test nothing.
#[test]
fn each_option_changes_what_is_compiled() {
    let plain = stats(Perturb::NONE);
    for perturb in perturbations() {
        for (plain, stats) in plain.iter().zip(stats(perturb)) {
            let why = || format!("{perturb}: {stats:?}, not {plain:?}");
            let is_native = plain.code_bytes > 0;
            if is_native {
                assert_ne!(stats.code_bytes, plain.code_bytes, "{}", why());
            }
            // Regions are left by the host's doing.
            let is_every_exit = Perturb { every_exit: false, ..perturb } == Perturb::NONE;
            if is_native && plain.optimised_regions > 0 && !is_every_exit {
                assert_ne!(stats.optimised_bytes, plain.optimised_bytes, "{}", why());
            }
            if perturb.tiny_regions {
                assert!(stats.regions > 2 * plain.regions, "{}", why());
                let more = plain.optimised_regions > 0;
                assert!(!more || stats.optimised_regions > plain.optimised_regions, "{}", why());
            }
            if perturb.every_exit {
                assert!(stats.native_entries > 2 * plain.native_entries, "{}", why());
            }
        }
    }
}
