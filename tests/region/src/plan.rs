//! Words that are written in front of exits lie there when an exit relies on it.

use crate::{
    build::{Builder, ones},
    run::{compile, machine, run},
};
use kiln_abi::{ExitId, Helper, HelperTable};
use kiln_ir::{
    Cond, Op,
    ssa::{self, BlockId, Target, Terminator, Value},
};
use revm_primitives::U256;

/// Loads of covered memory with exits that write one word to slot 0: enough that it is written early, in
/// loops too.
fn loads(builder: &mut Builder, block: BlockId, word: Value) {
    for _ in 0..10 {
        let exit = leave(builder, word);
        let at = builder.constant(U256::ZERO);
        let load = ssa::Op::Word(Op::Mload);
        builder.inst(block, load, &[at], 0, Some(U256::MAX), Some(exit));
    }
}

/// An exit at which the word lies in slot 0, on top.
fn leave(builder: &mut Builder, word: Value) -> ExitId {
    let exit = builder.exit(&[(0, word)]);
    builder.function.exits.exits[exit.0 as usize].height = 1;
    exit
}

fn words(builder: &mut Builder, block: BlockId) -> [Value; 2] {
    let a = builder.slot(block, -1);
    let b = builder.slot(block, -2);
    [builder.word(block, Op::Add, &[a, b], 0), builder.word(block, Op::Xor, &[a, b], 0)]
}

const A: u64 = 0b1100;
const B: u64 = 0b1010;

fn run_with(builder: &Builder, third: u64) -> (ExitId, U256) {
    let mut machine = machine();
    for (slot, word) in [(-1, A), (-2, B), (-3, third)] {
        machine.set(slot, U256::from(word));
    }
    let exit = run(&compile(&builder.function), &mut machine).exit;
    (exit, machine.get(0))
}

pub fn an_instruction_may_overwrite_what_was_written() {
    unsafe extern "C" fn push(
        _: *mut kiln_abi::Context,
        _: kiln_abi::ExitRecord,
        sp: *mut kiln_abi::Word,
    ) -> u64 {
        // SAFETY: the stack pointer of the test, above which is room.
        unsafe { *sp = kiln_abi::Word::MAX };
        kiln_abi::CONTINUE
    }
    let mut builder = Builder::new(2, 1);
    let block = builder.block(0);
    let [sum, _] = words(&mut builder, block);
    loads(&mut builder, block, sum);
    // Pushes a word that nobody reads.
    let exit = builder.exit(&[]);
    builder.inst(block, ssa::Op::Run(Helper::Instruction), &[], 0, None, Some(exit));
    let done = leave(&mut builder, sum);
    builder.end(block, Terminator::Jump(Target::Exit(done)));
    let mut machine = machine();
    // SAFETY: the table that `machine` has is a static.
    let table = HelperTable { instruction: push, ..unsafe { *machine.cx.helpers } };
    machine.cx.helpers = &table;
    machine.set(-1, U256::from(A));
    machine.set(-2, U256::from(B));
    assert_eq!(run(&compile(&builder.function), &mut machine).exit, done);
    assert_eq!(machine.get(0), U256::from(A + B));
}

pub fn a_word_may_be_written_on_one_path_only() {
    let mut builder = Builder::new(3, 1);
    let blocks = [(); 4].map(|()| builder.block(0));
    let [first, left, right, meet] = blocks;
    let which = builder.slot(first, -3);
    let [sum, _] = words(&mut builder, first);
    let zero = builder.constant(U256::ZERO);
    let to = |block| Target::Block { block, args: Vec::new() };
    let branch =
        Terminator::Branch { cond: Cond::Eq, a: which, b: zero, taken: to(left), next: to(right) };
    builder.end(first, branch);
    loads(&mut builder, left, sum);
    builder.end(left, Terminator::Jump(to(meet)));
    builder.end(right, Terminator::Jump(to(meet)));
    let done = leave(&mut builder, sum);
    builder.end(meet, Terminator::Jump(Target::Exit(done)));
    assert_eq!(run_with(&builder, 0), (done, U256::from(A + B)));
    assert_eq!(run_with(&builder, 1), (done, U256::from(A + B)));
}

pub fn a_loop_may_overwrite_what_was_written_in_front_of_it() {
    let mut builder = Builder::new(3, 1);
    let [first, head, body] = [(); 3].map(|()| builder.block(0));
    let count = builder.narrow_slot(first, -3, ones(8));
    let [sum, other] = words(&mut builder, first);
    loads(&mut builder, first, sum);
    builder.end(first, Terminator::Jump(Target::Block { block: head, args: vec![count] }));
    let left = builder.param(head, ones(8));
    let zero = builder.constant(U256::ZERO);
    let done = leave(&mut builder, sum);
    let next = Target::Block { block: body, args: Vec::new() };
    let taken = Target::Exit(done);
    builder.end(head, Terminator::Branch { cond: Cond::Eq, a: left, b: zero, taken, next });
    loads(&mut builder, body, other);
    let one = builder.constant(U256::from(1));
    let sub = ssa::Op::Word(Op::Sub);
    let less = builder.inst(body, sub, &[left, one], 0, Some(ones(8)), None).unwrap();
    let polled = leave(&mut builder, other);
    let back = Target::Back { block: head, args: vec![less], exit: polled };
    builder.end(body, Terminator::Jump(back));
    for rounds in 0..3 {
        assert_eq!(run_with(&builder, rounds), (done, U256::from(A + B)), "{rounds}");
    }
}

pub fn slots_with_words_of_their_own_are_left_alone() {
    // Slot 0 is not written by the last exit: there lies what the instruction pushed.
    let mut builder = Builder::new(2, 1);
    let block = builder.block(0);
    let [sum, _] = words(&mut builder, block);
    let exit = builder.exit(&[]);
    builder.inst(block, ssa::Op::Run(Helper::Instruction), &[], 0, None, Some(exit));
    let _pushed = builder.slot(block, 0);
    loads(&mut builder, block, sum);
    let done = builder.exit(&[]);
    builder.function.exits.exits[done.0 as usize].height = 1;
    builder.end(block, Terminator::Jump(Target::Exit(done)));
    let mut machine = machine();
    machine.set(0, U256::from(77));
    assert_eq!(run(&compile(&builder.function), &mut machine).exit, done);
    assert_eq!(machine.get(0), U256::from(77));
}
