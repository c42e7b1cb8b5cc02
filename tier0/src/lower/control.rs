//! Moves of the stack pointer, and calls of helpers.
//!
//! **Owns** where arguments of helpers go. **Callers guarantee** that a call follows its arguments.
//! **Never** reads the frame state.

use super::Lower;
use crate::{key::Kind, operand::Field, stencil::Symbol};
use cranelift_codegen::ir::InstBuilder;

impl Lower<'_, '_> {
    /// Moves the stack pointer.
    pub(crate) fn adjust(&mut self) {
        let by = self.imm(Field::Imm);
        self.params[0] = self.b.ins().iadd(self.sp, by);
    }

    /// Sets an argument register of a helper call.
    pub(crate) fn argument(&mut self, number: usize, kind: Kind) {
        self.params[2 + number] = match kind {
            Kind::Pool => self.pool(Field::A),
            _ => self.slot_address(Field::A),
        };
    }

    /// Sets the argument register that holds the exit.
    pub(crate) fn exit_argument(&mut self) {
        self.params[5] = self.imm(Field::Imm);
    }

    /// Calls a helper whose arguments are in place.
    pub(crate) fn call_thunk(&mut self) {
        let arguments = self.params[2..].to_vec();
        self.call(Symbol::Helper, &arguments);
    }
}
