//! Ways out.
//!
//! **Owns** the stores in front of leaving, and the blocks that ways out share. **Callers guarantee** that the
//! values an exit stores are computed where it is used. **Never** applies fixups: that is the host's part.

use super::{Lower, control::displacement};
use crate::CompileError;
use cranelift_codegen::ir::{self, InstBuilder, Value, types::*};
use kiln_abi::ExitId;
use kiln_ir::ssa::{Origin, Store};

impl Lower<'_, '_> {
    /// Leaves if `condition` is not zero.
    pub(super) fn leave_if(&mut self, condition: Value, exit: ExitId) -> Result<(), CompileError> {
        let (out, stay) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(condition, out, &[], stay, &[]);
        self.b.switch_to_block(out);
        self.leave(exit)?;
        self.b.switch_to_block(stay);
        Ok(())
    }

    /// Ends the block by leaving.
    pub(super) fn leave(&mut self, exit: ExitId) -> Result<(), CompileError> {
        let number = self.exit_number(exit)?;
        let tail = match self.tails.exits[exit.0 as usize].clone() {
            Some((own, tail)) => {
                self.store_all(&own)?;
                Some(tail)
            }
            None => {
                self.perform_late(exit)?;
                None
            }
        };
        let to = self.tail_block(tail);
        let (number, gas) = (self.iconst(number.into()), self.gas);
        self.b.ins().jump(to, &[number.into(), gas.into()]);
        Ok(())
    }

    /// Writes what is written in front of an instruction that may leave.
    pub(super) fn perform_early(&mut self, exit: ExitId) -> Result<(), CompileError> {
        match self.plan.early.get_mut(exit.0 as usize) {
            Some(stores) => {
                let stores = std::mem::take(stores);
                self.store_all(&stores)
            }
            None => Err(CompileError::Malformed("no such exit")),
        }
    }

    /// Writes all that is left to be written.
    pub(super) fn perform_late(&mut self, exit: ExitId) -> Result<(), CompileError> {
        match self.plan.late.get(exit.0 as usize).cloned() {
            Some(stores) => self.store_all(&stores),
            None => Err(CompileError::Malformed("no such exit")),
        }
    }

    fn store_all(&mut self, stores: &[Store]) -> Result<(), CompileError> {
        for store in stores {
            let word = self.word(store.value)?;
            self.store_word(self.flags.stack, self.sp, displacement(store.slot), word);
        }
        Ok(())
    }

    /// The block that a tail, or what follows the last, begins with. Its parameters are the exit's number
    /// and the gas.
    fn tail_block(&mut self, tail: Option<usize>) -> ir::Block {
        let Some(tail) = tail else { return self.out };
        if let Some(block) = self.tail_blocks[tail] {
            return block;
        }
        let block = self.cold_block();
        self.b.append_block_param(block, I64);
        self.b.append_block_param(block, I64);
        self.tail_blocks[tail] = Some(block);
        block
    }

    /// The blocks that ways out share, once all that jump to them are there.
    pub(super) fn finish_exits(&mut self) -> Result<(), CompileError> {
        self.origin(Origin::Exits);
        // Tails go on in those that lie before them.
        for tail in (0..self.tails.tails.len()).rev() {
            let Some(block) = self.tail_blocks[tail] else { continue };
            self.b.switch_to_block(block);
            let stores = std::mem::take(&mut self.tails.tails[tail].stores);
            self.store_all(&stores)?;
            let [number, gas] = [0, 1].map(|index| self.b.block_params(block)[index]);
            let next = self.tails.tails[tail].next;
            let to = self.tail_block(next);
            self.b.ins().jump(to, &[number.into(), gas.into()]);
        }
        self.b.switch_to_block(self.out);
        let [number, gas] = [0, 1].map(|index| self.b.block_params(self.out)[index]);
        self.gas = gas;
        self.store_gas();
        self.b.ins().return_(&[number]);
        Ok(())
    }
}
