//! Every arithmetic, comparison and shift opcode over all pairs of operand classes, each operand
//! known at compile time or not, on all engines.
//!
//! The opcodes come from revm's own table: what takes one, two or three words, gives one, and is
//! below the hash opcode. So a new opcode can not be forgotten.

use kiln_tests::Case;
use kiln_tests::asm::push_word;
use kiln_tests::compare::check;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, oracle};
use revm::bytecode::opcode::{self as op, OpCode};
use revm::primitives::{U256, hardfork::SpecId};
use std::sync::atomic::{AtomicU64, Ordering};

/// Results of one program.
const RESULTS_MAX: usize = 120;

fn classes() -> Vec<U256> {
    let one = U256::from(1);
    let power = |bits: usize| one << bits;
    let mut classes: Vec<U256> = [0u64, 1, 2, 7, 30, 31, 32, 63, 64, 127, 128, 255, 256]
        .map(U256::from)
        .into_iter()
        .collect();
    for bits in [63, 64, 127, 128, 192, 255] {
        classes.extend([power(bits) - one, power(bits), power(bits) + one]);
    }
    classes.extend((0..4).map(|limb| U256::from(u64::MAX) << (64 * limb)));
    classes.extend([U256::MAX, U256::MAX - one, power(255) - one, power(64) | power(200)]);
    classes.sort_unstable();
    classes.dedup();
    classes
}

fn opcodes() -> impl Iterator<Item = (u8, usize)> {
    (0..op::KECCAK256).filter_map(|opcode| {
        let info = OpCode::info_by_op(opcode)?;
        (info.inputs() > 0 && info.outputs() == 1).then_some((opcode, info.inputs() as usize))
    })
}

/// Programs so far. Relaxed: only the number counts.
static PROGRAMS: AtomicU64 = AtomicU64::new(0);

/// A program that stores one result after the other and returns them all.
struct Program {
    code: Vec<u8>,
    calldata: Vec<u8>,
    results: usize,
}

impl Program {
    fn new() -> Self {
        Self { code: Vec::new(), calldata: Vec::new(), results: 0 }
    }

    fn operand(&mut self, value: U256, known: bool) {
        if known {
            return push_word(&mut self.code, value);
        }
        push_word(&mut self.code, U256::from(self.calldata.len()));
        self.code.push(op::CALLDATALOAD);
        self.calldata.extend(value.to_be_bytes::<32>());
    }

    /// `known` is a bit per operand, the top of the stack first.
    fn result(&mut self, opcode: u8, operands: &[U256], known: usize) {
        for (index, &value) in operands.iter().enumerate().rev() {
            self.operand(value, known >> index & 1 != 0);
        }
        self.code.push(opcode);
        push_word(&mut self.code, U256::from(32 * self.results));
        self.code.push(op::MSTORE);
        self.results += 1;
    }

    /// The same word as both operands.
    fn result_of_one(&mut self, opcode: u8, value: U256) {
        self.operand(value, false);
        self.code.extend([op::DUP1, opcode]);
        push_word(&mut self.code, U256::from(32 * self.results));
        self.code.push(op::MSTORE);
        self.results += 1;
    }

    /// A branch on the result, and on its negation.
    fn branch(&mut self, opcode: u8, operands: &[U256], known: usize) {
        for negations in 0..2 {
            push_word(&mut self.code, U256::from(7));
            for (index, &value) in operands.iter().enumerate().rev() {
                self.operand(value, known >> index & 1 != 0);
            }
            self.code.push(opcode);
            self.code.extend(vec![op::ISZERO; negations]);
            let target = (self.code.len() + 6) as u16;
            self.code.push(op::PUSH2);
            self.code.extend(target.to_be_bytes());
            self.code.extend([op::JUMPI, op::PC, op::ADD, op::JUMPDEST]);
            push_word(&mut self.code, U256::from(32 * self.results));
            self.code.push(op::MSTORE);
            self.results += 1;
        }
    }

    fn check_if_full(&mut self, engines: &Engines, opcode: u8, force: bool) {
        if self.results < RESULTS_MAX && !(force && self.results > 0) {
            return;
        }
        let mut program = std::mem::replace(self, Self::new());
        push_word(&mut program.code, U256::from(32 * program.results));
        push_word(&mut program.code, U256::ZERO);
        program.code.push(op::RETURN);
        let mut case = Case::of_code(SpecId::OSAKA, program.code);
        case.calldata = program.calldata;
        case.gas = 16_000_000;
        let kinds = Kind::thinned(Kind::WHOLE, PROGRAMS.fetch_add(1, Ordering::Relaxed));
        let db = CaseDb::new(&case);
        let name = oracle(&case, &db).transactions[0].name();
        assert_eq!(name, "Success(Return)", "{}\n{case}", OpCode::name_by_op(opcode));
        if let Some(difference) = check(engines, kinds, &case) {
            panic!("{}: {difference}\n{case}", OpCode::name_by_op(opcode));
        }
        engines.clear();
    }
}

#[test]
fn two_operands() {
    let engines = Engines::new().expect("engines start");
    let classes = classes();
    for (opcode, _) in opcodes().filter(|(_, inputs)| *inputs == 2) {
        let mut program = Program::new();
        for &a in &classes {
            for &b in &classes {
                for known in 0..4 {
                    program.result(opcode, &[a, b], known);
                }
                program.check_if_full(&engines, opcode, false);
            }
            program.result_of_one(opcode, a);
        }
        program.check_if_full(&engines, opcode, true);
    }
}

#[test]
fn comparisons_with_branches() {
    let engines = Engines::new().expect("engines start");
    let classes = classes();
    for opcode in [op::LT, op::GT, op::SLT, op::SGT, op::EQ, op::SUB, op::XOR, op::AND] {
        let mut program = Program::new();
        for &a in &classes {
            for &b in &classes {
                for known in 0..4 {
                    program.branch(opcode, &[a, b], known);
                }
                program.check_if_full(&engines, opcode, false);
            }
        }
        program.check_if_full(&engines, opcode, true);
    }
}

#[test]
fn one_operand() {
    let engines = Engines::new().expect("engines start");
    for (opcode, _) in opcodes().filter(|(_, inputs)| *inputs == 1) {
        let mut program = Program::new();
        for &a in &classes() {
            for known in 0..2 {
                program.result(opcode, &[a], known);
                program.branch(opcode, &[a], known);
            }
            program.check_if_full(&engines, opcode, false);
        }
        program.check_if_full(&engines, opcode, true);
    }
}

#[test]
fn three_operands() {
    let engines = Engines::new().expect("engines start");
    let few: Vec<U256> = classes().into_iter().step_by(4).chain([U256::MAX]).collect();
    for (opcode, _) in opcodes().filter(|(_, inputs)| *inputs == 3) {
        let mut program = Program::new();
        for &a in &few {
            for &b in &few {
                for &c in &few {
                    for known in [0, 7, 4] {
                        program.result(opcode, &[a, b, c], known);
                    }
                    program.check_if_full(&engines, opcode, false);
                }
            }
        }
        program.check_if_full(&engines, opcode, true);
    }
}
