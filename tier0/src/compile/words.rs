//! Operations on words.
//!
//! **Owns** the choice among the stencils of arithmetic, comparisons, shifts. **Callers guarantee**
//! what [`super`] says. **Never** emits what a constant makes superfluous.

use super::{Compiler, Constant, MISSING, classify};
use crate::{
    CompileError,
    key::{Binary, Key, Kind, Shift, Use},
    operand::Field,
};
use kiln_abi::{Helper, Slot, Word};
use kiln_ir::{Cond, ConstId, Inst, Operand};

impl Compiler<'_> {
    pub(super) fn binary(
        &mut self,
        inst: &Inst,
        op: Binary,
        (mut a, mut b): (Operand, Operand),
    ) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let commutes = op != Binary::Sub;
        let constant_left = matches!((a, b), (Operand::Const(_), Operand::Slot(_)));
        if commutes && (constant_left || b == Operand::Slot(dst)) {
            std::mem::swap(&mut a, &mut b);
        } else if constant_left {
            return self.subtract_from(a, b, dst);
        }
        let slot = self.slot_operand(a, dst)?;
        let in_place = slot == dst;
        let kind = match b {
            Operand::Slot(_) => self.operand(Field::B, b)?,
            Operand::Const(id) => return self.binary_constant(op, slot, dst, id),
        };
        self.code.emit(Key::Binary(op, kind, in_place && op != Binary::Mul))
    }

    /// `dst = constant - slot`.
    pub(super) fn subtract_from(
        &mut self,
        a: Operand,
        b: Operand,
        dst: Slot,
    ) -> Result<(), CompileError> {
        let (Operand::Const(id), Operand::Slot(slot)) = (a, b) else { return Err(MISSING) };
        self.slot(Field::Dst, dst);
        self.slot(Field::A, slot);
        let kind = match self.operand(Field::B, a)? {
            Kind::Zero | Kind::Imm31 => Kind::Imm31,
            _ => {
                self.pool(Field::B, id)?;
                Kind::Pool
            }
        };
        self.code.emit(Key::Binary(Binary::SubFrom, kind, false))
    }

    /// `dst = slot op constant`, where the constant may make it simpler.
    pub(super) fn binary_constant(
        &mut self,
        op: Binary,
        slot: Slot,
        dst: Slot,
        id: ConstId,
    ) -> Result<(), CompileError> {
        let in_place = slot == dst;
        let word = self.code.constant(id)?;
        let constant = classify(word);
        let (op, kind) = match (op, constant) {
            (Binary::Add | Binary::Sub | Binary::Or | Binary::Xor, Constant::Zero) => {
                return self.copy(dst, Operand::Slot(slot));
            }
            (Binary::And | Binary::Mul, Constant::Zero) => {
                return self.code.emit(Key::Copy(Kind::Zero));
            }
            // Adding a small negative number is subtracting its magnitude, and the other way round.
            (Binary::Add | Binary::Sub, Constant::Signed(value)) if value > i32::MIN.into() => {
                self.code.set(Field::Imm, -value);
                (if op == Binary::Add { Binary::Sub } else { Binary::Add }, Kind::Imm31)
            }
            (Binary::And, Constant::Signed(value)) => {
                self.code.set(Field::Signed, value);
                return self.code.emit(Key::AndSigned { in_place });
            }
            (Binary::Xor, _) if word == Word::MAX => return self.code.emit(Key::Not { in_place }),
            (Binary::Mul, Constant::Imm31(value) | Constant::Imm64(value)) => {
                self.code.set(Field::Wide, value);
                // The slow path passes the whole constant.
                self.pool(Field::B, id)?;
                return self.code.emit(Key::Binary(op, Kind::Imm64, false));
            }
            (Binary::Mul, _) => {
                let args = [Some(Operand::Slot(slot)), Some(Operand::Const(id)), None];
                return self.pure_call(Helper::Mul, dst, args);
            }
            (_, Constant::Imm31(value)) => {
                self.code.set(Field::Imm, value);
                (op, Kind::Imm31)
            }
            (_, Constant::Imm64(value)) => {
                self.code.set(Field::Wide, value);
                (op, Kind::Imm64)
            }
            (Binary::And, Constant::Wide) => match mask(word) {
                Some((limbs, half)) => return self.code.emit(Key::Mask { limbs, half, in_place }),
                None => (op, Kind::Pool),
            },
            _ => (op, Kind::Pool),
        };
        if kind == Kind::Pool {
            self.pool(Field::B, id)?;
        }
        self.code.emit(Key::Binary(op, kind, in_place))
    }

    /// The operands of a comparison, in an order that there is a stencil for; none if both are
    /// constants.
    pub(super) fn compare(
        &mut self,
        used: Use,
        mut cond: Cond,
        (mut a, mut b): (Operand, Operand),
    ) -> Result<Option<Key>, CompileError> {
        if let Operand::Const(_) = a {
            std::mem::swap(&mut a, &mut b);
            cond = cond.swap();
        } else if matches!(
            (b, cond),
            (Operand::Slot(_), Cond::Ugt | Cond::Ule | Cond::Sgt | Cond::Sle)
        ) {
            std::mem::swap(&mut a, &mut b);
            cond = cond.swap();
        }
        let Operand::Slot(slot) = a else { return Ok(None) };
        self.slot(Field::A, slot);
        let signed = matches!(cond, Cond::Slt | Cond::Sgt | Cond::Sle | Cond::Sge);
        let kind = match (self.operand(Field::B, b)?, cond, b) {
            (Kind::Zero, Cond::Eq | Cond::Ne, _) => Kind::Zero,
            (Kind::Zero, ..) => Kind::Imm31,
            (Kind::Imm64, _, Operand::Const(id)) if signed => {
                self.pool(Field::B, id)?;
                Kind::Pool
            }
            (kind, ..) => kind,
        };
        Ok(Some(Key::Compare(used, cond, kind)))
    }

    pub(super) fn set(
        &mut self,
        inst: &Inst,
        cond: Cond,
        (a, b): (Operand, Operand),
    ) -> Result<(), CompileError> {
        self.dst(inst)?;
        if let Some(key) = self.compare(Use::Set, cond, (a, b))? {
            return self.code.emit(key);
        }
        let holds = self.holds(cond, a, b)?;
        self.code.set(Field::Imm, holds.into());
        self.code.emit(Key::Copy(if holds { Kind::Imm31 } else { Kind::Zero }))
    }

    /// The outcome of a comparison of constants.
    pub(super) fn holds(&self, cond: Cond, a: Operand, b: Operand) -> Result<bool, CompileError> {
        let (Operand::Const(a), Operand::Const(b)) = (a, b) else { return Err(MISSING) };
        Ok(holds(cond, self.code.constant(a)?, self.code.constant(b)?))
    }

    pub(super) fn shift(
        &mut self,
        inst: &Inst,
        shift: Shift,
        a: Operand,
    ) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        self.slot_operand(a, dst)?;
        if inst.imm == 0 || inst.imm > 255 {
            return Err(CompileError::Malformed("a shift amount out of range"));
        }
        let bits = i64::from(inst.imm % 64);
        self.code.set(Field::Bits, bits);
        self.code.set(Field::Rest, 64 - bits);
        self.code.emit(Key::Shift(shift, (inst.imm / 64) as u8, bits != 0))
    }

    pub(super) fn byte(&mut self, inst: &Inst, a: Operand) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let slot = self.slot_operand(a, dst)?;
        if inst.imm > 31 {
            return Err(CompileError::Malformed("a byte index out of range"));
        }
        let byte = 31 - i64::from(inst.imm);
        self.code.set(Field::A, self.displacement(slot) + byte);
        self.code.emit(Key::Byte)
    }

    pub(super) fn signextend(&mut self, inst: &Inst, a: Operand) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let _ = self.slot_operand(a, dst)?;
        if inst.imm > 30 {
            return Err(CompileError::Malformed("a byte index out of range"));
        }
        self.code.set(Field::Bits, 56 - 8 * i64::from(inst.imm % 8));
        self.code.emit(Key::Signextend((inst.imm / 8) as u8))
    }
}

/// Whole limbs, and whether half of the next, of a mask that keeps the lowest bits.
fn mask(word: Word) -> Option<(u8, bool)> {
    const ALL: u64 = u64::MAX;
    match word.0 {
        [ALL, ALL, 0, 0] => Some((2, false)),
        [ALL, ALL, 0xffff_ffff, 0] => Some((2, true)),
        [ALL, ALL, ALL, 0] => Some((3, false)),
        _ => None,
    }
}

/// The comparison of two constants.
fn holds(cond: Cond, a: Word, b: Word) -> bool {
    let unsigned = |word: Word| [word.0[3], word.0[2], word.0[1], word.0[0]];
    let signed = |word: Word| [word.0[3] ^ 1 << 63, word.0[2], word.0[1], word.0[0]];
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Ult => unsigned(a) < unsigned(b),
        Cond::Ugt => unsigned(a) > unsigned(b),
        Cond::Ule => unsigned(a) <= unsigned(b),
        Cond::Uge => unsigned(a) >= unsigned(b),
        Cond::Slt => signed(a) < signed(b),
        Cond::Sgt => signed(a) > signed(b),
        Cond::Sle => signed(a) <= signed(b),
        Cond::Sge => signed(a) >= signed(b),
    }
}
