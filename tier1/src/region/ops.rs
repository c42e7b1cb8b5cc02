//! One instruction of a region: a table of contents.
//!
//! **Owns** what each operation is made of. **Callers guarantee** operands that are computed already.
//! **Never** computes more bits than the result can have or somebody reads.

use super::{CompileError, Int, Lower, MISSING, NO_EXIT, control::displacement, emit::Area};
use kiln_abi::{Helper, HelperShape, Word, context_offset};
use kiln_ir::{
    Op, fold,
    ssa::{self, demand},
};

const OUT_OF_RANGE: CompileError = CompileError::Malformed("an immediate out of range");

/// The bits in which so many limbs are computed.
pub(super) const fn width(limbs: usize) -> u32 {
    match limbs {
        0 | 1 => 64,
        2 => 128,
        _ => 256,
    }
}

/// The bits of a word or a number in LLVM.
pub(super) fn bits(value: Int<'_>) -> u32 {
    value.get_type().get_bit_width()
}

impl<'c> Lower<'c, '_, '_> {
    /// The bits in which a value is kept: those that it can have and somebody reads.
    pub(super) fn width(&self, value: ssa::Value) -> Result<u32, CompileError> {
        let wanted = self.wanted.get(value.0 as usize).copied();
        let wanted = wanted.ok_or(CompileError::Malformed("no such value"))?;
        Ok(width(demand::len(wanted)))
    }

    /// A value that is computed already, or a constant, in as many bits as it is kept.
    pub(super) fn word(&self, value: ssa::Value) -> Result<Int<'c>, CompileError> {
        match self.words.get(value.0 as usize) {
            Some(Some(word)) => Ok(self.narrowed.get(value, self.current).unwrap_or(*word)),
            Some(None) => match self.function.constant(value) {
                Some(word) => Ok(self.constant(word)),
                None => Err(CompileError::Malformed("a value is used before it is defined")),
            },
            None => Err(CompileError::Malformed("no such value")),
        }
    }

    /// The same in so many bits.
    pub(super) fn word_in(
        &mut self,
        value: ssa::Value,
        bits: u32,
    ) -> Result<Int<'c>, CompileError> {
        let word = self.word(value)?;
        self.e.resize(word, bits)
    }

    fn constant(&self, word: Word) -> Int<'c> {
        let limbs = word.0.iter().rposition(|&limb| limb != 0).map_or(1, |top| top + 1);
        self.e.wide(width(limbs), &word.0[..width(limbs) as usize / 64])
    }

    /// Notes what a value is.
    pub(super) fn define(&mut self, value: ssa::Value, word: Int<'c>) -> Result<(), CompileError> {
        let word = self.e.resize(word, self.width(value)?)?;
        self.words[value.0 as usize] = Some(word);
        Ok(())
    }

    pub(super) fn inst(&mut self, inst: &ssa::Inst) -> Result<(), CompileError> {
        inst.exit.map_or(Ok(()), |exit| self.perform_early(exit))?;
        let width = inst.dst.map_or(Ok(64), |dst| self.width(dst))?;
        let word = match inst.op {
            ssa::Op::Slot(slot) => {
                let at = self.e.offset(self.sp, displacement(slot))?;
                Some(self.e.load(Area::Stack, at, width, 8)?)
            }
            ssa::Op::Narrow => Some(self.narrow(inst)?),
            ssa::Op::Word(op) => self.op(inst, op, width)?,
            ssa::Op::Run(helper) => {
                self.run(helper, inst.exit.ok_or(NO_EXIT)?)?;
                None
            }
        };
        match (inst.dst, word) {
            (Some(dst), Some(word)) => self.define(dst, word),
            (None, _) => Ok(()),
            (Some(_), None) => Err(CompileError::Malformed("a result where there is none")),
        }
    }

    fn arg(&self, inst: &ssa::Inst, index: usize) -> Result<ssa::Value, CompileError> {
        inst.args[index].ok_or(MISSING)
    }

    /// The operand, of which LLVM is told how large it is where the width alone does not say so.
    fn narrow(&mut self, inst: &ssa::Inst) -> Result<Int<'c>, CompileError> {
        let word = self.word(self.arg(inst, 0)?)?;
        let known = inst.dst.map_or(256, |dst| u32::from(self.function.bits(dst)));
        if bits(word) == 256 && known > 128 && known <= 192 {
            let mask = self.e.wide(256, &[u64::MAX, u64::MAX, u64::MAX, 0]);
            return self.e.and(word, mask);
        }
        Ok(word)
    }

    /// What an operation gives, in so many bits at least; none if it gives nothing.
    fn op(
        &mut self,
        inst: &ssa::Inst,
        op: Op,
        width: u32,
    ) -> Result<Option<Int<'c>>, CompileError> {
        let exit = || if inst.checked { inst.exit.ok_or(NO_EXIT).map(Some) } else { Ok(None) };
        Ok(Some(match op {
            Op::Add | Op::Sub | Op::Mul | Op::And | Op::Or | Op::Xor => {
                let (a, b) = self.two(inst, width)?;
                match op {
                    Op::Add => self.e.add(a, b)?,
                    Op::Sub => self.e.sub(a, b)?,
                    Op::Mul => self.e.mul(a, b)?,
                    Op::And => self.e.and(a, b)?,
                    Op::Or => self.e.or(a, b)?,
                    _ => self.e.xor(a, b)?,
                }
            }
            Op::Not => {
                let a = self.word_in(self.arg(inst, 0)?, width)?;
                self.e.not(a)?
            }
            Op::Set(cond) => {
                let holds = self.compare(cond, self.arg(inst, 0)?, self.arg(inst, 1)?)?;
                self.e.resize(holds, 64)?
            }
            Op::ShlImm | Op::ShrImm | Op::SarImm | Op::ByteImm | Op::SignextendImm => {
                let a = self.word(self.arg(inst, 0)?)?;
                self.by_immediate(op, a, inst.imm, width)?
            }
            Op::Mload => {
                let (at, exit) = (self.arg(inst, 0)?, exit()?);
                let loaded = self.mload(self.word(at)?, width, exit)?;
                self.fits_limb(at)?;
                loaded
            }
            Op::Mstore | Op::Mstore8 => {
                let (at, exit) = (self.arg(inst, 0)?, exit()?);
                let (a, b) = (self.word(at)?, self.word(self.arg(inst, 1)?)?);
                match op {
                    Op::Mstore => self.mstore(a, b, exit)?,
                    _ => self.mstore8(a, b, exit)?,
                }
                self.fits_limb(at)?;
                return Ok(None);
            }
            // It never refuses.
            Op::Calldataload | Op::Guarded(Helper::Calldataload) => {
                let a = self.word(self.arg(inst, 0)?)?;
                self.calldataload(a, width)?
            }
            Op::Address => self.address(context_offset!(address), width)?,
            Op::Caller => self.address(context_offset!(caller), width)?,
            Op::CallValue => self.call_value(width)?,
            Op::Calldatasize => self.context(Area::Fixed, context_offset!(calldata_len))?,
            Op::Returndatasize => self.context(Area::Context, context_offset!(returndata_len))?,
            Op::Msize => self.context(Area::Context, context_offset!(msize))?,
            Op::Gas => {
                let not_due = self.e.int(64, inst.imm.into());
                self.e.add(self.gas, not_due)?
            }
            Op::Pure(helper) => self.pure_op(inst, helper, width)?,
            Op::Guarded(helper) => {
                let mut operands = Vec::with_capacity(3);
                for &arg in inst.args.iter().flatten() {
                    operands.push(self.word(arg)?);
                }
                let word = self.guarded(helper, &operands, width, inst.exit.ok_or(NO_EXIT)?)?;
                return Ok(inst.dst.map(|_| word));
            }
            Op::Copy | Op::Instruction(_) => {
                return Err(CompileError::Malformed("an operation of block IR alone"));
            }
        }))
    }

    /// Both operands in so many bits.
    fn two(&mut self, inst: &ssa::Inst, bits: u32) -> Result<(Int<'c>, Int<'c>), CompileError> {
        let a = self.word_in(self.arg(inst, 0)?, bits)?;
        Ok((a, self.word_in(self.arg(inst, 1)?, bits)?))
    }

    fn by_immediate(
        &mut self,
        op: Op,
        a: Int<'c>,
        imm: u32,
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        let limit = match op {
            Op::ByteImm => 32,
            Op::SignextendImm => 31,
            _ => 256,
        };
        if imm >= limit {
            return Err(OUT_OF_RANGE);
        }
        match op {
            Op::ShlImm => {
                let a = self.e.resize(a, width)?;
                if imm >= width { Ok(self.e.int(width, 0)) } else { self.e.shl(a, imm) }
            }
            Op::ShrImm => self.shr(a, imm),
            // What is kept in less than all bits has no sign.
            Op::SarImm if bits(a) == 256 => self.e.shr(a, imm, true),
            Op::SarImm => self.shr(a, imm),
            Op::ByteImm => {
                let down = self.shr(a, 248 - 8 * imm)?;
                let (low, mask) = (self.e.resize(down, 64)?, self.e.int(64, 0xff));
                self.e.and(low, mask)
            }
            _ => {
                let signed = 8 * imm + 8;
                // What is kept in less bits than the sign's has none.
                if signed > bits(a) || signed >= width {
                    return self.e.resize(a, width);
                }
                let low = self.e.resize(a, signed)?;
                self.e.sign_extend(low, width)
            }
        }
    }

    fn shr(&mut self, a: Int<'c>, amount: u32) -> Result<Int<'c>, CompileError> {
        if amount >= bits(a) { Ok(self.e.int(64, 0)) } else { self.e.shr(a, amount, false) }
    }

    /// Operations of helpers that can not fail. What is narrow, or mostly so, is inline.
    fn pure_op(
        &mut self,
        inst: &ssa::Inst,
        helper: Helper,
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        let operands = match helper.shape() {
            HelperShape::Pure1 => 1,
            HelperShape::Pure2 => 2,
            HelperShape::Pure3 => 3,
            _ => return Err(super::WRONG_SHAPE),
        };
        if let Some(known) = self.known(inst, helper, operands) {
            return Ok(self.constant(known));
        }
        let inline = !self.bounds.limits.perturb.no_inline;
        if helper == Helper::Mul && inline {
            let (a, b) = self.two(inst, width)?;
            return self.e.mul(a, b);
        }
        let mut words = Vec::with_capacity(operands);
        for index in 0..operands {
            words.push(self.word(self.arg(inst, index)?)?);
        }
        match (helper, &words[..]) {
            (Helper::Div | Helper::Rem, &[a, b]) => self.divide(helper, a, b, width),
            (Helper::Sdiv | Helper::Smod, &[a, b]) => self.divide_signed(helper, a, b, width),
            _ => self.pure(helper, &words, width),
        }
    }

    /// The result, if all operands are constants.
    fn known(&self, inst: &ssa::Inst, helper: Helper, operands: usize) -> Option<Word> {
        let mut words = [Word::ZERO; 3];
        for (word, arg) in words.iter_mut().zip(&inst.args[..operands]) {
            let arg = (*arg).filter(|arg| (arg.0 as usize) < self.function.values.len())?;
            *word = self.function.constant(arg)?;
        }
        let [a, b, c] = words;
        Some(fold::pure(helper, a, b, c))
    }
}
