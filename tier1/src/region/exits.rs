//! Ways out.
//!
//! **Owns** the stores in front of leaving, and the blocks that ways out share. **Callers guarantee** that the
//! values an exit stores are computed where it is used. **Never** applies fixups: that is the host's part.

use super::{CompileError, Edge, Int, Lower, control::displacement, emit::Area};
use inkwell::basic_block::BasicBlock;
use inkwell::values::{PhiValue, PointerValue};
use kiln_abi::{ExitId, context_offset, envelope::Symbol};
use kiln_ir::ssa::{Origin, Store};

const NO_SUCH_EXIT: CompileError = CompileError::Malformed("no such exit");

/// A block that ways out go through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'c> {
    block: BasicBlock<'c>,
    number: PhiValue<'c>,
    edge: Edge<'c>,
}

impl<'c> Lower<'c, '_, '_> {
    /// Leaves if `condition` holds.
    pub(super) fn leave_if(
        &mut self,
        condition: Int<'c>,
        exit: ExitId,
    ) -> Result<(), CompileError> {
        let (out, stay) = (self.e.block()?, self.e.block()?);
        self.e.branch_rarely(condition, out, stay)?;
        self.e.switch_to(out);
        let gas = self.gas;
        self.leave(exit)?;
        self.gas = gas;
        self.e.switch_to(stay);
        Ok(())
    }

    /// Ends the block by leaving.
    pub(super) fn leave(&mut self, exit: ExitId) -> Result<(), CompileError> {
        let number = self.exit_number(exit)?;
        let shared = self.tails.exits.get(exit.0 as usize).ok_or(NO_SUCH_EXIT)?.clone();
        let tail = match shared {
            Some((own, tail)) => {
                self.store_all(&own)?;
                Some(tail)
            }
            None => {
                self.perform_late(exit)?;
                None
            }
        };
        self.jump_out(tail, number)
    }

    /// Ends the block by going through a tail, or where the last one goes.
    pub(super) fn jump_out(
        &mut self,
        tail: Option<usize>,
        number: u32,
    ) -> Result<(), CompileError> {
        let number = self.e.int(64, number.into());
        self.jump_out_with(tail, number)
    }

    fn jump_out_with(&mut self, tail: Option<usize>, number: Int<'c>) -> Result<(), CompileError> {
        let to = self.shared(tail)?;
        to.number.add_incoming(&[(&number, self.e.here()?)]);
        self.pass_edge(&to.edge)?;
        self.e.jump(to.block)
    }

    /// The block of a tail, or the one behind the last.
    fn shared(&mut self, tail: Option<usize>) -> Result<Shared<'c>, CompileError> {
        let index = tail.map_or(0, |tail| tail + 1);
        if let Some(shared) = self.shared[index] {
            return Ok(shared);
        }
        let here = self.e.here()?;
        let block = self.e.block()?;
        self.e.switch_to(block);
        let shared = Shared { block, number: self.e.phi(64)?, edge: self.new_edge()? };
        self.shared[index] = Some(shared);
        self.e.switch_to(here);
        Ok(shared)
    }

    /// Writes what is written in front of an instruction that may leave.
    pub(super) fn perform_early(&mut self, exit: ExitId) -> Result<(), CompileError> {
        let stores = self.plan.early.get_mut(exit.0 as usize).ok_or(NO_SUCH_EXIT)?;
        let stores = std::mem::take(stores);
        self.store_all(&stores)
    }

    /// Writes all that is left to be written.
    pub(super) fn perform_late(&mut self, exit: ExitId) -> Result<(), CompileError> {
        let stores = self.plan.late.get(exit.0 as usize).ok_or(NO_SUCH_EXIT)?.clone();
        self.store_all(&stores)
    }

    pub(super) fn store_all(&mut self, stores: &[Store]) -> Result<(), CompileError> {
        for store in stores {
            let word = self.word_in(store.value, 256)?;
            let at = self.e.offset(self.sp, displacement(store.slot))?;
            self.e.store(Area::Stack, at, word, 8)?;
        }
        Ok(())
    }

    /// What compiled code leaves with for an exit: the number of its record.
    pub(super) fn exit_number(&self, exit: ExitId) -> Result<u32, CompileError> {
        self.records.number(exit).ok_or(NO_SUCH_EXIT)
    }

    /// What compiled code gives to helpers for an exit: the address of its record.
    pub(super) fn exit_record(&mut self, exit: ExitId) -> Result<PointerValue<'c>, CompileError> {
        let offset = i64::from(self.exit_number(exit)?) * size_of::<u32>() as i64;
        let records = self.e.data(Symbol::Records.name());
        self.e.offset(records, offset)
    }

    /// Writes the gas back.
    pub(super) fn store_gas(&mut self) -> Result<(), CompileError> {
        let at = self.e.offset(self.cx, context_offset!(gas).into())?;
        self.e.store(Area::Context, at, self.gas, 8)
    }

    /// The blocks that ways out share, once all that jump to them are there.
    pub(super) fn finish_exits(&mut self) -> Result<(), CompileError> {
        // In no block: what these write is what all who go through them know.
        self.current = None;
        self.e.origin(Origin::Exits);
        // Tails go on in those that lie before them.
        for tail in (0..self.tails.tails.len()).rev() {
            let Some(shared) = self.shared[tail + 1] else { continue };
            self.e.switch_to(shared.block);
            self.enter_edge(&shared.edge);
            let stores = std::mem::take(&mut self.tails.tails[tail].stores);
            self.store_all(&stores)?;
            let number = shared.number.as_basic_value().into_int_value();
            self.jump_out_with(self.tails.tails[tail].next, number)?;
        }
        let out = self.shared(None)?;
        self.e.switch_to(out.block);
        self.enter_edge(&out.edge);
        self.store_gas()?;
        let at = self.e.offset(self.cx, context_offset!(poll).into())?;
        self.e.store(Area::Context, at, self.poll, 4)?;
        self.e.answer(out.number.as_basic_value().into_int_value())
    }
}
