//! The evaluator: what a function means, one instruction at a time.
//!
//! **Owns** the order of things, as [`super::function`] describes it: the stack range, charges, stores
//! before a way out and before an instruction of the host. Compiled code must do the same; tests compare
//! the two.
//!
//! **Callers guarantee** a function that passed [`super::verify`], and a [`Machine`] whose stack pointer
//! stands one past the top word where the function is entered. Each cycle charges gas or polls, which
//! bounds the work.
//!
//! **Never** makes a state canonical: it performs the stores of the exit, and the host applies its
//! fixups.

use super::function::{BlockId, Function, Inst, Op, Target, Terminator, Value};
use crate::{
    eval::Environment,
    fold::{self, to_u256},
    module,
};
use core::ops::ControlFlow::{self, Break, Continue};
use kiln_abi::{ExitId, Helper, STACK_LIMIT, Word};

/// What a function runs on: the machine of block IR, whose stack pointer does not move here, with
/// guarded helpers that give their result as a value.
pub trait Machine: crate::eval::Machine {
    /// As [`crate::eval::Machine::guarded`] for a helper with a result; none if it refused.
    fn guarded_value(
        &mut self,
        helper: Helper,
        exit: ExitId,
        args: [Option<Word>; 3],
    ) -> Option<Word>;
}

/// Runs a function until it leaves.
///
/// # Panics
/// If the function breaks a rule of [`super::verify`], or a value is over its bound.
pub fn run(function: &Function, machine: &mut impl Machine) -> ExitId {
    let height = machine.height();
    let fits = height >= usize::from(function.need)
        && height.saturating_add(usize::from(function.grow)) <= STACK_LIMIT;
    if !fits {
        return function.entry_exit;
    }
    let values = vec![Word::ZERO; function.values.len()];
    let mut frame = Frame { function, machine, values };
    let mut block = BlockId(0);
    loop {
        match frame.block(block) {
            Continue(next) => block = next,
            Break(exit) => return exit,
        }
    }
}

struct Frame<'a, M> {
    function: &'a Function,
    machine: &'a mut M,
    values: Vec<Word>,
}

impl<M: Machine> Frame<'_, M> {
    fn value(&self, value: Value) -> Word {
        match self.function.constant(value) {
            Some(word) => word,
            None => self.values[value.0 as usize],
        }
    }

    fn define(&mut self, value: Value, word: Word) {
        let max = self.function.max(value);
        assert!(to_u256(word) <= to_u256(max), "eval: v{} = {word} is over {max}", value.0);
        self.values[value.0 as usize] = word;
    }

    /// Performs the stores of an exit.
    fn store(&mut self, exit: ExitId) {
        for store in self.function.stores(exit) {
            let word = self.value(store.value);
            self.machine.set_word(store.slot, word);
        }
    }

    fn leave<T>(&mut self, exit: ExitId) -> ControlFlow<ExitId, T> {
        self.store(exit);
        Break(exit)
    }

    fn block(&mut self, id: BlockId) -> ControlFlow<ExitId, BlockId> {
        let function = self.function;
        let block = function.block(id);
        if let Some(exit) = block.gas_exit {
            match self.machine.gas().checked_sub(u64::from(block.gas)) {
                Some(left) => self.machine.set_gas(left),
                None => return self.leave(exit),
            }
        }
        for inst in &block.insts {
            self.inst(inst)?;
        }
        let target = match &block.terminator {
            Terminator::Jump(target) => target,
            Terminator::Branch { cond, a, b, taken, next } => {
                let holds = fold::compare(*cond, &self.value(*a), &self.value(*b));
                if holds { taken } else { next }
            }
        };
        self.go(target)
    }

    fn go(&mut self, target: &Target) -> ControlFlow<ExitId, BlockId> {
        let (block, args) = match target {
            Target::Exit(exit) => return self.leave(*exit),
            Target::Back { exit, .. } if !self.machine.poll() => return self.leave(*exit),
            Target::Block { block, args } | Target::Back { block, args, .. } => (*block, args),
        };
        // All arguments are read before a parameter is written.
        let words: Vec<Word> = args.iter().map(|&arg| self.value(arg)).collect();
        let function = self.function;
        for (&param, word) in function.block(block).params.iter().zip(words) {
            self.define(param, word);
        }
        Continue(block)
    }

    fn inst(&mut self, inst: &Inst) -> ControlFlow<ExitId> {
        let args = inst.args.map(|arg| arg.map(|arg| self.value(arg)));
        let word = |index: usize| args[index].unwrap_or_default();
        let result = match inst.op {
            Op::Slot(slot) => self.machine.word(slot),
            Op::Narrow => word(0),
            Op::Run(helper) => {
                let exit = required(inst);
                self.store(exit);
                let go_on = self.machine.instruction(helper, exit);
                return if go_on { Continue(()) } else { Break(exit) };
            }
            Op::Word(op) => match self.word(inst, op, args)? {
                Some(result) => result,
                None => return Continue(()),
            },
        };
        if let Some(dst) = inst.dst {
            self.define(dst, result);
        }
        Continue(())
    }

    fn word(
        &mut self,
        inst: &Inst,
        op: module::Op,
        args: [Option<Word>; 3],
    ) -> ControlFlow<ExitId, Option<Word>> {
        use Environment as E;
        use module::Op::*;
        let word = |index: usize| args[index].unwrap_or_default();
        Continue(Some(match op {
            Mload => {
                let offset = self.covered(inst, word(0), 32)?;
                self.machine.load_word(offset)
            }
            Mstore => {
                let offset = self.covered(inst, word(0), 32)?;
                self.machine.store_word(offset, word(1));
                return Continue(None);
            }
            Mstore8 => {
                let offset = self.covered(inst, word(0), 1)?;
                self.machine.store_byte(offset, word(1).0[0] as u8);
                return Continue(None);
            }
            Calldataload => self.machine.calldata_word(word(0)),
            Address => self.machine.environment(E::Address),
            Caller => self.machine.environment(E::Caller),
            CallValue => self.machine.environment(E::CallValue),
            Calldatasize => self.machine.environment(E::Calldatasize),
            Returndatasize => self.machine.environment(E::Returndatasize),
            Msize => self.machine.environment(E::Msize),
            Gas => Word::from_u64(self.machine.gas().wrapping_add(u64::from(inst.imm))),
            Pure(helper) => fold::pure(helper, word(0), word(1), word(2)),
            Guarded(helper) => {
                let exit = required(inst);
                let answer = match inst.dst {
                    Some(_) => self.machine.guarded_value(helper, exit, args).map(Some),
                    None => self.machine.guarded(helper, exit, None, args).then_some(None),
                };
                return match answer {
                    Some(result) => Continue(result),
                    None => self.leave(exit),
                };
            }
            op => fold::binary(op, word(0), word(1), inst.imm)
                .unwrap_or_else(|| panic!("eval: {op:?} at {} is not evaluated", inst.pc)),
        }))
    }

    /// The offset of an access, once `size` bytes there are covered.
    fn covered(&mut self, inst: &Inst, offset: Word, size: u64) -> ControlFlow<ExitId, u64> {
        let at = |machine: &M| offset.as_u64().filter(|&at| machine.memory_covers(at, size));
        if let Some(at) = at(self.machine) {
            return Continue(at);
        }
        assert!(inst.checked, "eval: {:?} at {} is unchecked and not covered", inst.op, inst.pc);
        let exit = required(inst);
        if !self.machine.expand(exit, offset, size) {
            return self.leave(exit);
        }
        let at = at(self.machine);
        Continue(at.unwrap_or_else(|| panic!("eval: memory at {} was expanded in vain", inst.pc)))
    }
}

fn required(inst: &Inst) -> ExitId {
    inst.exit.unwrap_or_else(|| panic!("eval: {:?} at {} has no exit", inst.op, inst.pc))
}
