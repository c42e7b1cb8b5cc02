//! Moves of the stack pointer, computed jumps, and calls of helpers.
//!
//! **Owns** the computed jump. **Callers guarantee** that the context is
//! as `kiln_abi::Context` says. **Never** changes the frame state before a check has passed.

use super::{FLAGS, Lower};
use crate::{key::Kind, operand::Field, stencil::Symbol};
use cranelift_codegen::ir::{InstBuilder, condcodes::IntCC, types::*};
use kiln_abi::context_offset;

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

    /// Jumps to the compiled JUMPDEST at the pc in a slot, or leaves.
    pub(crate) fn jump_dynamic(&mut self) {
        let a = super::Source::Slot(Field::A);
        let out = self.b.create_block();
        let [fits, inside, valid] = [(); 3].map(|()| self.b.create_block());
        self.b.set_cold_block(out);
        let pc = self.limb(a, 0);
        let high = self.or_limbs(a, 1);
        self.b.ins().brif(high, out, &[], fits, &[]);

        self.b.switch_to_block(fits);
        let len = self.context(context_offset!(entries_len));
        let outside = self.icmp(IntCC::UnsignedGreaterThanOrEqual, pc, len);
        self.b.ins().brif(outside, out, &[], inside, &[]);

        self.b.switch_to_block(inside);
        // See `kiln_abi::EntryTable`.
        let entries = self.context(context_offset!(entries));
        let field = self.b.ins().ushr_imm_u(pc, 5);
        let scaled = self.b.ins().ishl_imm_u(field, 1);
        let address = self.b.ins().iadd(entries, scaled);
        let chunk = self.b.ins().uload16(I64, FLAGS, address, 0);
        let first = self.b.ins().ishl_imm_u(chunk, 5);
        let low = self.b.ins().band_imm_s(pc, 31);
        let at = self.b.ins().iadd(first, low);
        let scaled = self.b.ins().ishl_imm_u(at, 2);
        let address = self.b.ins().iadd(entries, scaled);
        let entry = self.b.ins().load(I32, FLAGS, address, 0);
        let jumpdest = self.b.ins().band_imm_s(entry, 1);
        self.b.ins().brif(jumpdest, valid, &[], out, &[]);

        self.b.switch_to_block(out);
        self.tail(Symbol::Exit);

        self.b.switch_to_block(valid);
        let entry = self.b.ins().uextend(I64, entry);
        let offset = self.b.ins().ushr_imm_u(entry, 1);
        let base = self.context(context_offset!(code_base));
        let target = self.b.ins().iadd(base, offset);
        self.tail_indirect(target);
    }
}
