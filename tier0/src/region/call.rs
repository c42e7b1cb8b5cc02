//! Calls of helpers.
//!
//! **Owns** the scratch words on the native stack through which helpers get operands and give results, and
//! what is kept where around a call: the gas is in the context while a guarded helper or an instruction runs,
//! in a register else. **Callers guarantee** helpers of the right shape. **Never** makes a state canonical:
//! that is for exits.

use super::{
    Lower, object,
    word::{Limb, Limbs},
};
use crate::CompileError;
use cranelift_codegen::ir::{
    AbiParam, ExtFuncData, ExternalName, InstBuilder, MemFlagsData, SigRef, Signature, Value,
    types::*,
};
use cranelift_codegen::isa::CallConv;
use kiln_abi::{
    ExitId, Helper, HelperShape, Word, context_offset,
    envelope::{Symbol, Thunk},
};
use kiln_ir::ssa::demand::{self, LimbSet};

impl Lower<'_, '_> {
    /// The address of a scratch word: 0 for the result, 1 to 3 for operands.
    pub(super) fn scratch_address(&mut self, word: i32) -> Value {
        self.b.ins().stack_addr(I64, self.scratch, Word::BYTES as i32 * word)
    }

    /// Writes a scratch word.
    pub(super) fn store_scratch(&mut self, word: i32, value: Limbs) {
        let address = self.scratch_address(word);
        self.store_word(self.flags.scratch, address, 0, value);
    }

    /// The result in the scratch area.
    pub(super) fn load_scratch(&mut self, limbs: LimbSet) -> Limbs {
        let address = self.scratch_address(0);
        self.load_word(self.flags.scratch, address, 0, limbs)
    }

    /// Limbs of a word in memory.
    pub(super) fn load_word(
        &mut self,
        flags: MemFlagsData,
        base: Value,
        at: i32,
        limbs: LimbSet,
    ) -> Limbs {
        let mut word = Limbs::ZERO;
        for (k, loaded) in (0..).zip(&mut word.0) {
            if limbs >> k & 1 != 0 {
                *loaded = Limb::Value(self.b.ins().load(I64, flags, base, at + 8 * k));
            }
        }
        word
    }

    /// Writes a whole word.
    pub(super) fn store_word(&mut self, flags: MemFlagsData, base: Value, at: i32, word: Limbs) {
        for (k, limb) in (0..).zip(word.0) {
            let limb = self.value(limb);
            self.b.ins().store(flags, limb, base, at + 8 * k);
        }
    }

    /// The signature of the helpers that take so many words and pointers.
    fn signature(&mut self, arguments: usize, answers: bool) -> SigRef {
        if let Some(known) = self.signatures[arguments][answers as usize] {
            return known;
        }
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params.resize(arguments, AbiParam::new(I64));
        signature.returns.resize(answers as usize, AbiParam::new(I64));
        let signature = self.b.import_signature(signature);
        self.signatures[arguments][answers as usize] = Some(signature);
        signature
    }

    /// Calls a helper; gives what it answers, if it answers.
    fn call_helper(&mut self, helper: Helper, arguments: &[Value]) -> Option<Value> {
        let answers =
            !matches!(helper.shape(), HelperShape::Pure1 | HelperShape::Pure2 | HelperShape::Pure3);
        let signature = self.signature(arguments.len(), answers);
        let table = self.context(context_offset!(helpers));
        let function = self.b.ins().load(I64, self.flags.context, table, helper.offset());
        let call = self.b.ins().call_indirect(signature, function, arguments);
        self.b.inst_results(call).first().copied()
    }

    /// Calls a helper that sees or takes gas; gives what it answers. The gas is up to date behind it, on
    /// both ways.
    fn call(&mut self, helper: Helper, arguments: &[Value]) -> Result<Value, CompileError> {
        self.store_gas();
        let answer = self.call_helper(helper, arguments).ok_or(super::WRONG_SHAPE)?;
        self.gas = self.context(context_offset!(gas));
        Ok(answer)
    }

    /// `helper(operands)`, which can not fail.
    pub(super) fn pure(&mut self, helper: Helper, operands: &[Limbs], limbs: usize) -> Limbs {
        for (word, &operand) in (1..).zip(operands) {
            self.store_scratch(word, operand);
        }
        let mut arguments = [None; 4];
        for (word, argument) in (0..).zip(&mut arguments[..=operands.len()]) {
            *argument = Some(self.scratch_address(word));
        }
        let arguments: Vec<_> = arguments.into_iter().flatten().collect();
        self.call_helper(helper, &arguments);
        self.load_scratch(demand::low(limbs))
    }

    /// Calls a thunk, which keeps all registers.
    pub(super) fn call_thunk(&mut self, thunk: Thunk, arguments: &[Value]) {
        let mut signature = Signature::new(CallConv::PreserveAll);
        signature.params.resize(arguments.len(), AbiParam::new(I64));
        let signature = self.b.import_signature(signature);
        let name = self.b.func.declare_imported_user_function(object::name(Symbol::Thunk(thunk)));
        let name = ExternalName::user(name);
        let function = ExtFuncData { name, signature, colocated: true, patchable: false };
        let function = self.b.import_function(function);
        self.b.ins().call(function, arguments);
    }

    /// As [`Self::pure`] for a helper of two operands, where it hardly ever happens.
    pub(super) fn pure_cold(&mut self, thunk: Thunk, a: Limbs, b: Limbs, limbs: usize) -> Limbs {
        self.store_scratch(1, a);
        self.store_scratch(2, b);
        let [dst, a, b] = [0, 1, 2].map(|word| self.scratch_address(word));
        self.call_thunk(thunk, &[dst, a, b, self.cx]);
        self.load_scratch(demand::low(limbs))
    }

    /// Acts for an instruction, or leaves in front of it; gives limbs of the result.
    pub(super) fn guarded(
        &mut self,
        helper: Helper,
        operands: &[Limbs],
        limbs: LimbSet,
        exit: ExitId,
    ) -> Result<Limbs, CompileError> {
        if helper.shape() != HelperShape::Guarded3 {
            return Err(super::WRONG_SHAPE);
        }
        let (record, zero) = (self.exit_record(exit)?, self.iconst(0));
        let mut arguments = [self.cx, record, zero, zero, zero];
        let used = helper.pointers();
        let writes = helper.has_destination();
        let mut operands = operands.iter();
        for (index, used) in used.into_iter().enumerate() {
            if !used {
                continue;
            }
            if index != 0 || !writes {
                let operand = *operands.next().ok_or(super::MISSING)?;
                self.store_scratch(index as i32, operand);
            }
            arguments[2 + index] = self.scratch_address(index as i32);
        }
        if operands.next().is_some() {
            return Err(CompileError::Malformed("more operands than the helper takes"));
        }
        let refused = self.call(helper, &arguments)?;
        self.leave_if(refused, exit)?;
        Ok(self.load_scratch(limbs))
    }

    /// Runs an instruction through the host: the stores in front of it make the stack in memory canonical.
    pub(super) fn run(&mut self, helper: Helper, exit: ExitId) -> Result<(), CompileError> {
        if helper.shape() != HelperShape::Instruction {
            return Err(super::WRONG_SHAPE);
        }
        self.perform_late(exit)?;
        let record = self.exit_record(exit)?;
        let left = self.call(helper, &[self.cx, record, self.sp])?;
        let number = self.exit_number(exit)?;
        let gas = self.gas;
        let (out, stay) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(left, out, &[], stay, &[]);
        self.b.switch_to_block(out);
        // The host has made the state canonical: without the stores.
        let number = self.iconst(number.into());
        self.b.ins().jump(self.out, &[number.into(), gas.into()]);
        self.b.switch_to_block(stay);
        Ok(())
    }
}
