//! Folding, identities, and the fusion of comparisons.

use super::{Builder, lower::bit_len, stack::OutOfStack};
use crate::{
    fold,
    module::{Cond, Op, Operand},
    opcode::{LOWERING, Slow, slow_path},
    verify::shape,
};
use kiln_abi::{Helper, Word};

impl Builder<'_> {
    /// The instruction by the slowest way that there is for it; false if there is only one way.
    pub(super) fn slow(&mut self, opcode: u8) -> Result<bool, OutOfStack> {
        match slow_path(LOWERING[opcode as usize]) {
            Some(Slow::Table) => self.instruction(Helper::Instruction, opcode)?,
            Some(Slow::Op(op)) => {
                let (_, operands) = shape(op).expect("slow: an operation of the table");
                let mut args = [None; 3];
                for arg in &mut args[..operands] {
                    *arg = Some(self.pop_operand()?);
                }
                self.result(op, args, 0, 256)?;
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn binary(&mut self, op: Op) -> Result<(), OutOfStack> {
        let (a, b) = (self.pop_operand()?, self.pop_operand()?);
        match (self.word(a), self.word(b)) {
            (Some(x), Some(y)) => {
                let folded = fold::binary(op, x, y, 0).expect("binary: a data operation folds");
                self.push_constant(folded)
            }
            (Some(x), None) if op != Op::Sub => self.binary_constant(op, b, a, x),
            (None, Some(y)) => self.binary_constant(op, a, b, y),
            _ => {
                let bits = self.binary_bits(op, a, b);
                self.result(op, [Some(a), Some(b), None], 0, bits)
            }
        }
    }

    fn binary_bits(&self, op: Op, a: Operand, b: Operand) -> u16 {
        let (x, y) = (self.bits(a), self.bits(b));
        match op {
            Op::And => x.min(y),
            Op::Or | Op::Xor => x.max(y),
            Op::Add => (x.max(y) + 1).min(256),
            Op::Mul => (x + y).min(256),
            _ => 256,
        }
    }

    /// `a op c` with a constant on the right.
    fn binary_constant(
        &mut self,
        op: Op,
        a: Operand,
        c: Operand,
        word: Word,
    ) -> Result<(), OutOfStack> {
        let bits = bit_len(&word);
        match op {
            Op::Add | Op::Sub | Op::Or | Op::Xor if word.is_zero() => return self.push_operand(a),
            Op::And | Op::Mul if word.is_zero() => return self.push_constant(Word::ZERO),
            // A mask of the low bits that the word has no bits above of.
            Op::And if is_low_mask(&word) && self.bits(a) <= bits => return self.push_operand(a),
            Op::Mul if word == Word::ONE => return self.push_operand(a),
            Op::Mul if is_power_of_two(&word) => {
                let shifted = (self.bits(a) + bits - 1).min(256);
                return self.result(
                    Op::ShlImm,
                    [Some(a), None, None],
                    u32::from(bits) - 1,
                    shifted,
                );
            }
            _ => {}
        }
        let bound = self.binary_bits(op, a, c);
        self.result(op, [Some(a), Some(c), None], 0, bound)
    }

    /// The DIV family, ADDMOD, MULMOD, CLZ.
    pub(super) fn pure(&mut self, helper: Helper) -> Result<(), OutOfStack> {
        let count = match helper {
            Helper::Clz => 1,
            Helper::Addmod | Helper::Mulmod => 3,
            _ => 2,
        };
        let mut args = [None; 3];
        for arg in &mut args[..count] {
            *arg = Some(self.pop_operand()?);
        }
        let words = args.map(|arg| arg.and_then(|operand| self.word(operand)));
        if words[..count].iter().all(Option::is_some) {
            let [a, b, c] = words.map(Option::unwrap_or_default);
            return self.push_constant(fold::pure(helper, a, b, c));
        }
        if let (Some(a), Some(y)) = (args[0], words[1])
            && is_power_of_two(&y)
        {
            let bits = u32::from(bit_len(&y)) - 1;
            match helper {
                Helper::Div if bits == 0 => return self.push_operand(a),
                Helper::Div => {
                    let bound = self.bits(a).saturating_sub(bits as u16);
                    return self.result(Op::ShrImm, [Some(a), None, None], bits, bound);
                }
                Helper::Rem => {
                    let mask = fold::binary(Op::Sub, y, Word::ONE, 0).expect("SUB folds");
                    let id = self.constant(mask);
                    let mask_operand = Operand::Const(crate::module::ConstId(id));
                    return self.binary_constant(Op::And, a, mask_operand, mask);
                }
                _ => {}
            }
        }
        let bits = match helper {
            Helper::Clz => 9,
            Helper::Div => args[0].map_or(256, |a| self.bits(a)),
            Helper::Rem => args[1].map_or(256, |b| self.bits(b)),
            _ => 256,
        };
        self.result(Op::Pure(helper), args, 0, bits)
    }

    pub(super) fn iszero(&mut self) -> Result<(), OutOfStack> {
        let a = self.pop_operand()?;
        if let Some(word) = self.word(a) {
            return self.push_constant(Word::from_u64(u64::from(word.is_zero())));
        }
        if let Some((cond, x, y)) = self.take_comparison(a) {
            return self.result(Op::Set(cond.negate()), [Some(x), Some(y), None], 0, 1);
        }
        let zero = Operand::Const(crate::module::ConstId(0));
        self.result(Op::Set(Cond::Eq), [Some(a), Some(zero), None], 0, 1)
    }

    /// If `operand`, just popped, is the result of the instruction emitted last and nobody else
    /// holds it, and that instruction compares: takes the instruction back and gives the comparison
    /// `x cond y` that holds where the operand is not zero.
    pub(super) fn take_comparison(&mut self, operand: Operand) -> Option<(Cond, Operand, Operand)> {
        if self.perturb.no_inline || self.perturb.spill {
            return None;
        }
        let Operand::Slot(slot) = operand else { return None };
        let last = self.module.insts[self.insts_start..].last()?;
        if last.dst != Some(slot) || self.stack.refs(slot.0) != 0 {
            return None;
        }
        let cond = match last.op {
            Op::Set(cond) => cond,
            Op::Sub | Op::Xor => Cond::Ne,
            _ => return None,
        };
        let (x, y) = (last.args[0]?, last.args[1]?);
        // The instruction may have written over its own operand; without it, the operand is still
        // there, and what was known of the result does not hold for it.
        self.module.insts.pop();
        self.stack.set_bits(slot.0, 256);
        Some(match x {
            Operand::Const(_) => (cond.swap(), y, x),
            Operand::Slot(_) => (cond, x, y),
        })
    }
}

fn is_power_of_two(word: &Word) -> bool {
    word.0.iter().map(|limb| limb.count_ones()).sum::<u32>() == 1
}

/// Whether the word is `2^n - 1`.
fn is_low_mask(word: &Word) -> bool {
    let bits = bit_len(word);
    word.0.iter().map(|limb| limb.count_ones()).sum::<u32>() == u32::from(bits)
}
