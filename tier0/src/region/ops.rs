//! One instruction of a region: a table of contents.
//!
//! **Owns** what each operation is made of. **Callers guarantee** operands that are computed already.
//! **Never** computes more limbs than the result can have.

use super::{Lower, MISSING, NO_EXIT, control::displacement, word::Limbs};
use crate::CompileError;
use kiln_abi::{Helper, context_offset};
use kiln_ir::{
    Op, fold,
    ssa::{
        self,
        demand::{self, LimbSet},
    },
};

const OUT_OF_RANGE: CompileError = CompileError::Malformed("an immediate out of range");

impl Lower<'_, '_> {
    /// The limbs of a value that are wanted: those that are read, and can be other than zero.
    pub(super) fn wanted(&self, value: ssa::Value) -> Result<LimbSet, CompileError> {
        let wanted = self.wanted.get(value.0 as usize).copied();
        wanted.ok_or(CompileError::Malformed("no such value"))
    }

    /// A value that is computed already, or a constant.
    pub(super) fn word(&self, value: ssa::Value) -> Result<Limbs, CompileError> {
        match self.words.get(value.0 as usize) {
            Some(Some(word)) => Ok(*word),
            Some(None) => match self.function.constant(value) {
                Some(word) => Ok(Limbs::constant(word)),
                None => Err(CompileError::Malformed("a value is used before it is defined")),
            },
            None => Err(CompileError::Malformed("no such value")),
        }
    }

    /// Notes what a value is.
    pub(super) fn define(&mut self, value: ssa::Value, word: Limbs) -> Result<(), CompileError> {
        let wanted = self.wanted(value)?;
        self.words[value.0 as usize] = Some(word.only(wanted));
        Ok(())
    }

    pub(super) fn inst(&mut self, inst: &ssa::Inst) -> Result<(), CompileError> {
        inst.exit.map_or(Ok(()), |exit| self.perform_early(exit))?;
        let wanted = inst.dst.map_or(Ok(0), |dst| self.wanted(dst))?;
        let word = match inst.op {
            ssa::Op::Slot(slot) => {
                Some(self.load_word(self.flags.stack, self.sp, displacement(slot), wanted))
            }
            ssa::Op::Narrow => Some(self.arg(inst, 0)?),
            ssa::Op::Word(op) => self.op(inst, op, wanted)?,
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

    fn arg(&self, inst: &ssa::Inst, index: usize) -> Result<Limbs, CompileError> {
        self.word(inst.args[index].ok_or(MISSING)?)
    }

    /// What an operation gives, in the wanted limbs at least; none if it gives nothing.
    fn op(
        &mut self,
        inst: &ssa::Inst,
        op: Op,
        wanted: LimbSet,
    ) -> Result<Option<Limbs>, CompileError> {
        let limbs = demand::len(wanted);
        let a = || self.arg(inst, 0);
        let two = || Ok::<_, CompileError>((self.arg(inst, 0)?, self.arg(inst, 1)?));
        let exit = || if inst.checked { inst.exit.ok_or(NO_EXIT).map(Some) } else { Ok(None) };
        Ok(Some(match op {
            Op::Add => with(two()?, |a, b| self.add(a, b, limbs)),
            Op::Sub => with(two()?, |a, b| self.sub(a, b, limbs)),
            Op::Mul => with(two()?, |a, b| self.mul(a, b, limbs)),
            Op::And => with(two()?, |a, b| self.limbwise(a, b, limbs, Self::and_limb)),
            Op::Or => with(two()?, |a, b| self.limbwise(a, b, limbs, Self::or_limb)),
            Op::Xor => with(two()?, |a, b| self.limbwise(a, b, limbs, Self::xor_limb)),
            Op::Not => {
                let ones = Limbs::constant(kiln_abi::Word::MAX);
                with((a()?, ones), |a, b| self.limbwise(a, b, limbs, Self::xor_limb))
            }
            Op::Set(cond) => with(two()?, |a, b| {
                let holds = self.compare(cond, a, b);
                Limbs::narrow(self.flag(holds))
            }),
            Op::ShlImm | Op::ShrImm | Op::SarImm | Op::ByteImm | Op::SignextendImm => {
                let a = a()?;
                self.by_immediate(op, a, inst.imm, limbs)?
            }
            Op::Mload => {
                let (a, exit) = (a()?, exit()?);
                self.mload(a, wanted, exit)?
            }
            Op::Mstore => {
                let ((a, b), exit) = (two()?, exit()?);
                self.mstore(a, b, exit)?;
                return Ok(None);
            }
            Op::Mstore8 => {
                let ((a, b), exit) = (two()?, exit()?);
                self.mstore8(a, b, exit)?;
                return Ok(None);
            }
            Op::Calldataload => {
                let a = a()?;
                self.calldataload(a, wanted)
            }
            Op::Address => self.address(context_offset!(address)),
            Op::Caller => self.address(context_offset!(caller)),
            Op::CallValue => self.call_value(wanted),
            Op::Calldatasize => self.scalar(context_offset!(calldata_len)),
            Op::Returndatasize => self.scalar(context_offset!(returndata_len)),
            Op::Msize => self.scalar(context_offset!(msize)),
            Op::Gas => self.gas_left(inst.imm),
            Op::Pure(helper) => self.pure_op(inst, helper, limbs)?,
            // It never refuses.
            Op::Guarded(Helper::Calldataload) => {
                let a = a()?;
                self.calldataload(a, wanted)
            }
            Op::Guarded(helper) => {
                let mut operands = Vec::with_capacity(3);
                for &arg in inst.args.iter().flatten() {
                    operands.push(self.word(arg)?);
                }
                let word = self.guarded(helper, &operands, wanted, inst.exit.ok_or(NO_EXIT)?)?;
                return Ok(inst.dst.map(|_| word));
            }
            Op::Copy | Op::Instruction(_) => {
                return Err(CompileError::Malformed("an operation of block IR alone"));
            }
        }))
    }

    fn by_immediate(
        &mut self,
        op: Op,
        a: Limbs,
        imm: u32,
        limbs: usize,
    ) -> Result<Limbs, CompileError> {
        let limit = match op {
            Op::ByteImm => 32,
            Op::SignextendImm => 31,
            _ => 256,
        };
        if imm >= limit {
            return Err(OUT_OF_RANGE);
        }
        Ok(match op {
            Op::ShlImm => self.shl(a, imm, limbs),
            Op::ShrImm => self.shr(a, imm, limbs, super::word::Limb::ZERO),
            Op::SarImm => self.sar(a, imm, limbs),
            Op::ByteImm => self.byte(a, imm),
            _ => self.signextend(a, imm),
        })
    }

    /// Operations of helpers that can not fail. What is narrow, or mostly so, is inline.
    fn pure_op(
        &mut self,
        inst: &ssa::Inst,
        helper: Helper,
        limbs: usize,
    ) -> Result<Limbs, CompileError> {
        let operands = match helper.shape() {
            kiln_abi::HelperShape::Pure1 => 1,
            kiln_abi::HelperShape::Pure2 => 2,
            kiln_abi::HelperShape::Pure3 => 3,
            _ => return Err(super::WRONG_SHAPE),
        };
        let mut words = [Limbs::ZERO; 3];
        for (index, word) in words[..operands].iter_mut().enumerate() {
            *word = self.arg(inst, index)?;
        }
        let [a, b, c] = words;
        if let (Some(a), Some(b), Some(c)) = (a.known(), b.known(), c.known()) {
            return Ok(Limbs::constant(fold::pure(helper, a, b, c)));
        }
        Ok(match helper {
            Helper::Mul if !self.perturb.no_inline => self.mul(a, b, limbs),
            Helper::Div | Helper::Rem => self.divide(helper, a, b, limbs),
            Helper::Sdiv | Helper::Smod => self.divide_signed(helper, a, b, limbs),
            _ => self.pure(helper, &words[..operands], limbs),
        })
    }
}

fn with<R>((a, b): (Limbs, Limbs), f: impl FnOnce(Limbs, Limbs) -> R) -> R {
    f(a, b)
}
