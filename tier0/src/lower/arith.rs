//! Addition, subtraction, multiplication.
//!
//! **Owns** the carries. Cranelift has carry chains only inside one 128-bit operation, so a word is
//! two halves. **Callers guarantee** what [`super`] says. **Never** divides: that is for helpers.

use super::{Lower, Source};
use crate::{
    key::{Binary, Kind},
    operand::Field,
    stencil::Symbol,
};
use cranelift_codegen::ir::{InstBuilder, Value, types::*};
use kiln_abi::Helper;

impl Lower<'_, '_> {
    /// `dst = a op b`. Sums and differences of stencils are carry chains written by hand; as
    /// Cranelift IR they are two halves.
    pub(crate) fn binary(&mut self, op: Binary, kind: Kind, in_place: bool) {
        let a = Source::Slot(if in_place { Field::Dst } else { Field::A });
        let b = self.source(Field::B, kind);
        // A limb that the constant does not change stays where it is.
        let narrow = in_place && matches!(kind, Kind::Imm31 | Kind::Imm64);
        match op {
            Binary::Add => self.add(a, b),
            Binary::Sub => self.sub(a, b),
            Binary::SubFrom => self.sub(b, a),
            Binary::Mul => self.mul(a, b),
            Binary::And if matches!(kind, Kind::Imm31 | Kind::Imm64) => {
                let (x, y) = (self.limb(a, 0), self.limb(b, 0));
                let low = self.b.ins().band(x, y);
                self.put_computed_u64(low);
            }
            Binary::And => self.limbwise(a, b, 4, |l, x, y| l.b.ins().band(x, y)),
            Binary::Or => {
                self.limbwise(a, b, if narrow { 1 } else { 4 }, |l, x, y| l.b.ins().bor(x, y));
            }
            Binary::Xor => {
                self.limbwise(a, b, if narrow { 1 } else { 4 }, |l, x, y| l.b.ins().bxor(x, y));
            }
        }
    }

    fn add(&mut self, a: Source, b: Source) {
        let (x, y) = (self.pair(a, 0), self.pair(b, 0));
        let (low, carry) = self.b.ins().uadd_overflow(x, y);
        self.put_pair(0, low);
        let (x, y) = (self.pair(a, 2), self.pair(b, 2));
        let high = self.b.ins().iadd(x, y);
        let carry = self.widen_flag(carry);
        let high = self.b.ins().iadd(high, carry);
        self.put_pair(2, high);
    }

    fn sub(&mut self, a: Source, b: Source) {
        let (x, y) = (self.pair(a, 0), self.pair(b, 0));
        let (low, borrow) = self.b.ins().usub_overflow(x, y);
        self.put_pair(0, low);
        let (x, y) = (self.pair(a, 2), self.pair(b, 2));
        let high = self.b.ins().isub(x, y);
        let borrow = self.widen_flag(borrow);
        let high = self.b.ins().isub(high, borrow);
        self.put_pair(2, high);
    }

    /// An 8-bit flag as 128 bits, in the form Cranelift adds with `adc reg, 0`.
    fn widen_flag(&mut self, flag: Value) -> Value {
        let flag = self.b.ins().uextend(I64, flag);
        self.b.ins().uextend(I128, flag)
    }

    /// Factors that fit one limb are multiplied here, others by the helper.
    fn mul(&mut self, a: Source, b: Source) {
        let slots = matches!(b, Source::Slot(_));
        let mut high = self.or_limbs(a, 1);
        if slots {
            for k in 1..4 {
                let limb = self.limb(b, k);
                high = self.b.ins().bor(high, limb);
            }
        }
        self.cold_if(high, |l| {
            let dst = l.slot_address(Field::Dst);
            let a = l.slot_address(Field::A);
            let b = if slots { l.slot_address(Field::B) } else { l.pool(Field::B) };
            l.call(Symbol::Thunk(Helper::Mul as u8), &[dst, a, b]);
            l.tail(Symbol::Next);
        });
        let (x, y) = (self.limb(a, 0), self.limb(b, 0));
        let low = self.b.ins().imul(x, y);
        let high = self.b.ins().umulhi(x, y);
        let zero = self.zero16();
        self.put(0, low);
        self.put(1, high);
        self.store_sp(zero, Field::Dst, 16);
    }

    /// An operation without carries. A limb is written as soon as it is known: it can alias only the
    /// limb of the same number.
    fn limbwise(
        &mut self,
        a: Source,
        b: Source,
        limbs: usize,
        op: impl Fn(&mut Self, Value, Value) -> Value,
    ) {
        for k in 0..limbs {
            // What is loaded last is folded into the operation: with the store, if it is `dst`.
            let (x, y) = if let Source::Slot(Field::Dst) = a {
                let y = self.limb(b, k);
                (self.limb(a, k), y)
            } else {
                (self.limb(a, k), self.limb(b, k))
            };
            let value = op(self, x, y);
            self.put(k, value);
        }
    }
}
