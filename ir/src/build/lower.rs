//! Lowering of one instruction: a table of contents, then the families.

use super::{
    Builder, Lowered,
    stack::{OutOfStack, Value},
};
use crate::{
    code::{decode_dup_swap, decode_exchange, ending, immediate_len},
    fold,
    module::{Cond, ConstId, Inst, Op, Operand},
    opcode::{LOWERING, Lowering},
};
use kiln_abi::{ExitKind, Helper, Pc, Slot, Word};

/// Constant memory offsets below this are inline; the accesses stay below 2^31.
const OFFSET_MAX: u64 = (1 << 31) - 64;

impl Builder<'_> {
    /// Lowers the instruction at `self.pc`; gives the pc behind it too. Only the last of a block can
    /// end it: the scan ends blocks so.
    pub(super) fn lower(&mut self, opcode: u8, last: bool) -> Result<(Lowered, Pc), OutOfStack> {
        let pc = self.pc.0 as usize;
        let next = Pc((pc + 1 + immediate_len(opcode)) as u32);
        let lowered = match last && ending(self.code, pc, self.config).is_some() {
            true => self.lower_ending(opcode)?,
            false => self.lower_body(opcode, next)?,
        };
        Ok((lowered, next))
    }

    fn lower_body(&mut self, opcode: u8, next: Pc) -> Result<Lowered, OutOfStack> {
        if self.perturb.no_inline && self.slow(opcode)? {
            return Ok(Lowered::Continue);
        }
        match LOWERING[opcode as usize] {
            Lowering::Push => self.push_immediate(next)?,
            Lowering::Dup(depth) => self.dup(u16::from(depth))?,
            Lowering::Swap(depth) => self.exchange(0, u16::from(depth))?,
            Lowering::Dupn => self.dup(self.immediate(decode_dup_swap))?,
            Lowering::Swapn => self.exchange(0, self.immediate(decode_dup_swap))?,
            Lowering::Exchange => {
                let (n, m) = self.immediate(decode_exchange);
                self.exchange(n, m)?;
            }
            Lowering::Pop => {
                self.stack.pop()?;
            }
            Lowering::Jumpdest => {}
            Lowering::Pc => self.push_constant(Word::from_u64(u64::from(self.pc.0)))?,
            Lowering::Codesize => self.push_constant(Word::from_u64(self.code.len() as u64))?,
            Lowering::Binary(op) => self.binary(op)?,
            Lowering::Compare(cond) => self.compare(cond)?,
            Lowering::Iszero => self.iszero()?,
            Lowering::Not => self.not()?,
            Lowering::Shift(op, helper) => self.indexed(op, helper, 256)?,
            Lowering::Indexed(op, helper) => self.indexed(op, helper, 32)?,
            Lowering::Pure(helper) => self.pure(helper)?,
            Lowering::Mload => return self.mload(),
            Lowering::Mstore(op) => return self.mstore(op),
            Lowering::Calldataload => self.calldataload()?,
            Lowering::Environment(op) => {
                let bits = match op {
                    Op::Address | Op::Caller => 160,
                    Op::CallValue => 256,
                    _ => 64,
                };
                self.result(op, [None; 3], 0, bits)?;
            }
            // `imm` holds the gas up to and with GAS until the total is known.
            Lowering::Gas => self.result(Op::Gas, [None; 3], self.gas_before + self.gas_own, 64)?,
            Lowering::GuardedValue(helper) => self.guarded(helper, true)?,
            Lowering::GuardedEffect(helper) => self.guarded(helper, false)?,
            Lowering::Instruction(helper) => self.instruction(helper, opcode)?,
            Lowering::Jump
            | Lowering::Jumpi
            | Lowering::Stop
            | Lowering::Return
            | Lowering::Revert
            | Lowering::Suspend
            | Lowering::End
            | Lowering::Unknown => unreachable!("lower: {opcode:#x} ends a block"),
        }
        Ok(Lowered::Continue)
    }

    /// The decoded immediate of an instruction that `ending` found valid.
    fn immediate<T>(&self, decode: impl Fn(u8) -> Option<T>) -> T {
        let byte = self.code[self.pc.0 as usize + 1];
        decode(byte).expect("lower: an invalid immediate ends the block")
    }

    // --- stack -------------------------------------------------------------------------------

    fn push_immediate(&mut self, next: Pc) -> Result<(), OutOfStack> {
        let start = self.pc.0 as usize + 1;
        let len = next.0 as usize - start;
        if len <= 8
            && let Some(present) = self.code.get(start..start + len)
        {
            let value = present.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
            return self.push_constant(Word::from_u64(value));
        }
        let present = &self.code[start.min(self.code.len())..self.code.len().min(start + len)];
        // A truncated PUSH is padded with zeros on the right.
        let mut bytes = [0; 32];
        bytes[32 - len..][..present.len()].copy_from_slice(present);
        let limb = |k: usize| {
            let mut limb = [0; 8];
            limb.copy_from_slice(&bytes[24 - 8 * k..][..8]);
            u64::from_be_bytes(limb)
        };
        self.push_constant(Word([limb(0), limb(1), limb(2), limb(3)]))
    }

    pub(super) fn push_constant(&mut self, word: Word) -> Result<(), OutOfStack> {
        let id = self.constant(word);
        self.stack.push(Value::Const { id, home: false })
    }

    fn dup(&mut self, depth: u16) -> Result<(), OutOfStack> {
        let position = self.stack.position(depth - 1)?;
        let value = match self.stack.get(position) {
            Value::Const { id, .. } => Value::Const { id, home: false },
            slot => slot,
        };
        self.stack.push(value)
    }

    fn exchange(&mut self, n: u16, m: u16) -> Result<(), OutOfStack> {
        let (a, b) = (self.stack.position(n)?, self.stack.position(m)?);
        self.stack.swap(a, b);
        Ok(())
    }

    // --- emission ----------------------------------------------------------------------------

    pub(super) fn pop_operand(&mut self) -> Result<Operand, OutOfStack> {
        Ok(match self.stack.pop()? {
            Value::Slot(slot) => Operand::Slot(Slot(slot)),
            Value::Const { id, .. } => Operand::Const(ConstId(id)),
        })
    }

    pub(super) fn word(&self, operand: Operand) -> Option<Word> {
        match operand {
            Operand::Const(id) => Some(self.module.constant(id)),
            Operand::Slot(_) => None,
        }
    }

    pub(super) fn push_operand(&mut self, operand: Operand) -> Result<(), OutOfStack> {
        self.stack.push(match operand {
            Operand::Slot(slot) => Value::Slot(slot.0),
            Operand::Const(id) => Value::Const { id: id.0, home: false },
        })
    }

    /// An upper bound on an operand's bits.
    pub(super) fn bits(&self, operand: Operand) -> u16 {
        match operand {
            Operand::Slot(slot) => self.stack.bits(slot.0),
            Operand::Const(id) => bit_len(&self.module.constant(id)),
        }
    }

    /// Emits an operation and pushes its result.
    pub(super) fn result(
        &mut self,
        op: Op,
        args: [Option<Operand>; 3],
        imm: u32,
        bits: u16,
    ) -> Result<(), OutOfStack> {
        let dst = self.stack.destination()?;
        self.module.insts.push(Inst {
            op,
            checked: true,
            dst: Some(Slot(dst)),
            args,
            imm,
            exit: None,
            pc: self.pc,
        });
        self.stack.set_bits(dst, bits);
        self.stack.push(Value::Slot(dst))
    }

    // --- words -------------------------------------------------------------------------------

    fn compare(&mut self, cond: Cond) -> Result<(), OutOfStack> {
        let (a, b) = (self.pop_operand()?, self.pop_operand()?);
        if let (Some(x), Some(y)) = (self.word(a), self.word(b)) {
            let holds = fold::compare(cond, &x, &y);
            return self.push_constant(Word::from_u64(u64::from(holds)));
        }
        let (cond, a, b) = match a {
            Operand::Const(_) => (cond.swap(), b, a),
            Operand::Slot(_) => (cond, a, b),
        };
        self.result(Op::Set(cond), [Some(a), Some(b), None], 0, 1)
    }

    fn not(&mut self) -> Result<(), OutOfStack> {
        let a = self.pop_operand()?;
        match self.word(a) {
            Some(word) => self.push_constant(Word(word.0.map(|limb| !limb))),
            None => self.result(Op::Not, [Some(a), None, None], 0, 256),
        }
    }

    /// Shifts, BYTE and SIGNEXTEND: `a` is the amount or index.
    fn indexed(&mut self, op: Op, helper: Helper, limit: u64) -> Result<(), OutOfStack> {
        let (a, b) = (self.pop_operand()?, self.pop_operand()?);
        let Some(amount) = self.word(a) else {
            let bits = match helper {
                Helper::Byte => 8,
                Helper::Shr => self.bits(b),
                _ => 256,
            };
            return self.result(Op::Pure(helper), [Some(a), Some(b), None], 0, bits);
        };
        if let Some(word) = self.word(b) {
            return self.push_constant(fold::pure(helper, amount, word, Word::ZERO));
        }
        let amount = amount.as_u64().filter(|&amount| amount < limit);
        match (op, amount) {
            (Op::ShlImm | Op::ShrImm, None) | (Op::ByteImm, None) => self.push_constant(Word::ZERO),
            (Op::SarImm, None) => self.result(op, [Some(b), None, None], 255, 256),
            (Op::SignextendImm, None | Some(31)) => self.push_operand(b),
            (Op::ShlImm | Op::ShrImm | Op::SarImm, Some(0)) => self.push_operand(b),
            (_, Some(amount)) => {
                let bits = match op {
                    Op::ShlImm => (self.bits(b) + amount as u16).min(256),
                    Op::ShrImm => self.bits(b).saturating_sub(amount as u16),
                    Op::ByteImm => 8,
                    _ => 256,
                };
                if bits == 0 {
                    return self.push_constant(Word::ZERO);
                }
                self.result(op, [Some(b), None, None], amount as u32, bits)
            }
            (_, None) => unreachable!("lower: {op:?} is not indexed"),
        }
    }

    fn calldataload(&mut self) -> Result<(), OutOfStack> {
        let offset = self.pop_operand()?;
        let offset = match self.word(offset) {
            Some(word) if word.as_u64().is_none_or(|offset| offset >= OFFSET_MAX) => {
                self.in_slot(offset)?
            }
            _ => offset,
        };
        self.result(Op::Calldataload, [Some(offset), None, None], 0, 256)
    }

    /// The operand, in a slot.
    fn in_slot(&mut self, operand: Operand) -> Result<Operand, OutOfStack> {
        let slot = self.stack.temporary(self.stack.height())?;
        self.module.insts.push(Inst {
            op: Op::Copy,
            checked: true,
            dst: Some(Slot(slot)),
            args: [Some(operand), None, None],
            imm: 0,
            exit: None,
            pc: self.pc,
        });
        self.stack.set_bits(slot, 256);
        Ok(Operand::Slot(Slot(slot)))
    }

    // --- memory ------------------------------------------------------------------------------

    /// Whether an access of `size` bytes must be checked; none if its offset is the interpreter's
    /// business.
    fn access(&mut self, offset: Operand, size: u64) -> Option<bool> {
        let Some(word) = self.word(offset) else { return Some(true) };
        let offset = word.as_u64().filter(|&offset| offset < OFFSET_MAX)?;
        let checked = offset + size > self.memory_known;
        self.memory_known = self.memory_known.max((offset + size).next_multiple_of(32));
        Some(checked)
    }

    fn peek(&mut self) -> Result<Operand, OutOfStack> {
        let position = self.stack.position(0)?;
        Ok(match self.stack.get(position) {
            Value::Slot(slot) => Operand::Slot(Slot(slot)),
            Value::Const { id, .. } => Operand::Const(ConstId(id)),
        })
    }

    fn mload(&mut self) -> Result<Lowered, OutOfStack> {
        let offset = self.peek()?;
        let Some(checked) = self.access(offset, 32) else { return Ok(self.interpret()) };
        let exit = checked.then(|| self.exit(ExitKind::Interpret));
        self.stack.pop()?;
        self.result(Op::Mload, [Some(offset), None, None], 0, 256)?;
        let inst = self.module.insts.last_mut().expect("just emitted");
        (inst.checked, inst.exit) = (checked, exit);
        Ok(Lowered::Continue)
    }

    fn mstore(&mut self, op: Op) -> Result<Lowered, OutOfStack> {
        let offset = self.peek()?;
        let size = if op == Op::Mstore8 { 1 } else { 32 };
        let Some(checked) = self.access(offset, size) else { return Ok(self.interpret()) };
        let exit = if checked {
            self.stack.position(1)?;
            Some(self.exit(ExitKind::Interpret))
        } else {
            None
        };
        let (offset, value) = (self.pop_operand()?, self.pop_operand()?);
        self.module.insts.push(Inst {
            op,
            checked,
            dst: None,
            args: [Some(offset), Some(value), None],
            imm: 0,
            exit,
            pc: self.pc,
        });
        Ok(Lowered::Continue)
    }

    // --- helpers -----------------------------------------------------------------------------

    fn guarded(&mut self, helper: Helper, value: bool) -> Result<(), OutOfStack> {
        let operands = match helper {
            Helper::Sload | Helper::Tload => 1,
            Helper::Exp | Helper::Keccak256 | Helper::Tstore => 2,
            _ => 3,
        };
        self.stack.position(operands - 1)?;
        let exit = self.exit(ExitKind::Interpret);
        let mut args = [None; 3];
        for arg in &mut args[..operands as usize] {
            *arg = Some(self.pop_operand()?);
        }
        if value {
            self.result(Op::Guarded(helper), args, 0, 256)?;
        } else {
            self.module.insts.push(Inst {
                op: Op::Guarded(helper),
                checked: true,
                dst: None,
                args,
                imm: 0,
                exit: None,
                pc: self.pc,
            });
        }
        self.module.insts.last_mut().expect("just emitted").exit = Some(exit);
        Ok(())
    }

    pub(super) fn instruction(&mut self, helper: Helper, opcode: u8) -> Result<(), OutOfStack> {
        let info = revm_bytecode::opcode::OPCODE_INFO[opcode as usize]
            .expect("lower: an unknown opcode ends the block");
        if info.inputs() > 0 {
            self.stack.position(u16::from(info.inputs()) - 1)?;
        }
        let exit = self.exit(ExitKind::Interpret);
        self.module.insts.push(Inst {
            op: Op::Instruction(helper),
            checked: true,
            dst: None,
            args: [None; 3],
            imm: 0,
            exit: Some(exit),
            pc: self.pc,
        });
        self.stack.all_home();
        for _ in 0..info.inputs() {
            self.stack.pop()?;
        }
        for _ in 0..info.outputs() {
            self.stack.push_home()?;
        }
        Ok(())
    }
}

/// Bits of a word.
pub(super) fn bit_len(word: &Word) -> u16 {
    match word.0.iter().rposition(|&limb| limb != 0) {
        Some(top) => (64 * (top as u32 + 1) - word.0[top].leading_zeros()) as u16,
        None => 0,
    }
}
