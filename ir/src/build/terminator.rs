//! How blocks end.

use super::{
    Builder, Lowered,
    stack::{OutOfStack, Value},
};
use crate::{
    code::{Block, Ending},
    module::{Cond, ConstId, Operand, Target, Terminator},
    opcode::{LOWERING, Lowering},
};
use kiln_abi::{ExitId, ExitKind, Fixup, Pc, Slot, Source, Word};
use revm_bytecode::opcode as op;

impl Builder<'_> {
    /// Lowers an instruction that ends its block.
    pub(super) fn lower_ending(&mut self, opcode: u8) -> Result<Lowered, OutOfStack> {
        if self.config.replaced.contains(opcode)
            || !self.config.spec.is_enabled_in(crate::opcode::activated_in(opcode))
        {
            return Ok(self.interpret());
        }
        match LOWERING[opcode as usize] {
            Lowering::Jump => self.jump(),
            Lowering::Jumpi => self.jumpi(),
            Lowering::Stop => {
                let (before, own) = (self.gas_before, self.gas_own);
                let exit = self.plain_exit(ExitKind::Stop, self.pc, before, own);
                Ok(Lowered::Ends(Terminator::Exit(exit)))
            }
            Lowering::Return => self.return_with(ExitKind::Return),
            Lowering::Revert => self.return_with(ExitKind::Revert),
            _ => Ok(self.interpret()),
        }
    }

    /// The instruction, and what follows, is the interpreter's.
    pub(super) fn interpret(&mut self) -> Lowered {
        Lowered::Ends(Terminator::Exit(self.exit(ExitKind::Interpret)))
    }

    /// The end of a block whose last instruction does not end it.
    pub(super) fn end_of_block(&mut self, block: &Block) -> Result<Terminator, OutOfStack> {
        if block.ending != Ending::CodeEnd {
            self.flush(&mut [])?;
            return Ok(Terminator::Jump(Target::Region(block.end.0)));
        }
        // Behind its end, code is as if it went on with STOP.
        self.pc = Pc(self.code.len() as u32);
        self.gas_own = 0;
        let plain =
            self.config.gas[op::STOP as usize] == 0 && !self.config.replaced.contains(op::STOP);
        if plain {
            let before = self.gas_before;
            return Ok(Terminator::Exit(self.plain_exit(ExitKind::Stop, self.pc, before, 0)));
        }
        Ok(Terminator::Exit(self.exit(ExitKind::Interpret)))
    }

    fn return_with(&mut self, kind: ExitKind) -> Result<Lowered, OutOfStack> {
        // Only offset and length are ever read again.
        let top = [self.stack.position(0)?, self.stack.position(1)?];
        let (before, own) = (self.gas_before, self.gas_own);
        let exit = self.plain_exit(kind, self.pc, before, own);
        for position in top {
            if !self.stack.is_home(position) {
                let source = super::source(self.stack.get(position));
                self.fixup(exit, position, source);
            }
        }
        Ok(Lowered::Ends(Terminator::Exit(exit)))
    }

    fn fixup(&mut self, exit: ExitId, position: i16, source: Source) {
        self.module.exits.fixups.push(Fixup { slot: Slot(position), source });
        self.module.exits.exits[exit.0 as usize].fixups_len += 1;
    }

    /// An exit in front of the terminator, behind the moves that brought all words home: the stack
    /// pointer has moved, and `operands` words, taken off already, are put back.
    fn exit_behind_flush(&mut self, operands: &[Source]) -> ExitId {
        let (before, own) = (self.gas_before, self.gas_own);
        let exit = self.plain_exit(ExitKind::Interpret, self.pc, before, own);
        let height = self.stack.height();
        let record = &mut self.module.exits.exits[exit.0 as usize];
        record.moved = height;
        record.height = height + operands.len() as i16;
        for (index, &source) in operands.iter().enumerate() {
            let position = height + index as i16;
            if source != Source::Slot(Slot(position)) {
                self.fixup(exit, position, source);
            }
        }
        exit
    }

    /// The pc of a valid constant jump destination.
    fn destination(&self, word: &Word) -> Option<u32> {
        let pc = word.as_u64()?;
        let valid = usize::try_from(pc).is_ok_and(|pc| self.blocks.jump_dests.contains(pc));
        valid.then_some(pc as u32)
    }

    fn jump(&mut self) -> Result<Lowered, OutOfStack> {
        let position = self.stack.position(0)?;
        if let Value::Const { id, .. } = self.stack.get(position) {
            let Some(pc) = self.destination(&self.module.constant(ConstId(id))) else {
                return Ok(self.interpret());
            };
            self.stack.pop()?;
            self.flush(&mut [])?;
            return Ok(Lowered::Ends(Terminator::Jump(Target::Region(pc))));
        }
        if self.perturb.every_exit {
            return Ok(self.interpret());
        }
        let mut pins = [self.pop_operand()?];
        self.flush(&mut pins)?;
        let Operand::Slot(dest) = pins[0] else { unreachable!("jump: a pin became a constant") };
        let exit = self.exit_behind_flush(&[Source::Slot(dest)]);
        Ok(Lowered::Ends(Terminator::JumpDynamic { dest, exit }))
    }

    fn jumpi(&mut self) -> Result<Lowered, OutOfStack> {
        let (dest, cond) = (self.stack.position(0)?, self.stack.position(1)?);
        let Value::Const { id: dest, .. } = self.stack.get(dest) else {
            return Ok(self.interpret());
        };
        let pc = self.destination(&self.module.constant(ConstId(dest)));
        let next = Target::Region(self.pc.0 + 1);
        if let Value::Const { id, .. } = self.stack.get(cond) {
            let target = match (self.module.constant(ConstId(id)).is_zero(), pc) {
                (true, _) => next,
                (false, Some(pc)) => Target::Region(pc),
                (false, None) => return Ok(self.interpret()),
            };
            self.stack.pop()?;
            self.stack.pop()?;
            self.flush(&mut [])?;
            return Ok(Lowered::Ends(Terminator::Jump(target)));
        }
        self.stack.pop()?;
        let operand = self.pop_operand()?;
        let zero = Operand::Const(ConstId(0));
        let (cond, a, b) = self.take_comparison(operand).unwrap_or((Cond::Ne, operand, zero));
        let mut pins = [a, b];
        self.flush(&mut pins)?;
        let taken = match pc {
            Some(pc) => Target::Region(pc),
            None => {
                // Only whether the condition is zero can still matter, and it is not.
                let one = self.constant(Word::ONE);
                let operands = [Source::Const(one), Source::Const(dest)];
                Target::Exit(self.exit_behind_flush(&operands))
            }
        };
        let [a, b] = pins;
        Ok(Lowered::Ends(Terminator::Branch { cond, a, b, taken, next }))
    }
}
