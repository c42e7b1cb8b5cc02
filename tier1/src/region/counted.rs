//! Loops of one block that count their rounds.
//!
//! **Owns** the form in which a loop neither charges gas nor polls in each round: how many rounds there may be is
//! known where it is entered, from the gas and the countdown of polls, so that one register counts both. What a
//! loop carries besides must fit the other registers: a word that is kept in memory costs each round the time
//! that a load waits for a store. **Callers guarantee** that nothing in the block sees gas. **Never** changes
//! where the loop is left, or with how much gas.
//!
//! With `G` gas and a countdown of `P` where the loop is entered, and `c` gas charged in a round: round `i`
//! begins if `G - i * c >= c` and, but for the first, if the poll in front of it finds more than 0, which is
//! `P - (i - 1)`. So there are `min(G / c, P + 1)` rounds. Behind the last, the loop is left through the way out of
//! the poll if the countdown has run out, else through the one of the gas.

use super::{CompileError, Int, Lower, MISSING};
use inkwell::{IntPredicate, basic_block::BasicBlock, values::PhiValue};
use kiln_abi::ExitId;
use kiln_ir::{
    Op,
    ssa::{self, Block, BlockId, Def, Store, Target},
};

/// A loop of one block whose rounds are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loop<'a> {
    gas_exit: ExitId,
    poll_exit: ExitId,
    /// What the next round is given.
    args: &'a [ssa::Value],
}

/// The round that is being lowered.
#[derive(Clone, Debug)]
pub(super) struct Round<'c> {
    id: BlockId,
    head: BasicBlock<'c>,
    /// The rounds that are left, this one counted; and behind it.
    left: PhiValue<'c>,
    left_behind: Int<'c>,
    params: Vec<PhiValue<'c>>,
    /// Gas and countdown once no round is left.
    gas_end: Int<'c>,
    poll_end: Int<'c>,
    /// Gas of a round.
    cost: Int<'c>,
}

impl<'c, 'a> Lower<'c, '_, 'a> {
    /// What a loop needs to be counted, if the block is one that can be.
    pub(super) fn countable(&self, index: usize) -> Option<Loop<'a>> {
        let block: &'a Block = &self.function.blocks[index];
        let gas_exit = block.gas_exit.filter(|_| block.gas != 0)?;
        let back = block.terminator.targets().find_map(|target| match target {
            Target::Back { block: BlockId(to), args, exit } if *to as usize == index => {
                Some((args.as_slice(), *exit))
            }
            _ => None,
        });
        let (args, poll_exit) = back?;
        let backs = block.terminator.targets().filter(|t| matches!(t, Target::Back { .. }));
        let sees_gas = |inst: &ssa::Inst| {
            inst.exit.is_some() || matches!(inst.op, ssa::Op::Run(_) | ssa::Op::Word(Op::Gas))
        };
        let early = self.plan.early.get(gas_exit.0 as usize)?;
        let suits = backs.count() == 1
            && args.len() == block.params.len()
            && early.is_empty()
            && !block.insts.iter().any(sees_gas);
        let counted = Loop { gas_exit, poll_exit, args };
        (suits && self.polled_stores(index, &counted).is_some()).then_some(counted)
    }

    /// What the way out of the poll writes, in terms of the round that did not begin.
    fn polled_stores(&self, index: usize, counted: &Loop<'_>) -> Option<Vec<Store>> {
        let block = &self.function.blocks[index];
        let stores = self.plan.late.get(counted.poll_exit.0 as usize)?;
        let of_round = |value: ssa::Value| {
            let def = self.function.values.get(value.0 as usize).map(|value| value.def);
            match def {
                Some(Def::Param { block, .. } | Def::Inst(block)) => block.0 as usize == index,
                Some(Def::Const(_)) | None => false,
            }
        };
        let moved = stores.iter().map(|store| {
            if !of_round(store.value) {
                return Some(*store);
            }
            let place = counted.args.iter().position(|&arg| arg == store.value)?;
            Some(Store { value: block.params[place], ..*store })
        });
        moved.collect()
    }

    /// Begins the loop, from where the block is entered to where its instructions begin.
    pub(super) fn begin_rounds(
        &mut self,
        index: usize,
        counted: &Loop<'_>,
        entered_with: &[PhiValue<'c>],
    ) -> Result<(), CompileError> {
        let block = &self.function.blocks[index];
        let cost = self.e.int(64, block.gas.into());
        let by_gas = self.e.divide(self.gas, cost, false, false)?;
        let polls = self.e.resize(self.poll, 64)?;
        let one = self.e.int(64, 1);
        let by_polls = self.e.add(polls, one)?;
        let fewer = self.e.compare(IntPredicate::ULT, by_gas, by_polls)?;
        let rounds = self.e.select(fewer, by_gas, by_polls)?;
        let charged = self.e.mul(rounds, cost)?;
        let gas_end = self.e.sub(self.gas, charged)?;
        let low = self.e.resize(rounds, 32)?;
        let poll_end = self.e.sub(self.poll, low)?;
        let (before, head) = (self.e.here()?, self.e.block()?);
        self.e.jump(head)?;

        self.e.switch_to(head);
        let left = self.e.phi(64)?;
        left.add_incoming(&[(&rounds, before)]);
        let mut params = Vec::with_capacity(entered_with.len());
        for (&param, entered) in block.params.iter().zip(entered_with) {
            let phi = self.e.phi(self.width(param)?)?;
            phi.add_incoming(&[(&entered.as_basic_value(), before)]);
            params.push(phi);
        }
        for (&param, phi) in block.params.iter().zip(&params) {
            self.define(param, phi.as_basic_value().into_int_value())?;
        }
        let (out, body) = (self.e.block()?, self.e.block()?);
        let zero = self.e.int(64, 0);
        let now = left.as_basic_value().into_int_value();
        let none = self.e.compare(IntPredicate::EQ, now, zero)?;
        self.e.branch_rarely(none, out, body)?;

        self.e.switch_to(out);
        (self.gas, self.poll) = (gas_end, poll_end);
        let over = self.e.wide(32, &[u32::MAX.into()]);
        let over = self.e.compare(IntPredicate::EQ, poll_end, over)?;
        let some = self.e.compare(IntPredicate::NE, rounds, zero)?;
        let polled = self.e.and(over, some)?;
        let (polled_block, gas_block) = (self.e.block()?, self.e.block()?);
        self.e.branch(polled, polled_block, gas_block)?;
        self.e.switch_to(polled_block);
        let stores = self.polled_stores(index, counted).ok_or(MISSING)?;
        self.store_all(&stores)?;
        let number = self.exit_number(counted.poll_exit)?;
        self.jump_out(None, number)?;
        self.e.switch_to(gas_block);
        self.leave(counted.gas_exit)?;

        self.e.switch_to(body);
        let left_behind = self.e.sub(now, one)?;
        let id = BlockId(index as u32);
        let round = Round { id, head, left, left_behind, params, gas_end, poll_end, cost };
        self.round = Some(round);
        Ok(())
    }

    /// Gas and countdown where a round is left.
    pub(super) fn end_round(&mut self) -> Result<(), CompileError> {
        let Some(round) = self.round.clone() else { return Ok(()) };
        let ahead = self.e.mul(round.left_behind, round.cost)?;
        self.gas = self.e.add(round.gas_end, ahead)?;
        // In terms of what is left behind it, so that only one number is kept.
        let left = self.e.resize(round.left_behind, 32)?;
        let one = self.e.int(32, 1);
        let left = self.e.add(left, one)?;
        self.poll = self.e.add(round.poll_end, left)?;
        Ok(())
    }

    /// Goes to the next round, if the edge is the one that does; answers whether it is.
    pub(super) fn next_round(&mut self, target: &Target) -> Result<bool, CompileError> {
        let Some(round) = self.round.clone() else { return Ok(false) };
        let Target::Back { block, args, .. } = target else { return Ok(false) };
        if *block != round.id {
            return Ok(false);
        }
        let here = self.e.here()?;
        for (phi, &arg) in round.params.iter().zip(args) {
            let bits = phi.as_basic_value().into_int_value().get_type().get_bit_width();
            let word = self.word_in(arg, bits)?;
            phi.add_incoming(&[(&word, here)]);
        }
        round.left.add_incoming(&[(&round.left_behind, here)]);
        self.e.jump(round.head)?;
        Ok(true)
    }
}
