//! Calls of helpers.
//!
//! **Owns** the scratch words on the native stack through which helpers get operands and give results, and
//! what is kept where around a call: the gas is in the context while a guarded helper or an instruction runs,
//! in a register else; so is the countdown of polls, which no helper looks at. **Callers guarantee** helpers of
//! the right shape. **Never** makes a state canonical: that is for exits.

use super::{CompileError, Int, Lower, emit::Area};
use inkwell::{
    IntPredicate,
    values::{BasicMetadataValueEnum, PointerValue},
};
use kiln_abi::{
    ExitId, Helper, HelperShape, Word, context_offset,
    envelope::{Symbol, Thunk},
};

impl<'c> Lower<'c, '_, '_> {
    /// The address of a scratch word: 0 for the result, 1 to 3 for operands.
    fn scratch_address(&mut self, word: usize) -> Result<PointerValue<'c>, CompileError> {
        self.e.offset(self.scratch, (Word::BYTES * word) as i64)
    }

    /// Those of the result and the first operand.
    pub(super) fn scratch_pair(&mut self) -> Result<[PointerValue<'c>; 2], CompileError> {
        Ok([self.scratch_address(0)?, self.scratch_address(1)?])
    }

    /// Writes a scratch word.
    pub(super) fn store_scratch(
        &mut self,
        word: usize,
        value: Int<'c>,
    ) -> Result<(), CompileError> {
        let at = self.scratch_address(word)?;
        let value = self.e.resize(value, 256)?;
        self.e.store(Area::Scratch, at, value, 8)
    }

    /// The result in the scratch area.
    pub(super) fn load_scratch(&mut self, width: u32) -> Result<Int<'c>, CompileError> {
        let at = self.scratch_address(0)?;
        self.e.load(Area::Scratch, at, width, 8)
    }

    /// Calls a helper; gives what it answers, if it answers.
    fn call_helper(
        &mut self,
        helper: Helper,
        arguments: &[BasicMetadataValueEnum<'c>],
    ) -> Result<Option<Int<'c>>, CompileError> {
        let pure =
            matches!(helper.shape(), HelperShape::Pure1 | HelperShape::Pure2 | HelperShape::Pure3);
        let table = self.context_pointer(Area::Fixed, context_offset!(helpers))?;
        let at = self.e.offset(table, helper.offset().into())?;
        let function = self.e.load_pointer(Area::Fixed, at)?;
        self.e.call_pointer(function, arguments, !pure, pure)
    }

    /// Calls a helper that sees or takes gas; gives whether it answers to leave. The gas is up to date behind
    /// it, on both ways.
    fn call(
        &mut self,
        helper: Helper,
        arguments: &[BasicMetadataValueEnum<'c>],
    ) -> Result<Int<'c>, CompileError> {
        self.store_gas()?;
        let answer = self.call_helper(helper, arguments)?.ok_or(super::WRONG_SHAPE)?;
        self.gas = self.context(Area::Context, context_offset!(gas))?;
        let go_on = self.e.int(64, kiln_abi::CONTINUE);
        self.e.compare(IntPredicate::NE, answer, go_on)
    }

    /// `helper(operands)`, which can not fail.
    pub(super) fn pure(
        &mut self,
        helper: Helper,
        operands: &[Int<'c>],
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        let mut arguments = vec![self.scratch_address(0)?.into()];
        for (word, &operand) in (1..).zip(operands) {
            self.store_scratch(word, operand)?;
            arguments.push(self.scratch_address(word)?.into());
        }
        self.call_helper(helper, &arguments)?;
        self.load_scratch(width)
    }

    /// Calls a thunk, which keeps all registers.
    pub(super) fn call_thunk(
        &mut self,
        thunk: Thunk,
        arguments: &[BasicMetadataValueEnum<'c>],
    ) -> Result<(), CompileError> {
        self.e.call_thunk(Symbol::Thunk(thunk).name(), arguments)
    }

    /// As [`Self::pure`] for a helper of two operands, where it hardly ever happens.
    pub(super) fn pure_cold(
        &mut self,
        thunk: Thunk,
        a: Int<'c>,
        b: Int<'c>,
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        self.store_scratch(1, a)?;
        self.store_scratch(2, b)?;
        let mut arguments = Vec::with_capacity(4);
        for word in 0..3 {
            arguments.push(self.scratch_address(word)?.into());
        }
        arguments.push(self.cx.into());
        self.call_thunk(thunk, &arguments)?;
        self.load_scratch(width)
    }

    /// Acts for an instruction, or leaves in front of it; gives the lowest bits of the result.
    pub(super) fn guarded(
        &mut self,
        helper: Helper,
        operands: &[Int<'c>],
        width: u32,
        exit: ExitId,
    ) -> Result<Int<'c>, CompileError> {
        if helper.shape() != HelperShape::Guarded3 {
            return Err(super::WRONG_SHAPE);
        }
        let (record, null) = (self.exit_record(exit)?, self.e.null());
        let mut arguments = [self.cx.into(), record.into(), null.into(), null.into(), null.into()];
        let mut operands = operands.iter();
        for (index, used) in helper.pointers().into_iter().enumerate() {
            if !used {
                continue;
            }
            if index != 0 || !helper.has_destination() {
                let operand = *operands.next().ok_or(super::MISSING)?;
                self.store_scratch(index, operand)?;
            }
            arguments[2 + index] = self.scratch_address(index)?.into();
        }
        if operands.next().is_some() {
            return Err(CompileError::Malformed("more operands than the helper takes"));
        }
        let refused = self.call(helper, &arguments)?;
        self.leave_if(refused, exit)?;
        self.load_scratch(width)
    }

    /// Runs an instruction through the host: the stores in front of it make the stack in memory canonical.
    pub(super) fn run(&mut self, helper: Helper, exit: ExitId) -> Result<(), CompileError> {
        if helper.shape() != HelperShape::Instruction {
            return Err(super::WRONG_SHAPE);
        }
        self.perform_late(exit)?;
        let record = self.exit_record(exit)?;
        let arguments = [self.cx.into(), record.into(), self.sp.into()];
        let left = self.call(helper, &arguments)?;
        let (out, stay) = (self.e.block()?, self.e.block()?);
        self.e.branch_rarely(left, out, stay)?;
        self.e.switch_to(out);
        // The host has made the state canonical: without the stores.
        let number = self.exit_number(exit)?;
        self.jump_out(None, number)?;
        self.e.switch_to(stay);
        Ok(())
    }
}
