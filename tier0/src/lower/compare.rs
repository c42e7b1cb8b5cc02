//! Comparisons.
//!
//! **Owns** how two words are compared. The borrow of the lower half is injected into the next limb
//! as the low limb of a 128-bit comparison: Cranelift has no other way to continue a carry chain.
//! **Callers guarantee** what [`super`] says. **Never** decides where a branch goes.

use super::{Lower, Source};
use crate::{
    key::{Kind, Use},
    operand::Field,
    stencil::Symbol,
};
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::*};
use kiln_ir::Cond;

impl Lower<'_, '_> {
    /// `a cond b`, as a word or as a branch.
    pub(crate) fn compare(&mut self, used: Use, cond: Cond, kind: Kind) {
        let a = Source::Slot(Field::A);
        let b = self.source(Field::B, kind);
        let narrow = matches!(kind, Kind::Imm31 | Kind::Imm64);
        match cond {
            Cond::Eq | Cond::Ne => {
                let different = self.difference(a, b);
                let cc = if cond == Cond::Eq { IntCC::Equal } else { IntCC::NotEqual };
                let zero = self.iconst(0);
                let holds = self.icmp(cc, different, zero);
                self.finish_compare(used, holds);
            }
            Cond::Ult | Cond::Uge | Cond::Ugt | Cond::Ule if narrow => {
                self.narrow(used, cond, a, b);
            }
            Cond::Ult => self.less(used, a, b, false, false),
            Cond::Uge => self.less(used, a, b, false, true),
            Cond::Ugt => self.less(used, b, a, false, false),
            Cond::Ule => self.less(used, b, a, false, true),
            Cond::Slt => self.less(used, a, b, true, false),
            Cond::Sge => self.less(used, a, b, true, true),
            Cond::Sgt => self.less(used, b, a, true, false),
            Cond::Sle => self.less(used, b, a, true, true),
        }
    }

    fn finish_compare(&mut self, used: Use, holds: Value) {
        match used {
            Use::Set => {
                let holds = self.b.ins().uextend(I64, holds);
                self.put_computed_u64(holds);
            }
            Use::Branch => self.leave_if(holds, Symbol::Taken),
        }
    }

    /// Zero iff the words are equal.
    fn difference(&mut self, a: Source, b: Source) -> Value {
        let mut all = None;
        for k in 0..4 {
            let mut limb = self.limb(a, k);
            let zero = match b {
                Source::Zero => true,
                Source::Imm31(_) | Source::Limb(_) => k != 0,
                Source::Slot(_) | Source::Memory(_) => false,
            };
            if !zero {
                let other = self.limb(b, k);
                limb = self.b.ins().bxor(limb, other);
            }
            all = Some(match all {
                None => limb,
                Some(rest) => self.b.ins().bor(rest, limb),
            });
        }
        all.expect("a word has limbs")
    }

    /// `a < b`, or its negation.
    fn less(&mut self, used: Use, a: Source, b: Source, signed: bool, negate: bool) {
        let (x, y) = (self.pair(a, 0), self.pair(b, 0));
        let borrow = self.icmp(IntCC::UnsignedLessThan, x, y);
        let (x, y) = self.with_borrow(a, b, 2, borrow);
        let borrow = self.icmp(IntCC::UnsignedLessThan, x, y);
        let (x, y) = self.with_borrow(a, b, 3, borrow);
        let cc = match (signed, negate) {
            (false, false) => IntCC::UnsignedLessThan,
            (false, true) => IntCC::UnsignedGreaterThanOrEqual,
            (true, false) => IntCC::SignedLessThan,
            (true, true) => IntCC::SignedGreaterThanOrEqual,
        };
        let holds = self.icmp(cc, x, y);
        self.finish_compare(used, holds);
    }

    /// 128-bit values whose comparison is the one of limb `k` less a borrow.
    fn with_borrow(&mut self, a: Source, b: Source, k: usize, borrow: Value) -> (Value, Value) {
        let (x, y) = (self.limb(a, k), self.limb(b, k));
        let borrow = self.b.ins().uextend(I64, borrow);
        let zero = self.iconst(0);
        (self.b.ins().iconcat(zero, x), self.b.ins().iconcat(borrow, y))
    }

    /// Against a constant of one limb: the upper limbs decide, or the lowest does.
    fn narrow(&mut self, used: Use, cond: Cond, a: Source, b: Source) {
        let (x, y) = (self.limb(a, 0), self.limb(b, 0));
        let high = self.or_limbs(a, 1);
        let (cc, below) = match cond {
            Cond::Ult => (IntCC::UnsignedLessThan, true),
            Cond::Ule => (IntCC::UnsignedLessThanOrEqual, true),
            Cond::Ugt => (IntCC::UnsignedGreaterThan, false),
            _ => (IntCC::UnsignedGreaterThanOrEqual, false),
        };
        let low = self.icmp(cc, x, y);
        let zero = self.iconst(0);
        match (used, below) {
            (Use::Set, true) => {
                let fits = self.icmp(IntCC::Equal, high, zero);
                let holds = self.b.ins().band(low, fits);
                self.finish_compare(used, holds);
            }
            (Use::Set, false) => {
                let wide = self.icmp(IntCC::NotEqual, high, zero);
                let holds = self.b.ins().bor(low, wide);
                self.finish_compare(used, holds);
            }
            (Use::Branch, true) => {
                let fits = self.b.create_block();
                let done = self.b.create_block();
                let taken = self.b.create_block();
                self.b.set_cold_block(taken);
                self.b.ins().brif(high, done, &[], fits, &[]);
                self.b.switch_to_block(fits);
                self.b.ins().brif(low, taken, &[], done, &[]);
                self.b.switch_to_block(taken);
                self.tail(Symbol::Taken);
                self.b.switch_to_block(done);
            }
            (Use::Branch, false) => {
                self.leave_if(high, Symbol::Taken);
                self.leave_if(low, Symbol::Taken);
            }
        }
    }
}
