//! Memory and host opcodes: each run has a frame of its own, whose result, gas and output are compared, because
//! most end out of gas.
//!
//! **Owns** two contracts: one of snippets, each of which runs the opcode once and returns all of memory, and one
//! that calls a snippet for each record of its calldata. **Never** knows what a result should be.

use crate::combine::{Combination, Level, Position, Share, assert_regions, combinations};
use crate::emit::Emitter;
use crate::table::{Class, ECHO, Role, class_of, opcodes};
use kiln_ir::{LOWERING, Lowering};
use kiln_tests::case::Contract;
use kiln_tests::compare::check;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, oracle};
use kiln_tests::{Case, asm};
use revm::bytecode::opcode::{self as op, OpCode};
use revm::interpreter::InstructionResult;
use revm::primitives::{Address, U256, address, hardfork::SpecId};
use std::collections::{BTreeMap, HashSet};

/// Snippets of one contract: a program gets so many regions at most.
const SNIPPETS_MAX: usize = 56;
/// Gas of a snippet: some of the expansions are paid.
const GAS: usize = 100_000;

/// Behind the opcode: a jump that is taken lands behind it.
const SKIPPED: [u8; 5] = [op::PUSH1, 1, op::PUSH1, 0, op::MSTORE];

/// Each is a region of its own, which is what costs.
const COMPILED: Share = Share { regions: 1, optimised_ways: 1, every: 8, other_ways: 9 };
/// There is nothing to compile but the way to the interpreter.
const INTERPRETED: Share = Share { regions: 8, optimised_ways: 1, every: 64, other_ways: 1 };

const SNIPPETS: Address = address!("0x0000000000000000000000000000000000541bb0");

/// Calls a snippet for each record of calldata.
fn driver(stride: usize) -> Vec<u8> {
    let text = format!(
        "PUSH 0
         loop: JUMPDEST CALLDATASIZE DUP2 LT ISZERO PUSH @end JUMPI
         PUSH {stride} DUP2 PUSH 0 CALLDATACOPY
         PUSH 0 PUSH 0 PUSH {stride} PUSH 0 PUSH 0 PUSH {SNIPPETS} PUSH {GAS} CALL POP
         PUSH {stride} ADD PUSH @loop JUMP
         end: JUMPDEST STOP"
    );
    asm::assemble(&text).expect("it assembles")
}

/// Fills memory, has return data where they are read, and jumps to the snippet that the first word says. Behind that
/// the end that all snippets jump to, by a word on the stack: so it is in the region of none. It returns all of
/// memory, with its size and the result where there is one.
fn dispatcher(opcode: u8) -> Vec<u8> {
    let call = match opcode {
        op::RETURNDATACOPY => "PUSH 0 PUSH 0 PUSH 96 PUSH 0 PUSH 4 GAS STATICCALL POP",
        _ => "",
    };
    let store = if has_result(opcode) { "PUSH 0xa0 MSTORE" } else { "" };
    let text = format!(
        "PUSH 96 PUSH 0 PUSH 0 CALLDATACOPY {call} PUSH @end PUSH 0 CALLDATALOAD JUMP
         end: JUMPDEST MSIZE PUSH 0x80 MSTORE {store} MSIZE PUSH 0 RETURN"
    );
    asm::assemble(&text).expect("it assembles")
}

fn has_result(opcode: u8) -> bool {
    OpCode::info_by_op(opcode).is_some_and(|info| info.outputs() == 1)
}

/// Snippets of one opcode.
struct Snippets {
    opcode: u8,
    code: Vec<u8>,
    /// Words of a record.
    words: usize,
    records: Vec<Vec<u8>>,
}

impl Snippets {
    fn new(opcode: u8) -> Self {
        let inputs = OpCode::info_by_op(opcode).map_or(0, |info| info.inputs() as usize);
        Self { opcode, code: dispatcher(opcode), words: 1 + inputs, records: Vec::new() }
    }

    fn add(&mut self, combination: &Combination) {
        let start = self.code.len();
        let nth = self.records.len();
        // Where a jump lands depends on how long its push is.
        let mut landing = start;
        let mut emitter = loop {
            let mut emitter = Emitter::new(nth);
            emitter.calldata.extend(U256::from(start).to_be_bytes::<32>());
            emitter.code.push(op::JUMPDEST);
            for &(value, known) in combination.operands.iter().rev() {
                emitter.operand(value.unwrap_or(U256::from(landing)), known);
            }
            let lands = start + emitter.code.len() + 1 + SKIPPED.len();
            if lands == landing {
                break emitter;
            }
            landing = lands;
        };
        emitter.code.push(self.opcode);
        self.end(&mut emitter.code);
        self.code.append(&mut emitter.code);
        emitter.calldata.resize(32 * self.words, 0);
        self.records.push(emitter.calldata);
    }

    /// To the end.
    fn end(&self, code: &mut Vec<u8>) {
        match self.opcode {
            op::JUMP | op::JUMPI => {
                code.extend(SKIPPED);
                code.extend([op::JUMPDEST, op::JUMP]);
            }
            opcode if has_result(opcode) => code.extend([op::SWAP1, op::JUMP]),
            _ => code.push(op::JUMP),
        }
    }

    fn case(self) -> Case {
        let contract = |code| Contract { code, balance: U256::from(1000), ..Contract::default() };
        let echo = asm::assemble("CALLDATASIZE PUSH 0 PUSH 0 CALLDATACOPY MSIZE PUSH 0 RETURN");
        let mut case = Case::of_code(SpecId::OSAKA, driver(32 * self.words));
        let contracts = BTreeMap::from([
            (SNIPPETS, contract(self.code)),
            (ECHO, contract(echo.expect("it assembles"))),
        ]);
        case.contracts.extend(contracts);
        case.calldata = self.records.concat();
        case.gas = 16_000_000;
        case
    }
}

/// Whether an opcode is run by the interpreter, whatever its operands are.
fn is_interpreted(opcode: u8) -> bool {
    matches!(
        LOWERING[opcode as usize],
        Lowering::Suspend | Lowering::End | Lowering::Unknown | Lowering::Instruction(_)
    )
}

/// The pairs of positions that are run in all combinations: ranges with each other, and everything with everything
/// where there are two. Whatever is in no pair is run alone.
fn pairs(roles: &[Role]) -> Vec<(usize, usize)> {
    let together = |a: Role, b: Role| (a == Role::Range && b == Role::Range) || roles.len() == 2;
    let all = (0..roles.len()).flat_map(|i| (i + 1..roles.len()).map(move |j| (i, j)));
    let mut pairs: Vec<_> = all.filter(|&(i, j)| together(roles[i], roles[j])).collect();
    let alone = |at: &usize| !pairs.iter().any(|(i, j)| i == at || j == at);
    let alone: Vec<_> = (0..roles.len()).filter(alone).map(|at| (at, at)).collect();
    pairs.extend(alone);
    pairs
}

/// Runs what is in the making.
fn run(engines: &Engines, snippets: Snippets, level: Level, nth: usize, seen: &mut Seen) {
    let name = OpCode::name_by_op(snippets.opcode);
    let records = snippets.records.len();
    let case = snippets.case();
    let outcome = oracle(&case, &CaseDb::new(&case));
    assert_eq!(outcome.transactions[0].name(), "Success(Stop)", "{name}\n{case}");
    let results = outcome.transactions[0].trace.results().map(|(result, _)| result);
    seen.results.extend(results);
    seen.frames += records;
    if let Some(difference) = check(engines, level.kinds(nth), &case) {
        panic!("{name}: {difference}\n{case}");
    }
    engines.clear();
}

/// What the frames came to.
#[derive(Default)]
struct Seen {
    frames: usize,
    results: HashSet<InstructionResult>,
}

/// All combinations of the opcodes for which `is_run`.
fn run_all(share: Share, is_run: impl Fn(u8) -> bool) -> Seen {
    let engines = Engines::new().expect("engines start");
    let mut seen = Seen::default();
    let mut runs = [0; 4];
    for opcode in opcodes().filter(|&opcode| is_run(opcode)) {
        let Some(Class::Frame(roles)) = class_of(opcode) else { continue };
        let position =
            |role: &Role| Position { words: role.words(), defaults: vec![role.default_word()] };
        let positions: Vec<Position> = roles.iter().map(position).collect();
        let mut filling = Level::ALL.map(|_| Snippets::new(opcode));
        for combination in combinations(&positions, &pairs(roles), share) {
            let level = combination.level as usize;
            filling[level].add(&combination);
            if filling[level].records.len() == SNIPPETS_MAX {
                let full = std::mem::replace(&mut filling[level], Snippets::new(opcode));
                run(&engines, full, combination.level, runs[level], &mut seen);
                runs[level] += 1;
            }
        }
        for (level, rest) in Level::ALL.into_iter().zip(filling) {
            run(&engines, rest, level, runs[level as usize], &mut seen);
        }
    }
    let [.., optimised, every] = runs;
    assert_regions(&engines, optimised + every, every);
    seen
}

#[test]
fn compiled_opcodes() {
    let seen = run_all(COMPILED, |opcode| !is_interpreted(opcode));
    assert!(seen.frames > 50_000, "{}", seen.frames);
    for result in [
        InstructionResult::Return,
        InstructionResult::Revert,
        InstructionResult::MemoryOOG,
        InstructionResult::OutOfOffset,
        InstructionResult::InvalidJump,
    ] {
        assert!(seen.results.contains(&result), "{result:?} is none of {:?}", seen.results);
    }
}

#[test]
fn interpreted_opcodes() {
    let seen = run_all(INTERPRETED, is_interpreted);
    assert!(seen.frames > 10_000, "{}", seen.frames);
    for result in [InstructionResult::Return, InstructionResult::SelfDestruct] {
        assert!(seen.results.contains(&result), "{result:?} is none of {:?}", seen.results);
    }
}
