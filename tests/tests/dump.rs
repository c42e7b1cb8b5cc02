//! What engines report at safepoints is what the interpreter comes through: the stack-dump oracle over case files and
//! generated cases, on all engines; and planted faults are found where they arise.

use kiln_runtime::{Compile, Config, Declared, Force, Tiered};
use kiln_tests::Case;
use kiln_tests::asm::assemble;
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::dump::{Watched, stepped};
use kiln_tests::engine::{context, oracle, transact};
use kiln_tests::generate::seeded;
use kiln_tests::handler::CaseContext;
use kiln_tests::perturbed::configs;
use revm::MainBuilder;
use revm::bytecode::opcode as op;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{Instruction, InstructionContext, InstructionExecResult};
use revm::primitives::{U256, hardfork::SpecId};
use std::path::Path;

/// Generated cases, each on all engines in one of the ways to run them.
const GENERATED: u64 = 300;
/// Of the cases an engine that takes a tenth of a second to compile one has one in so many.
const SLOW_EVERY: u64 = 16;

/// Engines of all kinds, by how they are run: with safepoints where there would be some, at every block, at every few
/// instructions, and with programs that are exchanged under running frames.
fn engines() -> Vec<Vec<(String, Watched)>> {
    let start = |perturb: &str, force: &str| {
        let perturb = perturb.parse().expect("the text of options");
        let force: Force = force.parse().expect("a mode");
        let configs = configs(perturb).into_iter();
        let engines = configs.map(|(name, config)| {
            let watched = Watched::new(Config { force, ..config }).expect("engines start");
            (format!("{name}, {perturb}, {force}"), watched)
        });
        engines.collect()
    };
    let ways = [
        ("none", "none"),
        ("every-exit", "none"),
        ("tiny-regions,every-exit", "none"),
        ("none", "exit=2,swap=17"),
    ];
    ways.map(|(perturb, force)| start(perturb, force)).into()
}

/// Follows all engines through a case; how many states were compared.
fn follow(engines: &[(String, Watched)], what: &str, nth: u64, case: &Case) -> usize {
    let (steps, expected) = stepped(case);
    let mut reports = 0;
    for (name, watched) in engines {
        if name.starts_with("tier 1") && !nth.is_multiple_of(SLOW_EVERY) {
            continue;
        }
        let followed = watched.follow(case, &steps);
        if let Some(divergence) = followed.divergence {
            panic!("{what}: {name}: {divergence}\n\n{case}");
        }
        let found = differences(&expected, &followed.outcome);
        assert!(found.is_empty(), "{what}: {name}: {}\n\n{case}", found.join("\n"));
        reports += followed.reports;
    }
    reports
}

#[test]
fn case_files() {
    let ways = engines();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let files = std::fs::read_dir(folder).expect("the folder of cases is there");
    let mut reports = 0;
    for (nth, file) in (0..).zip(files) {
        let path = file.expect("its entries can be listed").path();
        let text = std::fs::read_to_string(&path).expect("a case file can be read");
        let case: Case = text.parse().expect("a case file");
        for engines in &ways {
            reports += follow(engines, &path.display().to_string(), nth, &case);
            engines.iter().for_each(|(_, watched)| watched.engine().clear());
        }
    }
    assert!(reports > 100_000, "{reports} states");
}

#[test]
fn generated_cases() {
    let ways = engines();
    let mut reports = 0;
    for seed in 5_000_000..5_000_000 + GENERATED {
        let engines = &ways[seed as usize % ways.len()];
        reports +=
            follow(engines, &format!("seed {seed}"), seed / ways.len() as u64, &seeded(seed));
        if seed % 128 < ways.len() as u64 {
            engines.iter().for_each(|(_, watched)| watched.engine().clear());
        }
    }
    assert!(reports > 100_000, "{reports} states");
}

/// The oracle of states is the oracle of results.
#[test]
fn stepping_changes_nothing() {
    for seed in 6_000_000..6_000_000 + GENERATED {
        let case = seeded(seed);
        let found = differences(&oracle(&case, &CaseDb::new(&case)), &stepped(&case).1);
        assert!(found.is_empty(), "seed {seed}: {}\n\n{case}", found.join("\n"));
    }
}

/// XOR as it is on another chain: one too much.
fn one_too_much(
    context: InstructionContext<'_, CaseContext, EthInterpreter>,
) -> InstructionExecResult {
    let interpreter = context.interpreter;
    let (Ok(a), Ok(b)) = (interpreter.stack.pop(), interpreter.stack.pop()) else {
        return Err(revm::interpreter::InstructionResult::StackUnderflow);
    };
    match interpreter.stack.push((a ^ b).wrapping_add(U256::from(1))) {
        true => Ok(()),
        false => Err(revm::interpreter::InstructionResult::StackOverflow),
    }
}

/// Compiled code has revm's own XOR where the chain has another one, because it was declared to have revm's: a word that
/// is wrong long before the result is.
#[test]
fn a_planted_fault_is_found_where_it_arises() {
    let text = "
        PUSH1 5
        JUMPDEST
        DUP1 PUSH2 0x1234 MUL PUSH1 7 ADD
        PUSH0 CALLDATALOAD
        XOR
        PUSH1 0x40 MSTORE
        PUSH1 1 SWAP1 SUB
        DUP1 PUSH1 2 JUMPI
        PUSH1 0x20 PUSH1 0x40 RETURN";
    let code = assemble(text).expect("the text assembles");
    let xor = code.iter().position(|&byte| byte == op::XOR).expect("there is one");
    let case = Case::of_code(SpecId::CANCUN, code);
    let evm = || {
        let mut evm = context(&case, &CaseDb::new(&case)).build_mainnet();
        evm.instruction.insert_instruction(op::XOR, Instruction::new(one_too_much), 3);
        evm
    };
    let perturb = "tiny-regions,every-exit".parse().expect("the text of options");
    // Those that run whole contracts: kiln's own interpreter, where it counts, has revm's XOR, too.
    let whole = configs(perturb).into_iter().filter(|(_, config)| config.compile == Compile::All);
    for (name, config) in whole {
        let watched = Watched::new(config).expect("the engine starts");
        let followed = watched.follow_on(&case, evm, |evm, engine| {
            transact(&case, Tiered::new(evm, engine).declare(Declared::Mainnet))
        });
        let divergence =
            followed.divergence.unwrap_or_else(|| panic!("{name}: the fault is not found"));
        let text = divergence.to_string();
        let expected = divergence.expected.as_ref().expect("the interpreter comes there, too");
        assert!(divergence.since.iter().any(|&(pc, _)| pc == xor), "{name}: {text}");
        assert!(divergence.since.len() <= 3, "{name}: {text}");
        assert_eq!((expected.pc, expected.gas), (divergence.found.pc, divergence.found.gas));
        let wrong: Vec<_> =
            expected.stack.iter().zip(&divergence.found.stack).filter(|(a, b)| a != b).collect();
        assert_eq!(wrong.len(), 1, "{name}: {text}");
        assert!(text.contains("XOR"), "{name}: {text}");
    }
}

/// Without jumps, too, there is a safepoint at every few instructions.
#[test]
fn safepoints_are_dense() {
    let line =
        "PUSH1 9 PUSH1 3 MUL PUSH0 MSTORE PUSH1 32 PUSH0 KECCAK256 PUSH1 1 SSTORE ".repeat(20);
    let code = assemble(&line).expect("the text assembles");
    let case = Case::of_code(SpecId::CANCUN, code);
    let (steps, _) = stepped(&case);
    let perturb = "tiny-regions,every-exit".parse().expect("the text of options");
    for (name, config) in configs(perturb) {
        if config.compile == Compile::All {
            let watched = Watched::new(config).expect("the engine starts");
            let followed = watched.follow(&case, &steps);
            assert!(followed.divergence.is_none(), "{name}");
            // In front of each stretch, and behind it.
            let (reports, steps) = (followed.reports, steps.len());
            assert!(reports > steps / 2, "{name}: {reports} states, {steps} instructions");
        }
    }
}

/// A report costs nothing where nobody asks for it, and does not change what is compiled.
#[test]
fn watched_engines_do_what_others_do() {
    let config = Config::eager();
    let case = seeded(5_000_003);
    let plain = kiln_runtime::Engine::new(config.clone()).expect("the engine starts");
    let watched = Watched::new(config).expect("the engine starts");
    kiln_tests::engine::tiered(&case, &CaseDb::new(&case), &plain);
    watched.follow(&case, &stepped(&case).0);
    let counts = |stats: kiln_runtime::Stats| (stats.native_entries, stats.code_bytes, stats.hits);
    assert_eq!(counts(plain.stats()), counts(watched.engine().stats()));
}
