//! Blocks and edges.
//!
//! **Owns** where control goes: the checks at the head and at the start of each block, edges, polls.
//! **Callers guarantee** blocks in reverse post-order. **Never** computes words.

use super::{
    Lower, MISSING,
    word::{Limb, Limbs},
};
use crate::CompileError;
use cranelift_codegen::ir::{self, BlockArg, InstBuilder, Value, condcodes::IntCC, types::*};
use kiln_abi::{ExitId, Slot, Word, context_offset};
use kiln_ir::ssa::{self, BlockId, Origin, Target, Terminator, demand::LimbSet};

/// Where a slot lies from the stack pointer, in bytes.
pub(super) fn displacement(slot: Slot) -> i32 {
    Word::BYTES as i32 * i32::from(slot.0)
}

impl Lower<'_, '_> {
    /// The whole function.
    pub(super) fn function(mut self) -> Result<(), CompileError> {
        let function = self.function;
        for block in &function.blocks {
            let lowered = self.b.create_block();
            self.b.append_block_param(lowered, I64);
            for &param in &block.params {
                let limbs = self.wanted(param)?.count_ones();
                (0..limbs).for_each(|_| _ = self.b.append_block_param(lowered, I64));
            }
            self.blocks.push(lowered);
        }
        self.head()?;
        for index in 0..function.blocks.len() {
            self.block(index)?;
        }
        self.finish_exits()
    }

    /// A field of the context of 64 bits.
    pub(super) fn context(&mut self, offset: i32) -> Value {
        self.b.ins().load(I64, self.flags.context, self.cx, offset)
    }

    /// Writes the gas back.
    pub(super) fn store_gas(&mut self) {
        let (flags, gas, cx) = (self.flags.context, self.gas, self.cx);
        self.b.ins().store(flags, gas, cx, context_offset!(gas));
    }

    /// The check of the stack range, once for all blocks.
    fn head(&mut self) -> Result<(), CompileError> {
        let function = self.function;
        self.origin(Origin::Head);
        self.gas = self.context(context_offset!(gas));
        let entry_exit = function.entry_exit;
        let bounds = [
            (-i64::from(function.need), context_offset!(stack_base), IntCC::UnsignedLessThan),
            (i64::from(function.grow), context_offset!(stack_end), IntCC::UnsignedGreaterThan),
        ];
        for (words, bound, outside) in bounds {
            if words != 0 {
                let at = self.b.ins().iadd_imm_s(self.sp, Word::BYTES as i64 * words);
                let bound = self.context(bound);
                let outside = self.b.ins().icmp(outside, at, bound);
                self.leave_if(outside, entry_exit)?;
            }
        }
        let (&first, gas) = (self.blocks.first().ok_or(MISSING)?, self.gas);
        self.b.ins().jump(first, &[gas.into()]);
        Ok(())
    }

    fn block(&mut self, index: usize) -> Result<(), CompileError> {
        let (block, lowered) = (&self.function.blocks[index], self.blocks[index]);
        self.b.switch_to_block(lowered);
        let mut params = self.b.block_params(lowered).to_vec().into_iter();
        self.gas = params.next().ok_or(MISSING)?;
        for &param in &block.params {
            let word = passed(self.wanted(param)?, &mut params);
            self.define(param, word)?;
        }
        let id = BlockId(index as u32);
        self.origin(Origin::Charge(id));
        self.charge(block)?;
        for inst in &block.insts {
            self.origin(Origin::Inst(inst.pc));
            self.inst(inst)?;
        }
        self.origin(Origin::End(id));
        self.terminator(&block.terminator)
    }

    /// Charges the block's static gas, or leaves in front of it.
    fn charge(&mut self, block: &ssa::Block) -> Result<(), CompileError> {
        if block.gas == 0 {
            return Ok(());
        }
        let exit = block.gas_exit.ok_or(super::NO_EXIT)?;
        self.perform_early(exit)?;
        let less = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, self.gas, i64::from(block.gas));
        self.leave_if(less, exit)?;
        self.gas = self.b.ins().iadd_imm_s(self.gas, -i64::from(block.gas));
        Ok(())
    }

    fn terminator(&mut self, terminator: &Terminator) -> Result<(), CompileError> {
        match terminator {
            Terminator::Jump(target) => self.go(target),
            Terminator::Branch { cond, a, b, taken, next } => {
                let (a, b) = (self.word(*a)?, self.word(*b)?);
                let holds = self.compare(*cond, a, b);
                let (gas, taken_block, next_block) =
                    (self.gas, self.edge(taken)?, self.edge(next)?);
                let (taken_args, next_args) = (self.arguments(taken)?, self.arguments(next)?);
                self.b.ins().brif(holds, taken_block, &taken_args, next_block, &next_args);
                for (target, block) in [(taken, taken_block), (next, next_block)] {
                    if !matches!(target, Target::Block { .. }) {
                        self.b.switch_to_block(block);
                        self.gas = gas;
                        self.go(target)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The block that a branch goes to: of its own for what is more than a jump.
    fn edge(&mut self, target: &Target) -> Result<ir::Block, CompileError> {
        match target {
            Target::Block { block, .. } => self.block_at(*block),
            Target::Back { .. } => Ok(self.b.create_block()),
            Target::Exit(_) => Ok(self.cold_block()),
        }
    }

    fn block_at(&self, BlockId(id): BlockId) -> Result<ir::Block, CompileError> {
        let block = self.blocks.get(id as usize).copied();
        block.ok_or(CompileError::Malformed("no such block"))
    }

    /// The arguments of a plain edge to a block; none where the edge has a block of its own.
    fn arguments(&mut self, target: &Target) -> Result<Vec<BlockArg>, CompileError> {
        match target {
            Target::Block { block, args } => self.block_arguments(*block, args),
            Target::Back { .. } | Target::Exit(_) => Ok(Vec::new()),
        }
    }

    fn block_arguments(
        &mut self,
        block: BlockId,
        args: &[ssa::Value],
    ) -> Result<Vec<BlockArg>, CompileError> {
        let function = self.function;
        let params = &function.blocks.get(block.0 as usize).ok_or(MISSING)?.params;
        if params.len() != args.len() {
            return Err(CompileError::Malformed("an edge with other arguments than parameters"));
        }
        let mut values = vec![self.gas.into()];
        for (&param, &arg) in params.iter().zip(args) {
            let (limbs, word) = (self.wanted(param)?, self.word(arg)?);
            self.pass(word, limbs, &mut values);
        }
        Ok(values)
    }

    /// Ends the block.
    fn go(&mut self, target: &Target) -> Result<(), CompileError> {
        match target {
            Target::Block { block, args } => {
                let (to, args) = (self.block_at(*block)?, self.block_arguments(*block, args)?);
                self.b.ins().jump(to, &args);
                Ok(())
            }
            Target::Back { block, args, exit } => {
                self.poll(*exit)?;
                let (to, args) = (self.block_at(*block)?, self.block_arguments(*block, args)?);
                self.b.ins().jump(to, &args);
                Ok(())
            }
            Target::Exit(exit) => self.leave(*exit),
        }
    }

    /// Takes one off the countdown; leaves if it was 0.
    fn poll(&mut self, exit: ExitId) -> Result<(), CompileError> {
        let (flags, cx) = (self.flags.context, self.cx);
        let left = self.b.ins().load(I32, flags, cx, context_offset!(poll));
        let less = self.b.ins().iadd_imm_s(left, -1);
        self.b.ins().store(flags, less, cx, context_offset!(poll));
        let over = self.b.ins().icmp_imm_u(IntCC::Equal, left, 0);
        self.leave_if(over, exit)
    }

    /// A block that hardly ever runs.
    pub(super) fn cold_block(&mut self) -> ir::Block {
        let block = self.b.create_block();
        self.b.set_cold_block(block);
        block
    }

    /// A block in which ways of computing a word meet.
    pub(super) fn join(&mut self, limbs: LimbSet) -> ir::Block {
        let block = self.b.create_block();
        (0..limbs.count_ones()).for_each(|_| _ = self.b.append_block_param(block, I64));
        block
    }

    /// Ends the block by going to where the word is wanted.
    pub(super) fn jump_to_join(&mut self, join: ir::Block, word: Limbs, limbs: LimbSet) {
        let mut args = Vec::with_capacity(4);
        self.pass(word, limbs, &mut args);
        self.b.ins().jump(join, &args);
    }

    /// Goes on where the word is.
    pub(super) fn enter_join(&mut self, join: ir::Block, limbs: LimbSet) -> Limbs {
        self.b.switch_to_block(join);
        passed(limbs, &mut self.b.block_params(join).iter().copied())
    }

    /// Appends limbs of a word to the arguments of an edge.
    fn pass(&mut self, word: Limbs, limbs: LimbSet, args: &mut Vec<BlockArg>) {
        for (k, limb) in word.0.into_iter().enumerate() {
            if limbs >> k & 1 != 0 {
                args.push(self.value(limb).into());
            }
        }
    }
}

/// A word of which some limbs are parameters of a block.
fn passed(limbs: LimbSet, params: &mut dyn Iterator<Item = Value>) -> Limbs {
    let mut word = Limbs::ZERO;
    for (k, limb) in word.0.iter_mut().enumerate() {
        if limbs >> k & 1 != 0
            && let Some(param) = params.next()
        {
            *limb = Limb::Value(param);
        }
    }
    word
}
