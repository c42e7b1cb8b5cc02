//! Comparison and division.
//!
//! **Owns** the widths in which words are compared, and the fast paths of division. **Callers guarantee** that
//! the width is enough for the result. **Never** divides more than 64 bits: LLVM would call functions that are
//! not there, or emit loops of hundreds of instructions; that is for helpers.

use super::{CompileError, Int, Lower, ops::bits};
use inkwell::IntPredicate;
use kiln_abi::{Helper, envelope::Thunk};
use kiln_ir::{Cond, Op, ssa};

impl<'c> Lower<'c, '_, '_> {
    /// Whether `a cond b`.
    pub(super) fn compare(
        &mut self,
        cond: Cond,
        a: ssa::Value,
        b: ssa::Value,
    ) -> Result<Int<'c>, CompileError> {
        let (a, b) = (self.word(a)?, self.word(b)?);
        let width = bits(a).max(bits(b));
        let (a, b) = (self.e.resize(a, width)?, self.e.resize(b, width)?);
        // What is kept in less than all bits has no sign.
        let signed = width == 256;
        let predicate = match cond {
            Cond::Eq => IntPredicate::EQ,
            Cond::Ne => IntPredicate::NE,
            Cond::Slt if signed => IntPredicate::SLT,
            Cond::Sgt if signed => IntPredicate::SGT,
            Cond::Sle if signed => IntPredicate::SLE,
            Cond::Sge if signed => IntPredicate::SGE,
            Cond::Ult | Cond::Slt => IntPredicate::ULT,
            Cond::Ugt | Cond::Sgt => IntPredicate::UGT,
            Cond::Ule | Cond::Sle => IntPredicate::ULE,
            Cond::Uge | Cond::Sge => IntPredicate::UGE,
        };
        self.e.compare(predicate, a, b)
    }

    /// What this block computes as `a - b`, if equality of the two is asked for: comparing that with zero, the
    /// minuend need not be kept next to it.
    pub(super) fn difference(
        &self,
        cond: Cond,
        a: ssa::Value,
        b: ssa::Value,
    ) -> Option<ssa::Value> {
        if !matches!(cond, Cond::Eq | Cond::Ne) {
            return None;
        }
        let insts = &self.function.blocks[self.current?].insts;
        let same = |inst: &&ssa::Inst| {
            inst.op == ssa::Op::Word(Op::Sub) && inst.args[..2] == [Some(a), Some(b)]
        };
        let difference = insts.iter().find(same)?.dst?;
        // All bits of it are kept.
        let width = |value| self.width(value).ok();
        (width(difference)? >= width(a)?.max(width(b)?)).then_some(difference)
    }

    /// Whether a difference is one of equals, or is not.
    pub(super) fn compare_zero(
        &mut self,
        cond: Cond,
        difference: ssa::Value,
    ) -> Result<Int<'c>, CompileError> {
        let word = self.word(difference)?;
        let zero = self.e.int(bits(word), 0);
        let predicate = if cond == Cond::Eq { IntPredicate::EQ } else { IntPredicate::NE };
        self.e.compare(predicate, word, zero)
    }

    /// Whether a word is 2^64 or more; none if it is known that it is not.
    pub(super) fn beyond_limb(&mut self, word: Int<'c>) -> Result<Option<Int<'c>>, CompileError> {
        if bits(word) <= 64 {
            return Ok(None);
        }
        let limit = self.e.wide(bits(word), &[u64::MAX]);
        self.e.compare(IntPredicate::UGT, word, limit).map(Some)
    }

    /// DIV and MOD: 64 bits by 64 bits here, others by the helper.
    pub(super) fn divide(
        &mut self,
        helper: Helper,
        a: Int<'c>,
        b: Int<'c>,
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        let (remainder, thunk) = match helper {
            Helper::Div => (false, Thunk::Div),
            _ => (true, Thunk::Rem),
        };
        if self.bounds.limits.perturb.no_inline {
            return self.pure_cold(thunk, a, b, width);
        }
        let wide = match (self.beyond_limb(a)?, self.beyond_limb(b)?) {
            (Some(a), Some(b)) => Some(self.e.or(a, b)?),
            (wide, other) => wide.or(other),
        };
        let (x, y) = (self.e.resize(a, 64)?, self.e.resize(b, 64)?);
        if wide.is_some_and(|wide| wide.get_zero_extended_constant() == Some(1)) {
            return self.pure(helper, &[a, b], width);
        }
        let slow = match (wide, y.get_zero_extended_constant()) {
            (_, Some(0)) if wide.is_none() => return Ok(self.e.int(64, 0)),
            (None, Some(_)) => return self.e.divide(x, y, remainder, false),
            (Some(wide), Some(1..)) => wide,
            (wide, _) => {
                let zero = self.e.int(64, 0);
                let zero = self.e.compare(IntPredicate::EQ, y, zero)?;
                match wide {
                    // A zero divisor, too, the helper knows what to do with.
                    Some(wide) => self.e.or(wide, zero)?,
                    None => zero,
                }
            }
        };
        self.fast_or_thunk(slow, thunk, [a, b], width, |this| this.e.divide(x, y, remainder, false))
    }

    /// SDIV and SMOD: what fits 64 bits with its sign here, others by the helper.
    pub(super) fn divide_signed(
        &mut self,
        helper: Helper,
        a: Int<'c>,
        b: Int<'c>,
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        let (remainder, thunk) = match helper {
            Helper::Sdiv => (false, Thunk::Sdiv),
            _ => (true, Thunk::Smod),
        };
        if self.bounds.limits.perturb.no_inline {
            return self.pure_cold(thunk, a, b, width);
        }
        let wide_a = self.beyond_sign(a)?;
        let wide_b = self.beyond_sign(b)?;
        let wide = self.e.or(wide_a, wide_b)?;
        let (x, y) = (self.e.resize(a, 64)?, self.e.resize(b, 64)?);
        // Divisors 0 and -1 are the helper's: with -1 the quotient of the lowest number has 64 bits and
        // no sign.
        let one = self.e.int(64, 1);
        let above = self.e.add(y, one)?;
        let special = self.e.compare(IntPredicate::ULE, above, one)?;
        let slow = self.e.or(wide, special)?;
        if slow.get_zero_extended_constant() == Some(1) {
            return self.pure(helper, &[a, b], width);
        }
        self.fast_or_thunk(slow, thunk, [a, b], width, |this| {
            let low = this.e.divide(x, y, remainder, true)?;
            if width > 64 { this.e.sign_extend(low, width) } else { Ok(low) }
        })
    }

    /// Whether the bits above the lowest 64 do not repeat their sign.
    fn beyond_sign(&mut self, word: Int<'c>) -> Result<Int<'c>, CompileError> {
        let low = self.e.resize(word, 64)?;
        if bits(word) == 256 {
            let extended = self.e.sign_extend(low, 256)?;
            return self.e.compare(IntPredicate::NE, word, extended);
        }
        let limit = self.e.wide(bits(word), &[i64::MAX as u64]);
        self.e.compare(IntPredicate::UGT, word, limit)
    }

    /// What `fast` makes, or, where `slow` holds, which is hardly ever, what the helper does.
    fn fast_or_thunk(
        &mut self,
        slow: Int<'c>,
        thunk: Thunk,
        operands: [Int<'c>; 2],
        width: u32,
        fast: impl FnOnce(&mut Self) -> Result<Int<'c>, CompileError>,
    ) -> Result<Int<'c>, CompileError> {
        let (slow_block, fast_block) = (self.e.block()?, self.e.block()?);
        let done = self.e.block()?;
        self.e.branch_rarely(slow, slow_block, fast_block)?;

        self.e.switch_to(slow_block);
        let [a, b] = operands;
        let slow = self.pure_cold(thunk, a, b, width)?;
        let slow_end = self.e.here()?;
        self.e.jump(done)?;

        self.e.switch_to(fast_block);
        let fast = fast(self)?;
        let fast = self.e.resize(fast, width)?;
        let fast_end = self.e.here()?;
        self.e.jump(done)?;

        self.e.switch_to(done);
        let phi = self.e.phi(width)?;
        phi.add_incoming(&[(&slow, slow_end), (&fast, fast_end)]);
        Ok(phi.as_basic_value().into_int_value())
    }
}
