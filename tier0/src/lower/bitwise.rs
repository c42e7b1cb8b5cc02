//! Masks, shifts, bytes, copies.
//!
//! **Owns** operations that move bits without carries. **Callers guarantee** what [`super`] says.
//! **Never** shifts by an amount that is not constant: that is for helpers.

use super::{FLAGS, Lower, Source};
use crate::{
    key::{Kind, Shift},
    operand::Field,
};
use cranelift_codegen::ir::{InstBuilder, Value, types::*};

impl Lower<'_, '_> {
    /// `dst = a`. Slots are copied limb by limb: a 16-byte load behind stores of limbs would have to
    /// wait for them to reach the cache.
    pub(crate) fn copy(&mut self, kind: Kind) {
        match kind {
            Kind::Slot => {
                for k in 0..4 {
                    let limb = self.limb(Source::Slot(Field::A), k);
                    self.put(k, limb);
                }
            }
            Kind::Pool => {
                let base = self.pool(Field::A);
                for half in [0, 16] {
                    let value = self.b.ins().load(F32X4, FLAGS, base, half);
                    self.store_sp(value, Field::Dst, half);
                }
            }
            Kind::Imm31 | Kind::Imm64 => {
                let source = self.source(Field::A, kind);
                let value = self.limb(source, 0);
                self.put_u64(value);
            }
            Kind::Zero => {
                let zero = self.zero16();
                self.store_sp(zero, Field::Dst, 0);
                self.store_sp(zero, Field::Dst, 16);
            }
        }
    }

    /// `dst = !a`.
    pub(crate) fn not(&mut self) {
        for k in 0..4 {
            let limb = self.limb(Source::Slot(Field::A), k);
            let limb = self.b.ins().bnot(limb);
            self.put(k, limb);
        }
    }

    /// `dst = a & (-2^31 | imm)`: only the lowest limb changes.
    pub(crate) fn and_signed(&mut self, in_place: bool) {
        let low = self.limb(Source::Slot(Field::A), 0);
        let mask = self.imm(Field::Signed);
        let low = self.b.ins().band(low, mask);
        self.put(0, low);
        if !in_place {
            self.copy_limbs(1, 4);
        }
    }

    /// Copies limbs of `a` from `from` up to, not including, `to`.
    fn copy_limbs(&mut self, from: usize, to: usize) {
        for k in from..to {
            let limb = self.limb(Source::Slot(Field::A), k);
            self.put(k, limb);
        }
    }

    /// Keeps the lowest limbs, and perhaps half a limb more.
    pub(crate) fn mask(&mut self, limbs: usize, half: bool, in_place: bool) {
        if in_place && half {
            let zero = self.b.ins().iconst(I32, 0);
            self.store_sp(zero, Field::Dst, 8 * limbs as i32 + 4);
        } else if half {
            let low = self.load_sp(I32, Field::A, 8 * limbs as i32);
            let low = self.b.ins().uextend(I64, low);
            self.put(limbs, low);
        }
        if !in_place {
            self.copy_limbs(0, limbs);
        }
        let first = limbs + half as usize;
        if first <= 2 {
            let zero = self.zero16();
            self.store_sp(zero, Field::Dst, 16);
        }
        if first % 2 == 1 {
            let zero = self.iconst(0);
            self.put(first, zero);
        }
    }

    /// `dst = a shift (64 * limbs + bits)`.
    pub(crate) fn shift(&mut self, shift: Shift, limbs: usize, bits: bool) {
        match shift {
            Shift::Left => self.shift_left(limbs, bits),
            Shift::Right => self.shift_right(limbs, bits, false),
            Shift::Signed => self.shift_right(limbs, bits, true),
        }
    }

    /// From the highest limb down: what is written is not read again.
    fn shift_left(&mut self, limbs: usize, bits: bool) {
        let a = Source::Slot(Field::A);
        let mut high = self.limb(a, 3 - limbs);
        for k in (limbs..4).rev() {
            if !bits {
                self.put(k, high);
                if k > limbs {
                    high = self.limb(a, k - 1 - limbs);
                }
                continue;
            }
            let up = self.magic_shift(high, Field::Bits, Shift::Left);
            if k == limbs {
                self.put(k, up);
                break;
            }
            let low = self.limb(a, k - 1 - limbs);
            let down = self.magic_shift(low, Field::Rest, Shift::Right);
            let value = self.b.ins().bor(up, down);
            self.put(k, value);
            high = low;
        }
        self.put_zeros(0, limbs);
    }

    /// From the lowest limb up.
    fn shift_right(&mut self, limbs: usize, bits: bool, signed: bool) {
        let a = Source::Slot(Field::A);
        let mut low = self.limb(a, limbs);
        let mut top = low;
        for k in 0..4 - limbs {
            if k + limbs == 3 {
                top = low;
                let kind = if signed { Shift::Signed } else { Shift::Right };
                let value = if bits { self.magic_shift(low, Field::Bits, kind) } else { low };
                self.put(k, value);
                break;
            }
            let high = self.limb(a, k + 1 + limbs);
            if bits {
                let down = self.magic_shift(low, Field::Bits, Shift::Right);
                let up = self.magic_shift(high, Field::Rest, Shift::Left);
                let value = self.b.ins().bor(up, down);
                self.put(k, value);
            } else {
                self.put(k, low);
            }
            low = high;
        }
        if signed {
            self.put_signs(4 - limbs, top);
        } else {
            self.put_zeros(4 - limbs, 4);
        }
    }

    fn magic_shift(&mut self, value: Value, field: Field, shift: Shift) -> Value {
        let amount = self.magic.of(field);
        match shift {
            Shift::Left => self.b.ins().ishl_imm_u(value, amount),
            Shift::Right => self.b.ins().ushr_imm_u(value, amount),
            Shift::Signed => self.b.ins().sshr_imm_u(value, amount),
        }
    }

    fn put_zeros(&mut self, from: usize, to: usize) {
        let zero = self.iconst(0);
        (from..to).for_each(|k| self.put(k, zero));
    }

    /// Fills the limbs from `from` upwards with the sign of a limb.
    fn put_signs(&mut self, from: usize, limb: Value) {
        if from < 4 {
            let sign = self.b.ins().sshr_imm_u(limb, 63);
            (from..4).for_each(|k| self.put(k, sign));
        }
    }

    /// `dst` = one byte of `a`; the field is the byte's own offset.
    pub(crate) fn byte(&mut self) {
        let byte = self.load_sp(I8, Field::A, 0);
        let byte = self.b.ins().uextend(I64, byte);
        self.put_u64(byte);
    }

    /// `dst` = `a` sign-extended; the value's sign is bit `63 - bits` of `limb`.
    pub(crate) fn signextend(&mut self, limb: usize) {
        self.copy_limbs(0, limb);
        let value = self.limb(Source::Slot(Field::A), limb);
        let up = self.magic_shift(value, Field::Bits, Shift::Left);
        let value = self.magic_shift(up, Field::Bits, Shift::Signed);
        self.put(limb, value);
        self.put_signs(limb + 1, value);
    }
}
