//! Bringing all words home: the parallel move at the end of a block.

use super::{
    Builder,
    stack::{OutOfStack, SymbolicStack, Value},
};
use crate::module::{ConstId, Inst, Op, Operand};
use kiln_abi::{Pc, Slot};
use revm_bytecode::opcode as op;

impl Builder<'_> {
    /// Emits the moves after which every position is home. Slots that `pins` name keep being
    /// readable: if one must be overwritten, its content moves to a temporary and the pin with it.
    pub(super) fn flush(&mut self, pins: &mut [Operand]) -> Result<(), OutOfStack> {
        for pin in pins.iter() {
            if let Operand::Slot(slot) = pin {
                self.stack.pin(slot.0);
            }
        }
        let mut ready = core::mem::take(self.positions);
        ready.clear();
        // Those that nobody reads come last in the list of their readers, so go from the top down.
        ready.extend(self.stack.dirty());
        loop {
            let mut progress = false;
            let mut index = 0;
            while index < ready.len() {
                let position = ready[index];
                if self.bring_home(position) {
                    progress = true;
                    ready.swap_remove(index);
                } else {
                    index += 1;
                }
            }
            if ready.is_empty() {
                break;
            }
            if !progress {
                self.evacuate(ready[0], &ready, pins)?;
            }
        }
        *self.positions = ready;
        self.stack.all_home();
        for pin in pins.iter() {
            if let Operand::Slot(slot) = pin {
                self.stack.unpin(slot.0);
            }
        }
        Ok(())
    }

    /// Brings all words home and forgets them, but for the destination of a jump that comes `next`.
    pub(super) fn spill(&mut self, next: Pc) -> Result<(), OutOfStack> {
        self.flush(&mut [])?;
        let next = self.code.get(next.0 as usize);
        let kept = matches!(next, Some(&(op::JUMP | op::JUMPI)));
        self.stack.forget(kept as i16);
        Ok(())
    }

    /// Writes a dirty position's slot, if nobody else still needs what lies there.
    fn bring_home(&mut self, position: i16) -> bool {
        if self.stack.refs(position) != 0 {
            return false;
        }
        match self.stack.get(position) {
            Value::Slot(slot) => {
                self.emit_copy(position, Operand::Slot(Slot(slot)));
                let bits = self.stack.bits(slot);
                self.stack.set(position, Value::Slot(position));
                self.stack.set_bits(position, bits);
            }
            Value::Const { id, .. } => {
                self.emit_copy(position, Operand::Const(ConstId(id)));
                self.stack.set(position, Value::Const { id, home: true });
            }
        }
        true
    }

    /// Moves the content of a slot that is in the way to a temporary, with all who refer to it.
    fn evacuate(
        &mut self,
        slot: i16,
        dirty: &[i16],
        pins: &mut [Operand],
    ) -> Result<(), OutOfStack> {
        let temporary = self.stack.temporary(slot + 1)?;
        self.emit_copy(temporary, Operand::Slot(Slot(slot)));
        let bits = self.stack.bits(slot);
        self.stack.set_bits(temporary, bits);
        for &position in dirty {
            if self.stack.get(position) == Value::Slot(slot) {
                self.stack.set(position, Value::Slot(temporary));
            }
        }
        for pin in pins {
            if *pin == Operand::Slot(Slot(slot)) {
                self.stack.unpin(slot);
                self.stack.pin(temporary);
                *pin = Operand::Slot(Slot(temporary));
            }
        }
        Ok(())
    }

    fn emit_copy(&mut self, dst: i16, source: Operand) {
        self.module.insts.push(Inst {
            op: Op::Copy,
            checked: true,
            dst: Some(SymbolicStack::slot(dst)),
            args: [Some(source), None, None],
            imm: 0,
            exit: None,
            pc: self.pc,
        });
    }
}
