//! Blocks and edges.
//!
//! **Owns** where control goes: the checks at the head and at the start of each block, edges, polls.
//! **Callers guarantee** blocks in reverse post-order. **Never** computes words.

use super::{CompileError, Int, Lower, MISSING, emit::Area};
use inkwell::{IntPredicate, basic_block::BasicBlock, values::PhiValue};
use kiln_abi::{ExitId, Slot, Word, context_offset};
use kiln_ir::ssa::{self, BlockId, Origin, Target, Terminator};

/// Where a slot lies from the stack pointer, in bytes.
pub(super) fn displacement(slot: Slot) -> i64 {
    Word::BYTES as i64 * i64::from(slot.0)
}

/// What every edge between blocks carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge<'c> {
    gas: PhiValue<'c>,
    poll: PhiValue<'c>,
}

/// A block of the region in LLVM.
#[derive(Clone, Debug)]
pub(super) struct Lowered<'c> {
    block: BasicBlock<'c>,
    edge: Edge<'c>,
    params: Vec<PhiValue<'c>>,
}

impl<'c> Lower<'c, '_, '_> {
    /// The whole function.
    pub(super) fn function(mut self) -> Result<(), CompileError> {
        let function = self.function;
        let head = self.e.here()?;
        for block in &function.blocks {
            let lowered = self.e.block()?;
            self.e.switch_to(lowered);
            let edge = self.new_edge()?;
            let mut params = Vec::with_capacity(block.params.len());
            for &param in &block.params {
                params.push(self.e.phi(self.width(param)?)?);
            }
            self.blocks.push(Lowered { block: lowered, edge, params });
        }
        self.e.switch_to(head);
        self.head()?;
        for index in 0..function.blocks.len() {
            self.bounds.check()?;
            self.block(index)?;
        }
        self.finish_exits()
    }

    /// Makes the values that all edges to the block carry.
    pub(super) fn new_edge(&mut self) -> Result<Edge<'c>, CompileError> {
        Ok(Edge { gas: self.e.phi(64)?, poll: self.e.phi(32)? })
    }

    /// Gives them where an edge begins.
    pub(super) fn pass_edge(&mut self, edge: &Edge<'c>) -> Result<(), CompileError> {
        let here = self.e.here()?;
        edge.gas.add_incoming(&[(&self.gas, here)]);
        edge.poll.add_incoming(&[(&self.poll, here)]);
        Ok(())
    }

    /// Takes them where it ends.
    pub(super) fn enter_edge(&mut self, edge: &Edge<'c>) {
        self.gas = edge.gas.as_basic_value().into_int_value();
        self.poll = edge.poll.as_basic_value().into_int_value();
    }

    /// The check of the stack range, once for all blocks.
    fn head(&mut self) -> Result<(), CompileError> {
        let function = self.function;
        self.e.origin(Origin::Head);
        self.gas = self.context(Area::Context, context_offset!(gas))?;
        let poll = self.e.offset(self.cx, context_offset!(poll).into())?;
        self.poll = self.e.load(Area::Context, poll, 32, 4)?;
        let bounds = [
            (-i64::from(function.need), context_offset!(stack_base), IntPredicate::ULT),
            (i64::from(function.grow), context_offset!(stack_end), IntPredicate::UGT),
        ];
        let sp = self.e.address(self.sp)?;
        for (words, bound, outside) in bounds {
            if words != 0 {
                let distance = self.e.int(64, (Word::BYTES as i64 * words) as u64);
                let at = self.e.add(sp, distance)?;
                let bound = self.context(Area::Fixed, bound)?;
                let outside = self.e.compare(outside, at, bound)?;
                self.leave_if(outside, function.entry_exit)?;
            }
        }
        let first = self.blocks.first().ok_or(MISSING)?.clone();
        self.pass_edge(&first.edge)?;
        self.e.jump(first.block)
    }

    fn block(&mut self, index: usize) -> Result<(), CompileError> {
        let (block, lowered) = (&self.function.blocks[index], self.blocks[index].clone());
        self.current = Some(index);
        self.e.switch_to(lowered.block);
        self.enter_edge(&lowered.edge);
        self.round = None;
        let id = BlockId(index as u32);
        self.e.origin(Origin::Charge(id));
        if let Some(counted) = self.countable(index) {
            self.begin_rounds(index, &counted, &lowered.params)?;
        } else {
            for (&param, phi) in block.params.iter().zip(&lowered.params) {
                self.define(param, phi.as_basic_value().into_int_value())?;
            }
            self.charge(block)?;
        }
        for inst in &block.insts {
            self.e.origin(Origin::Inst(inst.pc));
            self.inst(inst)?;
        }
        self.e.origin(Origin::End(id));
        self.terminator(&block.terminator)
    }

    /// Charges the block's static gas, or leaves in front of it.
    fn charge(&mut self, block: &ssa::Block) -> Result<(), CompileError> {
        if block.gas == 0 {
            return Ok(());
        }
        let exit = block.gas_exit.ok_or(super::NO_EXIT)?;
        self.perform_early(exit)?;
        let due = self.e.int(64, block.gas.into());
        let less = self.e.compare(IntPredicate::ULT, self.gas, due)?;
        self.leave_if(less, exit)?;
        self.gas = self.e.sub(self.gas, due)?;
        Ok(())
    }

    fn terminator(&mut self, terminator: &Terminator) -> Result<(), CompileError> {
        match terminator {
            Terminator::Jump(target) => self.go(target),
            Terminator::Branch { cond, a, b, taken, next } => {
                let holds = match self.difference(*cond, *a, *b) {
                    Some(difference) => self.compare_zero(*cond, difference)?,
                    None => self.compare(*cond, *a, *b)?,
                };
                let (taken_block, next_block) = (self.e.block()?, self.e.block()?);
                self.e.branch(holds, taken_block, next_block)?;
                let (gas, poll) = (self.gas, self.poll);
                for (target, block) in [(taken, taken_block), (next, next_block)] {
                    self.e.switch_to(block);
                    (self.gas, self.poll) = (gas, poll);
                    self.go(target)?;
                }
                Ok(())
            }
        }
    }

    /// Ends the block.
    fn go(&mut self, target: &Target) -> Result<(), CompileError> {
        if self.next_round(target)? {
            return Ok(());
        }
        self.end_round()?;
        match target {
            Target::Block { block, args } => self.jump(*block, args),
            Target::Back { block, args, exit } => {
                self.poll(*exit)?;
                self.jump(*block, args)
            }
            Target::Exit(exit) => self.leave(*exit),
        }
    }

    fn jump(&mut self, BlockId(id): BlockId, args: &[ssa::Value]) -> Result<(), CompileError> {
        let to = self.blocks.get(id as usize).cloned();
        let to = to.ok_or(CompileError::Malformed("no such block"))?;
        if to.params.len() != args.len() {
            return Err(CompileError::Malformed("an edge with other arguments than parameters"));
        }
        for (phi, &arg) in to.params.iter().zip(args) {
            let bits = phi.as_basic_value().into_int_value().get_type().get_bit_width();
            let word: Int<'c> = self.word_in(arg, bits)?;
            phi.add_incoming(&[(&word, self.e.here()?)]);
        }
        self.pass_edge(&to.edge)?;
        self.e.jump(to.block)
    }

    /// Takes one off the countdown; leaves if it was 0.
    fn poll(&mut self, exit: ExitId) -> Result<(), CompileError> {
        let left = self.poll;
        let (zero, one) = (self.e.int(32, 0), self.e.int(32, 1));
        self.poll = self.e.sub(left, one)?;
        let over = self.e.compare(IntPredicate::EQ, left, zero)?;
        self.leave_if(over, exit)
    }
}
