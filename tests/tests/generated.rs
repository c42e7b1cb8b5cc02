//! What generators make, in bounded numbers: on all engines, at many gas limits, and what it is made of.
//! `KILN_TEST_SEED` and `KILN_TEST_SETS` choose other programs. A failure prints how to repeat it, and a
//! minimised case, ready to be committed; it is written into the folder `found`, too.

use kiln_tests::Case;
use kiln_tests::db::CaseDb;
use kiln_tests::environment::{context, tx};
use kiln_tests::generate::seeded;
use kiln_tests::handler::CaseContext;
use kiln_tests::hunt::{Found, Hunter, INPUTS, LIMITS};
use revm::bytecode::opcode::{OPCODE_INFO, OpCode};
use revm::context::result::{ExecutionResult, HaltReason};
use revm::interpreter::Interpreter;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_types::Jumps;
use revm::{InspectEvm, Inspector, MainBuilder};
use std::collections::{BTreeMap, BTreeSet};

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Fails with everything that was found.
fn nothing_found(found: &[Found]) {
    if found.is_empty() {
        return;
    }
    for found in found {
        let _ = found.write(&std::env::current_dir().unwrap_or_default().join("found"));
    }
    let texts: Vec<String> = found.iter().map(Found::to_string).collect();
    panic!("{} differences\n{}", found.len(), texts.join("\n"));
}

#[test]
fn program_sets_on_all_engines() {
    let first = number("KILN_TEST_SEED", 1);
    let mut hunter = Hunter::new().expect("engines start");
    let code_bytes = hunter.clear();
    for seed in first..first + number("KILN_TEST_SETS", 260) {
        nothing_found(&hunter.set(seed, INPUTS));
    }
    assert_eq!(hunter.clear(), code_bytes, "code is left over");
    assert!(hunter.tally.runs.values().all(|(runs, _)| *runs == hunter.tally.cases));
}

#[test]
fn program_sets_at_many_gas_limits() {
    let first = number("KILN_TEST_SEED", 1);
    let mut hunter = Hunter::new().expect("engines start");
    for seed in first..first + number("KILN_TEST_SETS", 120) / 2 {
        nothing_found(&hunter.sweep(1_000_000 + seed, LIMITS));
    }
    assert!(hunter.tally.runs.values().all(|(runs, _)| *runs == hunter.tally.cases));
}

/// Opcodes that were executed, in all frames.
struct Executed {
    opcodes: BTreeSet<u8>,
}

impl Inspector<CaseContext, EthInterpreter> for Executed {
    fn step(&mut self, interp: &mut Interpreter, _: &mut CaseContext) {
        self.opcodes.insert(interp.bytecode.opcode());
    }
}

/// How a case ends, in a word, and what it executes.
fn run(case: &Case) -> (String, BTreeSet<u8>) {
    let mut executed = Executed { opcodes: BTreeSet::new() };
    let db = CaseDb::new(case);
    let mut evm = context(case, &db).build_mainnet_with_inspector(&mut executed);
    let result = evm.inspect_one_tx(tx(case, 0));
    drop(evm);
    let name = match result {
        Ok(ExecutionResult::Success { .. }) => "success".to_owned(),
        Ok(ExecutionResult::Revert { .. }) => "revert".to_owned(),
        Ok(ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. }) => "OutOfGas".to_owned(),
        Ok(ExecutionResult::Halt { reason, .. }) => format!("{reason:?}"),
        Err(_) => "refused".to_owned(),
    };
    (name, executed.opcodes)
}

/// A generator that has drifted into programs that fail at once, or that leaves an opcode out, tests nothing.
#[test]
fn every_opcode_is_executed_and_many_cases_succeed() {
    const SEEDS: u64 = 2000;
    let mut ends = BTreeMap::<String, u64>::new();
    let mut seen = BTreeMap::<u8, u64>::new();
    let mut executed = 0;
    for seed in 0..SEEDS {
        let (end, opcodes) = run(&seeded(seed));
        *ends.entry(end).or_default() += 1;
        executed += opcodes.len() as u64;
        for opcode in opcodes {
            *seen.entry(opcode).or_default() += 1;
        }
    }
    let missing: Vec<&str> = OPCODE_INFO
        .iter()
        .zip(0..=u8::MAX)
        .filter(|(info, opcode)| info.is_some() && !seen.contains_key(opcode))
        .filter_map(|(_, opcode)| OpCode::new(opcode).map(OpCode::as_str))
        .collect();
    assert!(missing.is_empty(), "never executed: {missing:?}");
    let share = |end: &str| ends.get(end).copied().unwrap_or_default() * 100 / SEEDS;
    assert!(share("success") + share("revert") >= 50, "{ends:?}");
    assert!(share("success") >= 35 && share("OutOfGas") <= 30, "{ends:?}");
    // Kinds of opcodes in a run.
    assert!(executed / SEEDS >= 15, "{executed} in {SEEDS} runs");
}
