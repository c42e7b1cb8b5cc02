//! Addition, subtraction, multiplication, division.
//!
//! **Owns** the carries. Cranelift has carry chains only inside one 128-bit operation, so wide words are
//! two halves. Only as many limbs are computed as the result can have: the low limbs of sums, differences
//! and products depend on the low limbs of the operands alone. **Callers guarantee** that `limbs` is enough
//! for the result. **Never** divides words of more than one limb: that is for helpers.

use super::{
    Lower,
    word::{Limb, Limbs},
};
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::*};
use kiln_abi::{Helper, envelope::Thunk};
use kiln_ir::ssa::demand;

/// What is added by a constant close below 2^256 is better subtracted.
fn negated(word: &Limbs) -> Option<Limbs> {
    match word.0 {
        [Limb::Const(low), Limb::Const(u64::MAX), Limb::Const(u64::MAX), Limb::Const(u64::MAX)]
            if low != 0 =>
        {
            Some(Limbs::narrow(Limb::Const(low.wrapping_neg())))
        }
        _ => None,
    }
}

/// Products of limbs that cost less than a call.
const SMALL_PRODUCTS: usize = 2;

/// A division with its operands' signs, and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Division {
    Quotient,
    Remainder,
}

impl Lower<'_, '_> {
    pub(super) fn add(&mut self, mut a: Limbs, mut b: Limbs, limbs: usize) -> Limbs {
        if a.known().is_some() {
            std::mem::swap(&mut a, &mut b);
        }
        if let Some(b) = negated(&b).filter(|_| limbs > 1) {
            return self.sub(a, b, limbs);
        }
        let (a, b) = (a.0, b.0);
        let mut sum = Limbs::ZERO;
        match limbs {
            0 => {}
            1 => sum.0[0] = self.add_limb(a[0], b[0]),
            2 => {
                let (x, y) = (self.pair(a[0], a[1]), self.pair(b[0], b[1]));
                let low = self.b.ins().iadd(x, y);
                [sum.0[0], sum.0[1]] = self.split(low);
            }
            _ => {
                let carry;
                ([sum.0[0], sum.0[1]], carry) = self.add_low(a, b);
                if limbs == 3 {
                    let high = self.add_limb(a[2], b[2]);
                    sum.0[2] = self.add_limb(high, carry);
                } else {
                    [sum.0[2], sum.0[3]] = self.add_high(a, b, carry);
                }
            }
        }
        sum
    }

    /// The lower half of a sum, and the carry out of it.
    fn add_low(&mut self, a: [Limb; 4], b: [Limb; 4]) -> ([Limb; 2], Limb) {
        if b[0].is_zero() && b[1].is_zero() {
            return ([a[0], a[1]], Limb::ZERO);
        }
        if a[0].is_zero() && a[1].is_zero() {
            return ([b[0], b[1]], Limb::ZERO);
        }
        let (x, y) = (self.pair(a[0], a[1]), self.pair(b[0], b[1]));
        let (low, carry) = self.b.ins().uadd_overflow(x, y);
        (self.split(low), self.flag(carry))
    }

    /// The upper half of a sum.
    fn add_high(&mut self, a: [Limb; 4], b: [Limb; 4], carry: Limb) -> [Limb; 2] {
        let halves = [[a[2], a[3]], [b[2], b[3]], [carry, Limb::ZERO]];
        let mut sum: Option<Value> = None;
        for [low, high] in halves {
            if low.is_zero() && high.is_zero() {
                continue;
            }
            let half = self.pair(low, high);
            sum = Some(match sum {
                None => half,
                Some(sum) => self.b.ins().iadd(sum, half),
            });
        }
        match sum {
            None => [Limb::ZERO; 2],
            Some(sum) => self.split(sum),
        }
    }

    pub(super) fn sub(&mut self, a: Limbs, b: Limbs, limbs: usize) -> Limbs {
        if let Some(b) = negated(&b).filter(|_| limbs > 1) {
            return self.add(a, b, limbs);
        }
        let (a, b) = (a.0, b.0);
        let mut difference = Limbs::ZERO;
        match limbs {
            0 => {}
            1 => difference.0[0] = self.sub_limb(a[0], b[0]),
            2 => {
                let (x, y) = (self.pair(a[0], a[1]), self.pair(b[0], b[1]));
                let low = self.b.ins().isub(x, y);
                [difference.0[0], difference.0[1]] = self.split(low);
            }
            _ => {
                let mut borrow = Limb::ZERO;
                if b[0].is_zero() && b[1].is_zero() {
                    (difference.0[0], difference.0[1]) = (a[0], a[1]);
                } else {
                    let (x, y) = (self.pair(a[0], a[1]), self.pair(b[0], b[1]));
                    let (low, flag) = self.b.ins().usub_overflow(x, y);
                    [difference.0[0], difference.0[1]] = self.split(low);
                    borrow = self.flag(flag);
                }
                if limbs == 3 {
                    let high = self.sub_limb(a[2], b[2]);
                    difference.0[2] = self.sub_limb(high, borrow);
                } else {
                    [difference.0[2], difference.0[3]] = self.sub_high(a, b, borrow);
                }
            }
        }
        difference
    }

    fn sub_high(&mut self, a: [Limb; 4], b: [Limb; 4], borrow: Limb) -> [Limb; 2] {
        let mut high = self.pair(a[2], a[3]);
        for [low, top] in [[b[2], b[3]], [borrow, Limb::ZERO]] {
            if !(low.is_zero() && top.is_zero()) {
                let half = self.pair(low, top);
                high = self.b.ins().isub(high, half);
            }
        }
        self.split(high)
    }

    /// The product: in line, if it is small or there are not too many.
    pub(super) fn mul(&mut self, a: Limbs, b: Limbs, limbs: usize) -> Limbs {
        // The shorter factor makes the rows: fewer carries.
        let (a, b) = if a.len() < b.len() { (b, a) } else { (a, b) };
        let products: usize = (0..b.len().min(limbs)).map(|i| a.len().min(limbs - i)).sum();
        if products > SMALL_PRODUCTS {
            match self.products_left.checked_sub(products) {
                Some(left) => self.products_left = left,
                None => return self.pure(Helper::Mul, &[a, b], limbs),
            }
        }
        self.product(a, b, limbs)
    }

    /// The product, row by row.
    fn product(&mut self, a: Limbs, b: Limbs, limbs: usize) -> Limbs {
        let mut product = Limbs::ZERO;
        for i in 0..b.len().min(limbs) {
            let mut carry = Limb::ZERO;
            for j in 0..limbs - i {
                let k = i + j;
                if k + 1 == limbs {
                    let low = self.mul_limb(a.0[j], b.0[i]);
                    let sum = self.add_limb(low, carry);
                    product.0[k] = self.add_limb(product.0[k], sum);
                } else {
                    (product.0[k], carry) =
                        self.multiply_add(a.0[j], b.0[i], [product.0[k], carry]);
                }
            }
        }
        product
    }

    fn mul_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Limb::Const(a), Limb::Const(b)) => Limb::Const(a.wrapping_mul(b)),
            (Limb::Const(0), _) | (_, Limb::Const(0)) => Limb::ZERO,
            (Limb::Const(1), other) | (other, Limb::Const(1)) => other,
            (a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().imul(a, b))
            }
        }
    }

    /// `a * b` and two more limbs, which fits two.
    fn multiply_add(&mut self, a: Limb, b: Limb, more: [Limb; 2]) -> (Limb, Limb) {
        let mut sum: Option<Value> = None;
        if a.is_zero() || b.is_zero() {
            match more {
                [limb, Limb::Const(0)] | [Limb::Const(0), limb] => return (limb, Limb::ZERO),
                _ => {}
            }
        } else {
            let (a, b) = (self.value(a), self.value(b));
            let (a, b) = (self.b.ins().uextend(I128, a), self.b.ins().uextend(I128, b));
            sum = Some(self.b.ins().imul(a, b));
        }
        for limb in more {
            if limb.is_zero() {
                continue;
            }
            match sum {
                None => sum = Some(self.pair(limb, Limb::ZERO)),
                Some(before) => {
                    let limb = self.pair(limb, Limb::ZERO);
                    sum = Some(self.b.ins().iadd(before, limb));
                }
            }
        }
        match sum {
            None => (Limb::ZERO, Limb::ZERO),
            Some(sum) => {
                let [low, high] = self.split(sum);
                (low, high)
            }
        }
    }

    /// DIV and MOD: one limb by one limb here, others by the helper.
    pub(super) fn divide(&mut self, helper: Helper, a: Limbs, b: Limbs, limbs: usize) -> Limbs {
        let (what, thunk) = match helper {
            Helper::Div => (Division::Quotient, Thunk::Div),
            _ => (Division::Remainder, Thunk::Rem),
        };
        if self.perturb.no_inline {
            return self.pure_cold(thunk, a, b, limbs);
        }
        if let Limb::Const(divisor) = b.0[0]
            && b.len() == 1
            && a.len() <= 1
        {
            // Cranelift turns it into a multiplication.
            let (x, y) = (self.value(a.0[0]), self.iconst(divisor));
            return Limbs::narrow(Limb::Value(self.divide_limb(what, x, y)));
        }
        // A zero divisor has all limbs zero, which the helper knows what to do with.
        let wide = self.any(&[a.0[1], a.0[2], a.0[3], b.0[1], b.0[2], b.0[3]]);
        if let Limb::Const(1..) = wide {
            return self.pure(helper, &[a, b], limbs);
        }
        let (x, y) = (self.value(a.0[0]), self.value(b.0[0]));
        let done = self.join(demand::low(limbs));
        let (fits, fast) = (self.b.create_block(), self.b.create_block());
        let slow = self.cold_block();
        match wide {
            Limb::Const(0) => _ = self.b.ins().jump(fits, &[]),
            wide => {
                let wide = self.value(wide);
                self.b.ins().brif(wide, slow, &[], fits, &[]);
            }
        }
        self.b.switch_to_block(fits);
        self.b.ins().brif(y, fast, &[], slow, &[]);

        self.b.switch_to_block(slow);
        let result = self.pure_cold(thunk, a, b, limbs);
        self.jump_to_join(done, result, demand::low(limbs));

        self.b.switch_to_block(fast);
        let result = Limbs::narrow(Limb::Value(self.divide_limb(what, x, y)));
        self.jump_to_join(done, result, demand::low(limbs));
        self.enter_join(done, demand::low(limbs))
    }

    fn divide_limb(&mut self, what: Division, x: Value, y: Value) -> Value {
        match what {
            Division::Quotient => self.b.ins().udiv(x, y),
            Division::Remainder => self.b.ins().urem(x, y),
        }
    }

    /// SDIV and SMOD: what fits 64 bits with its sign here, others by the helper.
    pub(super) fn divide_signed(
        &mut self,
        helper: Helper,
        a: Limbs,
        b: Limbs,
        limbs: usize,
    ) -> Limbs {
        let (what, thunk) = match helper {
            Helper::Sdiv => (Division::Quotient, Thunk::Sdiv),
            _ => (Division::Remainder, Thunk::Smod),
        };
        if self.perturb.no_inline {
            return self.pure_cold(thunk, a, b, limbs);
        }
        let wide_a = self.beyond_sign(a);
        let wide_b = self.beyond_sign(b);
        let wide = self.or_limb(wide_a, wide_b);
        if let Limb::Const(1..) = wide {
            return self.pure(helper, &[a, b], limbs);
        }
        let wide = self.value(wide);
        let (x, y) = (self.value(a.0[0]), self.value(b.0[0]));
        let done = self.join(demand::low(limbs));
        let slow = self.cold_block();
        let [fits, fast] = [(); 2].map(|()| self.b.create_block());
        self.b.ins().brif(wide, slow, &[], fits, &[]);
        self.b.switch_to_block(fits);
        // Divisors 0 and -1 are the helper's: with -1 the quotient of the lowest number has 64 bits and
        // no sign.
        let above = self.b.ins().iadd_imm_s(y, 1);
        let plain = self.b.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, above, 1);
        self.b.ins().brif(plain, fast, &[], slow, &[]);

        self.b.switch_to_block(slow);
        let result = self.pure_cold(thunk, a, b, limbs);
        self.jump_to_join(done, result, demand::low(limbs));

        self.b.switch_to_block(fast);
        let low = match what {
            Division::Quotient => self.b.ins().sdiv(x, y),
            Division::Remainder => self.b.ins().srem(x, y),
        };
        let low = Limb::Value(low);
        let sign = self.sar_limb(low, 63);
        self.jump_to_join(done, Limbs([low, sign, sign, sign]), demand::low(limbs));
        self.enter_join(done, demand::low(limbs))
    }

    /// Zero iff the upper limbs only repeat the sign of the lowest.
    fn beyond_sign(&mut self, word: Limbs) -> Limb {
        let [low, high @ ..] = word.0;
        let sign = self.sar_limb(low, 63);
        high.into_iter().fold(Limb::ZERO, |all, limb| {
            let differs = self.xor_limb(limb, sign);
            self.or_limb(all, differs)
        })
    }
}
