//! Carry chains over four limbs, and comparisons.
//!
//! **Owns** what lives from the processor's carry flag. Cranelift has carry chains only inside one 128-bit
//! operation and keeps all limbs of a comparison in registers: it makes 73 bytes of an addition (here 48,
//! or 32 in place), 75 of an addition of a small constant (48, or 20), and of a comparison of two slots
//! code that runs out of registers. **Callers guarantee** nothing. **Never** leaves the stencil.

use super::*;
use crate::key::{Binary, Use};
use kiln_ir::Cond;

impl Assembler<'_> {
    /// Writes the stencil, if it is of this file.
    pub(super) fn carry(&mut self, key: Key) -> bool {
        match key {
            Key::Not { in_place: true } => self.not_in_place(),
            Key::Binary(Binary::Add, kind, false) => self.chain(Alu::Add, Alu::Adc, kind),
            Key::Binary(Binary::Sub, kind, false) => self.chain(Alu::Sub, Alu::Sbb, kind),
            Key::Binary(Binary::Add, kind, true) => self.chain_in_place(Alu::Add, Alu::Adc, kind),
            Key::Binary(Binary::Sub, kind, true) => self.chain_in_place(Alu::Sub, Alu::Sbb, kind),
            Key::Binary(Binary::SubFrom, kind, _) => self.subtract_from(kind),
            Key::Compare(used, cond @ (Cond::Eq | Cond::Ne), kind @ (Kind::Slot | Kind::Pool)) => {
                self.equal(used, if cond == Cond::Eq { EQUAL } else { NOT_EQUAL }, kind);
            }
            Key::Compare(used, cond, kind) => {
                let narrow = matches!(kind, Kind::Imm31 | Kind::Imm64);
                let (swapped, condition) = match cond {
                    Cond::Eq | Cond::Ne => return false,
                    Cond::Ult | Cond::Ugt | Cond::Ule | Cond::Uge if narrow => return false,
                    Cond::Ult => (false, BELOW),
                    Cond::Uge => (false, NOT_BELOW),
                    Cond::Ugt => (true, BELOW),
                    Cond::Ule => (true, NOT_BELOW),
                    Cond::Slt => (false, LESS),
                    Cond::Sge => (false, NOT_LESS),
                    Cond::Sgt => (true, LESS),
                    Cond::Sle => (true, NOT_LESS),
                };
                self.less(used, swapped, condition, kind);
            }
            _ => return false,
        }
        true
    }

    /// `dst = a op b`: `first` for the lowest limb, `rest` with carry for the others.
    fn chain(&mut self, first: Alu, rest: Alu, kind: Kind) {
        let b = self.operand(kind);
        let (a, dst) = (self.field(Field::A), self.field(Field::Dst));
        for k in 0..4 {
            self.load(RAX, SP, a + 8 * k);
            self.op_limb(if k == 0 { first } else { rest }, b, k);
            self.store(RAX, SP, dst + 8 * k);
        }
    }

    /// `dst = dst op b`.
    fn chain_in_place(&mut self, first: Alu, rest: Alu, kind: Kind) {
        let b = self.operand(kind);
        let dst = self.field(Field::Dst);
        for k in 0..4 {
            let (op, at) = (if k == 0 { first } else { rest }, dst + 8 * k);
            match b {
                Limbs::Memory(base, disp) => {
                    self.load(RAX, base, disp + 8 * k);
                    self.op_store(op, RAX, SP, at);
                }
                Limbs::Imm31 if k == 0 => {
                    self.memory(0x81, op as u8, SP, at);
                    self.bytes.extend(self.field(Field::Imm).to_le_bytes());
                }
                Limbs::Rcx if k == 0 => self.op_store(op, RCX, SP, at),
                Limbs::Imm31 | Limbs::Rcx => {
                    self.memory(0x83, op as u8, SP, at);
                    self.bytes.push(0);
                }
            }
        }
    }

    /// `dst = constant - a`.
    fn subtract_from(&mut self, kind: Kind) {
        let constant = self.operand(kind);
        let (a, dst) = (self.field(Field::A), self.field(Field::Dst));
        for k in 0..4 {
            self.load_limb(constant, k);
            self.op_load(if k == 0 { Alu::Sub } else { Alu::Sbb }, RAX, SP, a + 8 * k);
            self.store(RAX, SP, dst + 8 * k);
        }
    }

    /// `dst = !dst`.
    fn not_in_place(&mut self) {
        for k in 0..4 {
            self.memory(0xf7, 2, SP, self.field(Field::Dst) + 8 * k);
        }
    }

    /// The condition of `a - b`, or of `b - a` if swapped.
    fn less(&mut self, used: Use, swapped: bool, condition: u8, kind: Kind) {
        let b = self.operand(kind);
        let a = Limbs::Memory(SP, self.field(Field::A));
        let (left, right) = if swapped { (b, a) } else { (a, b) };
        for k in 0..4 {
            self.load_limb(left, k);
            self.op_limb(if k == 0 { Alu::Cmp } else { Alu::Sbb }, right, k);
        }
        self.outcome(used, condition);
    }

    /// Whether the words are equal.
    fn equal(&mut self, used: Use, condition: u8, kind: Kind) {
        let Limbs::Memory(base, disp) = self.operand(kind) else { return };
        let a = self.field(Field::A);
        for k in 0..4 {
            let reg = if k == 0 { RAX } else { RCX };
            self.load(reg, SP, a + 8 * k);
            self.op_load(Alu::Xor, reg, base, disp + 8 * k);
            if k != 0 {
                self.op_reg(Alu::Or, RAX, RCX);
            }
        }
        self.outcome(used, condition);
    }

    /// Writes the condition as a word, or branches.
    fn outcome(&mut self, used: Use, condition: u8) {
        if used == Use::Branch {
            return self.leave_if(condition, Symbol::Taken);
        }
        let dst = self.field(Field::Dst);
        // setcc al; movzx eax, al; xorps xmm0, xmm0
        self.bytes.extend([0x0f, 0x90 | condition, 0xc0, 0x0f, 0xb6, 0xc0, 0x0f, 0x57, 0xc0]);
        for half in [0, 16] {
            // movups [rdi + dst], xmm0
            self.bytes.extend([0x0f, 0x11, 0x80 | SP.0]);
            self.bytes.extend((dst + half).to_le_bytes());
        }
        self.store(RAX, SP, dst);
    }
}
