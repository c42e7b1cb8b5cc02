//! Memory, the frame's environment, and helpers.
//!
//! **Owns** the addressing of memory operations, and the arguments of helper calls. **Callers
//! guarantee** what [`super`] says. **Never** leaves an offset unchecked that the module says to
//! check.

use super::{Compiler, Constant, MISSING, OFFSET_MAX, classify};
use crate::{
    CompileError,
    key::{Environment, Key, Kind, Offset},
    operand::Field,
};
use kiln_abi::{ExitId, Helper, HelperShape, Slot};
use kiln_ir::{Inst, Operand};

impl Compiler<'_> {
    /// Sets the fields of a memory operation's offset and exit.
    pub(super) fn offset(&mut self, inst: &Inst, a: Operand) -> Result<Offset, CompileError> {
        let exit = match inst.exit {
            Some(exit) => self.code.record(exit)?,
            None if inst.checked => return Err(CompileError::Malformed("an exit is missing")),
            None => 0,
        };
        self.imm(Field::Len, exit)?;
        let id = match a {
            Operand::Slot(slot) => {
                self.slot(Field::A, slot);
                return Ok(Offset::Slot);
            }
            Operand::Const(id) => id,
        };
        match self.code.constant(id)?.as_u64() {
            Some(offset) if offset <= OFFSET_MAX => {
                self.code.set(Field::Imm, offset as i64);
                Ok(if inst.checked { Offset::Const } else { Offset::Covered })
            }
            _ => Err(CompileError::Malformed("a memory offset out of range")),
        }
    }

    pub(super) fn mstore(
        &mut self,
        inst: &Inst,
        (a, b): (Operand, Operand),
    ) -> Result<(), CompileError> {
        let kind = match b {
            Operand::Slot(slot) => {
                self.slot(Field::B, slot);
                Kind::Slot
            }
            Operand::Const(id) => match classify(self.code.constant(id)?) {
                Constant::Zero => Kind::Zero,
                Constant::Imm31(value) | Constant::Imm64(value) => {
                    self.code.set(Field::Wide, value.swap_bytes());
                    Kind::Imm64
                }
                _ => {
                    self.code.symbols.pool_b = self.code.pooled(id, true)?;
                    Kind::Pool
                }
            },
        };
        let offset = self.offset(inst, a)?;
        self.code.emit(Key::Mstore(offset, kind))
    }

    pub(super) fn mstore8(
        &mut self,
        inst: &Inst,
        (a, b): (Operand, Operand),
    ) -> Result<(), CompileError> {
        let kind = match b {
            Operand::Slot(slot) => {
                self.slot(Field::B, slot);
                Kind::Slot
            }
            Operand::Const(id) => {
                let byte = self.code.constant(id)?.0[0] as u8;
                self.code.set(Field::Bits, byte.into());
                Kind::Imm31
            }
        };
        let offset = self.offset(inst, a)?;
        self.code.emit(Key::Mstore8(offset, kind))
    }

    pub(super) fn calldataload(&mut self, inst: &Inst, a: Operand) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let id = match a {
            Operand::Slot(slot) => {
                self.slot(Field::A, slot);
                return self.code.emit(Key::Calldataload(Offset::Slot));
            }
            Operand::Const(id) => id,
        };
        match self.code.constant(id)?.as_u64() {
            Some(offset) if offset <= OFFSET_MAX => {
                self.code.set(Field::Imm, offset as i64);
                self.code.set(Field::Len, offset as i64 + 32);
                self.pool(Field::A, id)?;
                self.code.emit(Key::Calldataload(Offset::Const))
            }
            _ => {
                self.argument(0, Operand::Slot(dst))?;
                self.argument(1, a)?;
                self.code.symbols.helper = Helper::Calldataload as u8;
                self.code.emit(Key::Call)
            }
        }
    }

    pub(super) fn environment(
        &mut self,
        inst: &Inst,
        what: Environment,
    ) -> Result<(), CompileError> {
        self.dst(inst)?;
        self.imm(Field::Imm, if what == Environment::Gas { inst.imm } else { 0 })?;
        self.code.emit(Key::Environment(what))
    }

    /// Sets an argument register to the address of an operand.
    pub(super) fn argument(&mut self, number: u8, operand: Operand) -> Result<(), CompileError> {
        let kind = match operand {
            Operand::Slot(slot) => {
                self.slot(Field::A, slot);
                Kind::Slot
            }
            Operand::Const(id) => {
                self.pool(Field::A, id)?;
                Kind::Pool
            }
        };
        self.code.emit(Key::Argument(number, kind))
    }

    pub(super) fn pure(&mut self, inst: &Inst, helper: Helper) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        self.pure_call(helper, dst, inst.args)
    }

    pub(super) fn pure_call(
        &mut self,
        helper: Helper,
        dst: Slot,
        args: [Option<Operand>; 3],
    ) -> Result<(), CompileError> {
        let count = match helper.shape() {
            HelperShape::Pure1 => 1,
            HelperShape::Pure2 => 2,
            HelperShape::Pure3 => 3,
            _ => return Err(CompileError::Malformed("a helper of another shape")),
        };
        self.argument(0, Operand::Slot(dst))?;
        for (number, arg) in (1..).zip(&args[..count]) {
            self.argument(number, arg.ok_or(MISSING)?)?;
        }
        self.code.symbols.helper = helper as u8;
        self.code.emit(Key::Call)
    }

    pub(super) fn guarded(&mut self, inst: &Inst, helper: Helper) -> Result<(), CompileError> {
        if helper.shape() != HelperShape::Guarded3 {
            return Err(CompileError::Malformed("a helper of another shape"));
        }
        let mut operands =
            inst.dst.map(Operand::Slot).into_iter().chain(inst.args.into_iter().flatten());
        for (number, used) in (0..).zip(helper.pointers()) {
            if used {
                self.argument(number, operands.next().ok_or(MISSING)?)?;
            }
        }
        if operands.next().is_some() {
            return Err(CompileError::Malformed("more operands than the helper takes"));
        }
        self.call(helper, inst.exit)
    }

    pub(super) fn call(
        &mut self,
        helper: Helper,
        exit: Option<ExitId>,
    ) -> Result<(), CompileError> {
        let exit = match exit {
            Some(exit) => self.code.record(exit)?,
            None if helper == Helper::Calldataload => 0,
            None => return Err(CompileError::Malformed("an exit is missing")),
        };
        self.imm(Field::Imm, exit)?;
        self.code.emit(Key::ExitArgument)?;
        self.code.symbols.helper = helper as u8;
        self.code.emit(Key::Call)
    }
}
