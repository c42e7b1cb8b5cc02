//! Comparisons.
//!
//! **Owns** how two words are compared: over as many limbs as they have. The borrow of the lower half is
//! injected into the next limb as the low limb of a 128-bit comparison: Cranelift has no other way to
//! continue a carry chain. **Callers guarantee** nothing. **Never** decides where a branch goes.

use super::{
    Lower,
    word::{Limb, Limbs},
};
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::*};
use kiln_ir::Cond;

impl Lower<'_, '_> {
    /// A value that is zero iff `a cond b` does not hold: 8 bits, 0 or 1.
    pub(super) fn compare(&mut self, cond: Cond, a: Limbs, b: Limbs) -> Value {
        match cond {
            Cond::Eq => self.equal(a, b, IntCC::Equal),
            Cond::Ne => self.equal(a, b, IntCC::NotEqual),
            Cond::Ult => self.below(a, b, false),
            Cond::Uge => self.below(a, b, true),
            Cond::Ugt => self.below(b, a, false),
            Cond::Ule => self.below(b, a, true),
            Cond::Slt => self.less(a, b, false),
            Cond::Sge => self.less(a, b, true),
            Cond::Sgt => self.less(b, a, false),
            Cond::Sle => self.less(b, a, true),
        }
    }

    fn equal(&mut self, a: Limbs, b: Limbs, cc: IntCC) -> Value {
        if a.len().max(b.len()) <= 1 {
            return self.icmp(cc, a.0[0], b.0[0]);
        }
        let mut different = Limb::ZERO;
        for (a, b) in a.0.into_iter().zip(b.0) {
            let limb = self.xor_limb(a, b);
            different = self.or_limb(different, limb);
        }
        self.icmp(cc, different, Limb::ZERO)
    }

    fn icmp(&mut self, cc: IntCC, a: Limb, b: Limb) -> Value {
        let (a, b) = (self.value(a), self.value(b));
        self.b.ins().icmp(cc, a, b)
    }

    /// `a < b` without signs, or its negation.
    fn below(&mut self, a: Limbs, b: Limbs, negate: bool) -> Value {
        let cc = match negate {
            false => IntCC::UnsignedLessThan,
            true => IntCC::UnsignedGreaterThanOrEqual,
        };
        let low = match a.len().min(b.len()) {
            0 | 1 => 1,
            2 => 2,
            _ => return self.chain(a, b, cc),
        };
        let holds = if low == 1 {
            self.icmp(cc, a.0[0], b.0[0])
        } else {
            let (x, y) = (self.pair(a.0[0], a.0[1]), self.pair(b.0[0], b.0[1]));
            self.b.ins().icmp(cc, x, y)
        };
        if a.len().max(b.len()) <= low {
            return holds;
        }
        // What the longer word has above decides, or else the low limbs do: `b` is longer iff what lies
        // above makes it hold.
        let above_holds = (b.len() > low) != negate;
        let high = self.any(&if b.len() > low { b.0 } else { a.0 }[low..]);
        match above_holds {
            true => {
                let high = self.icmp(IntCC::NotEqual, high, Limb::ZERO);
                self.b.ins().bor(holds, high)
            }
            false => {
                let high = self.icmp(IntCC::Equal, high, Limb::ZERO);
                self.b.ins().band(holds, high)
            }
        }
    }

    /// `a < b` with signs, or its negation.
    fn less(&mut self, a: Limbs, b: Limbs, negate: bool) -> Value {
        let positive = |limb: Limb| matches!(limb, Limb::Const(limb) if limb as i64 >= 0);
        if positive(a.0[3]) && positive(b.0[3]) {
            return self.below(a, b, negate);
        }
        let cc = match negate {
            false => IntCC::SignedLessThan,
            true => IntCC::SignedGreaterThanOrEqual,
        };
        // Against 0 and -1 the sign decides.
        if b.len() == 0 || a.0 == [Limb::Const(u64::MAX); 4] {
            return self.icmp(cc, a.0[3], b.0[3]);
        }
        self.chain(a, b, cc)
    }

    /// The comparison of three or four limbs; `cc` says how the highest are compared.
    fn chain(&mut self, a: Limbs, b: Limbs, cc: IntCC) -> Value {
        let (x, y) = (self.pair(a.0[0], a.0[1]), self.pair(b.0[0], b.0[1]));
        let mut borrow = self.b.ins().icmp(IntCC::UnsignedLessThan, x, y);
        let last = a.len().max(b.len()) - 1;
        for k in 2..=last {
            let (x, y) = (self.value(a.0[k]), self.value(b.0[k]));
            let zero = self.iconst(0);
            let low = self.b.ins().uextend(I64, borrow);
            let (x, y) = (self.b.ins().iconcat(zero, x), self.b.ins().iconcat(low, y));
            borrow = self.b.ins().icmp(if k == last { cc } else { IntCC::UnsignedLessThan }, x, y);
        }
        borrow
    }
}
