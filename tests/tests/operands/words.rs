//! Arithmetic, comparisons and shifts: many results in one frame, by fall through and by branches.
//!
//! **Owns** programs of results that do not halt. **Never** knows what a result should be: the interpreter does.

use crate::combine::{Combination, Known, Level, Position, Share, assert_regions, combinations};
use crate::emit::Emitter;
use crate::table::{word_opcodes, words};
use kiln_tests::Case;
use kiln_tests::compare::check;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, oracle};
use revm::bytecode::opcode::{self as op, OpCode};
use revm::primitives::{U256, hardfork::SpecId};

/// Results of one program.
const RESULTS_MAX: usize = 120;

/// Results of a block.
const BLOCK_RESULTS: usize = 5;

/// LLVM gets every pair in one way to know it.
const SHARE: Share = Share { regions: 1, optimised_ways: 2, every: 1, other_ways: 9 };
/// There are three times as many pairs.
const THREE_SHARE: Share = Share { regions: 1, optimised_ways: 1, every: 3, other_ways: 9 };
/// The same operations are in other programs already: here it is the branches that count.
const BRANCHES: Share = Share { regions: 1, optimised_ways: 1, every: 16, other_ways: 9 };

/// A program that stores one result after the other and returns them all.
#[derive(Default)]
struct Program {
    emitter: Emitter,
    results: usize,
}

impl Program {
    fn operands(&mut self, operands: &[(Option<U256>, Known)]) {
        for &(value, known) in operands.iter().rev() {
            self.emitter.operand(value.unwrap_or_default(), known);
        }
    }

    fn store(&mut self) {
        self.emitter.push_small(32 * self.results);
        self.emitter.code.push(op::MSTORE);
        self.results += 1;
        // A block with more instructions than a region may have is in none.
        if self.results.is_multiple_of(BLOCK_RESULTS) {
            self.emitter.code.push(op::JUMPDEST);
        }
    }

    fn result(&mut self, opcode: u8, operands: &[(Option<U256>, Known)]) {
        self.operands(operands);
        self.emitter.code.push(opcode);
        self.store();
    }

    /// The same word as both operands.
    fn result_of_one(&mut self, opcode: u8, value: U256, known: Known) {
        self.emitter.operand(value, known);
        self.emitter.code.extend([op::DUP1, opcode]);
        self.store();
    }

    /// A branch on the result, and on its negation.
    fn branch(&mut self, opcode: u8, operands: &[(Option<U256>, Known)]) {
        for negations in 0..2 {
            self.emitter.push_small(7);
            self.operands(operands);
            let code = &mut self.emitter.code;
            code.push(opcode);
            code.extend(vec![op::ISZERO; negations]);
            let target = (code.len() + 6) as u16;
            code.push(op::PUSH2);
            code.extend(target.to_be_bytes());
            code.extend([op::JUMPI, op::PC, op::ADD, op::JUMPDEST]);
            self.store();
        }
    }

    fn case(mut self) -> Case {
        self.emitter.push_small(32 * self.results);
        self.emitter.push_small(0);
        self.emitter.code.push(op::RETURN);
        let mut case = Case::of_code(SpecId::OSAKA, self.emitter.code);
        case.calldata = self.emitter.calldata;
        case.gas = 16_000_000;
        case
    }
}

/// Programs in the making, one for each level, of one opcode at a time.
struct Programs {
    engines: Engines,
    filling: [Program; 4],
    opcode: u8,
    run: [usize; 4],
}

impl Programs {
    fn new() -> Self {
        let engines = Engines::new().expect("engines start");
        Self { engines, filling: Default::default(), opcode: 0, run: [0; 4] }
    }

    fn add(&mut self, opcode: u8, level: Level, add: impl FnOnce(&mut Program)) {
        if self.opcode != opcode {
            self.finish();
            self.opcode = opcode;
        }
        let program = &mut self.filling[level as usize];
        add(program);
        if program.results >= RESULTS_MAX {
            self.run(level);
        }
    }

    fn run(&mut self, level: Level) {
        let case = std::mem::take(&mut self.filling[level as usize]).case();
        let name = OpCode::name_by_op(self.opcode);
        let result = oracle(&case, &CaseDb::new(&case)).transactions[0].name();
        assert_eq!(result, "Success(Return)", "{name}\n{case}");
        let run = &mut self.run[level as usize];
        if let Some(difference) = check(&self.engines, level.kinds(*run), &case) {
            panic!("{name}: {difference}\n{case}");
        }
        *run += 1;
        self.engines.clear();
    }

    fn finish(&mut self) {
        for level in Level::ALL {
            if self.filling[level as usize].results > 0 {
                self.run(level);
            }
        }
    }

    /// Runs the rest. All engines had programs.
    fn done(mut self) {
        self.finish();
        let [.., optimised, every] = self.run;
        assert_regions(&self.engines, optimised + every, every);
    }
}

fn position() -> Position {
    let defaults = words().into_iter().filter(|word| word.is_core).map(|word| Some(word.value));
    Position { words: words(), defaults: defaults.collect() }
}

fn run(programs: &mut Programs, opcode: u8, pairs: &[(usize, usize)], inputs: usize) {
    let share = if inputs > 2 { THREE_SHARE } else { SHARE };
    let positions: Vec<Position> = (0..inputs).map(|_| position()).collect();
    for Combination { operands, level } in combinations(&positions, pairs, share) {
        programs.add(opcode, level, |program| program.result(opcode, &operands));
    }
}

#[test]
fn one_operand() {
    let mut programs = Programs::new();
    for (opcode, _) in word_opcodes().filter(|(_, inputs)| *inputs == 1) {
        run(&mut programs, opcode, &[(0, 0)], 1);
        for Combination { operands, level } in combinations(&[position()], &[(0, 0)], BRANCHES) {
            programs.add(opcode, level, |program| program.branch(opcode, &operands));
        }
    }
    programs.done();
}

#[test]
fn two_operands() {
    let mut programs = Programs::new();
    for (opcode, _) in word_opcodes().filter(|(_, inputs)| *inputs == 2) {
        run(&mut programs, opcode, &[(0, 1)], 2);
        for word in words() {
            for known in Known::ALL {
                let add = |program: &mut Program| program.result_of_one(opcode, word.value, known);
                programs.add(opcode, Level::Regions, add);
            }
        }
    }
    programs.done();
}

#[test]
fn three_operands() {
    let mut programs = Programs::new();
    for (opcode, inputs) in word_opcodes().filter(|(_, inputs)| *inputs > 2) {
        assert_eq!(inputs, 3, "{}", OpCode::name_by_op(opcode));
        run(&mut programs, opcode, &[(0, 1), (0, 2), (1, 2)], 3);
    }
    programs.done();
}

#[test]
fn comparisons_with_branches() {
    let mut programs = Programs::new();
    let positions = [position(), position()];
    // What compilers fuse with the branch, and what leaves a word to branch on.
    for opcode in [op::LT, op::GT, op::SLT, op::SGT, op::EQ, op::SUB, op::XOR, op::AND] {
        for Combination { operands, level } in combinations(&positions, &[(0, 1)], BRANCHES) {
            programs.add(opcode, level, |program| program.branch(opcode, &operands));
        }
    }
    programs.done();
}
