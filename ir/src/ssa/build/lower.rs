//! One instruction at a time, over values.

use super::{Builder, control::End};
use crate::{
    code::{Ending, decode_dup_swap, decode_exchange, ending, immediate_len},
    module,
    opcode::{LOWERING, Lowering, Slow, slow_path},
    ssa::{
        function::{Inst, Op, Terminator, Value},
        simplify::simplify,
    },
};
use kiln_abi::{ExitKind, Helper, Pc, Slot, Word};
use revm_bytecode::opcode::OPCODE_INFO;

/// Constant memory offsets below this are compiled; the accesses stay below 2^31.
const OFFSET_MAX: u64 = (1 << 31) - 64;

impl Builder<'_> {
    /// Lowers a node into the present block. The node to go on with in the same block, or none if the
    /// block has ended.
    pub(super) fn node(&mut self, node: usize) -> Option<usize> {
        let end = self.body(node);
        let terminator = match end {
            End::Ends(terminator) => terminator,
            End::To { node: Some(next), .. } if self.is_private(next) => {
                self.gas_before += self.gas_own;
                self.gas_own = 0;
                return Some(next);
            }
            End::To { node: next, pc } => Terminator::Jump(self.edge(next, pc)),
        };
        self.gas_before += self.gas_own;
        self.gas_own = 0;
        self.finish(terminator);
        None
    }

    /// Whether only one edge goes to a node, and it was not met yet.
    fn is_private(&self, node: usize) -> bool {
        !self.is_join(node) && matches!(self.states[node], super::State::Waiting)
    }

    fn body(&mut self, node: usize) -> End {
        let analysis = self.analysis;
        let block = analysis.block(self.region.nodes[node].block);
        self.pc = block.start;
        for index in 0..block.instructions {
            let opcode = analysis.code[self.pc.0 as usize];
            self.gas_own = u32::from(analysis.config.gas[opcode as usize]);
            let pc = self.pc.0 as usize;
            let last = index + 1 == block.instructions;
            if last && ending(analysis.code, pc, analysis.config).is_some() {
                return self.lower_ending(node, opcode);
            }
            let next = Pc((pc + 1 + immediate_len(opcode)) as u32);
            if let Some(end) = self.lower(opcode, next) {
                return end;
            }
            self.gas_before += self.gas_own;
            self.pc = next;
        }
        self.gas_own = 0;
        match block.ending {
            Ending::CodeEnd => self.end_of_code(),
            _ => End::To { node: self.region.nodes[node].next, pc: block.end },
        }
    }

    /// Lowers an instruction that does not end its block, unless it is the interpreter's.
    fn lower(&mut self, opcode: u8, next: Pc) -> Option<End> {
        if self.analysis.perturb.no_inline && self.slow(opcode) {
            return None;
        }
        match LOWERING[opcode as usize] {
            Lowering::Push => self.push_immediate(next),
            Lowering::Dup(depth) => self.dup(u16::from(depth)),
            Lowering::Swap(depth) => self.exchange(0, u16::from(depth)),
            Lowering::Dupn => self.dup(self.immediate(decode_dup_swap)),
            Lowering::Swapn => self.exchange(0, self.immediate(decode_dup_swap)),
            Lowering::Exchange => {
                let (n, m) = self.immediate(decode_exchange);
                self.exchange(n, m);
            }
            Lowering::Pop => {
                self.pop();
            }
            Lowering::Jumpdest => {}
            Lowering::Pc => self.push_constant(u64::from(self.pc.0)),
            Lowering::Codesize => self.push_constant(self.analysis.code.len() as u64),
            Lowering::Binary(op) => self.data(op, 2),
            Lowering::Compare(cond) => self.data(module::Op::Set(cond), 2),
            Lowering::Iszero => {
                let zero = self.constant(Word::ZERO);
                let a = self.pop();
                let op = module::Op::Set(module::Cond::Eq);
                self.result(op, [Some(a), Some(zero), None], 0);
            }
            Lowering::Not => self.data(module::Op::Not, 1),
            Lowering::Shift(_, helper) | Lowering::Indexed(_, helper) => {
                self.data(module::Op::Pure(helper), 2);
            }
            Lowering::Pure(helper) => self.data(module::Op::Pure(helper), arity(opcode)),
            Lowering::Mload | Lowering::Mstore(_) => return self.memory(opcode),
            Lowering::Calldataload => self.data(module::Op::Calldataload, 1),
            Lowering::Environment(op) => self.data(op, 0),
            // `imm` holds the gas up to and with GAS until the total is known.
            Lowering::Gas => {
                self.result(module::Op::Gas, [None; 3], self.gas_before + self.gas_own);
            }
            Lowering::GuardedValue(helper) => self.guarded(opcode, helper, true),
            Lowering::GuardedEffect(helper) => self.guarded(opcode, helper, false),
            Lowering::Instruction(helper) => self.instruction(helper, opcode),
            Lowering::Jump
            | Lowering::Jumpi
            | Lowering::Stop
            | Lowering::Return
            | Lowering::Revert
            | Lowering::Suspend
            | Lowering::End
            | Lowering::Unknown => unreachable!("lower: {opcode:#x} ends a block"),
        }
        None
    }

    /// The instruction by the slowest way that there is for it; false if there is only one way.
    fn slow(&mut self, opcode: u8) -> bool {
        match slow_path(LOWERING[opcode as usize]) {
            Some(Slow::Table) => self.instruction(Helper::Instruction, opcode),
            Some(Slow::Op(op)) => self.data(op, arity(opcode)),
            None => return false,
        }
        true
    }

    /// The decoded immediate of an instruction that `ending` found valid.
    fn immediate<T>(&self, decode: impl Fn(u8) -> Option<T>) -> T {
        let byte = self.analysis.code[self.pc.0 as usize + 1];
        decode(byte).expect("lower: an invalid immediate ends the block")
    }

    fn push_immediate(&mut self, next: Pc) {
        let start = self.pc.0 as usize + 1;
        let len = next.0 as usize - start;
        let code = self.analysis.code;
        let present = &code[start.min(code.len())..code.len().min(start + len)];
        // A truncated PUSH is padded with zeros on the right.
        let mut bytes = [0; 32];
        bytes[32 - len..][..present.len()].copy_from_slice(present);
        let limb = |k: usize| {
            let mut limb = [0; 8];
            limb.copy_from_slice(&bytes[24 - 8 * k..][..8]);
            u64::from_be_bytes(limb)
        };
        let value = self.constant(Word([limb(0), limb(1), limb(2), limb(3)]));
        self.stack.push(value);
    }

    fn push_constant(&mut self, value: u64) {
        let value = self.draft.graph.small(value);
        self.stack.push(value);
    }

    fn dup(&mut self, depth: u16) {
        let value = self.peek(usize::from(depth) - 1);
        self.stack.push(value);
    }

    fn exchange(&mut self, n: u16, m: u16) {
        let top = self.stack.len() - 1;
        self.stack.swap(top - usize::from(n), top - usize::from(m));
    }

    /// Emits an operation; the value it comes to.
    pub(super) fn emit(&mut self, op: Op, args: [Option<Value>; 3], imm: u32) -> Value {
        let mut inst = Inst::new(op, args, imm, self.pc);
        if !self.analysis.perturb.leaves_ssa()
            && let Some(value) = simplify(&mut self.draft.graph, &mut inst)
        {
            return value;
        }
        let value = self.draft.graph.define(self.block, &mut inst);
        self.insts.push(inst);
        value
    }

    fn result(&mut self, op: module::Op, args: [Option<Value>; 3], imm: u32) {
        let value = self.emit(Op::Word(op), args, imm);
        self.stack.push(value);
    }

    fn pops(&mut self, count: usize) -> [Option<Value>; 3] {
        let mut args = [None; 3];
        args[..count].fill_with(|| Some(self.pop()));
        args
    }

    fn data(&mut self, op: module::Op, count: usize) {
        let args = self.pops(count);
        self.result(op, args, 0);
    }

    /// MLOAD, MSTORE, MSTORE8.
    fn memory(&mut self, opcode: u8) -> Option<End> {
        let (op, count) = match LOWERING[opcode as usize] {
            Lowering::Mstore(op) => (op, 2),
            _ => (module::Op::Mload, 1),
        };
        if let Some(word) = self.draft.graph.word(self.peek(0))
            && word.as_u64().is_none_or(|offset| offset >= OFFSET_MAX)
        {
            return Some(self.interpret());
        }
        let exit = self.leave(ExitKind::Interpret);
        let args = self.pops(count);
        self.leaving(op, args, exit, op == module::Op::Mload);
        None
    }

    fn guarded(&mut self, opcode: u8, helper: Helper, value: bool) {
        let exit = self.leave(ExitKind::Interpret);
        let args = self.pops(arity(opcode));
        self.leaving(module::Op::Guarded(helper), args, exit, value);
    }

    /// An operation that may leave in front of itself.
    fn leaving(
        &mut self,
        op: module::Op,
        args: [Option<Value>; 3],
        exit: kiln_abi::ExitId,
        value: bool,
    ) {
        let mut inst = Inst { exit: Some(exit), ..Inst::new(Op::Word(op), args, 0, self.pc) };
        if value {
            let value = self.draft.graph.define(self.block, &mut inst);
            self.stack.push(value);
        }
        self.insts.push(inst);
    }

    fn instruction(&mut self, helper: Helper, opcode: u8) {
        let exit = self.leave(ExitKind::Interpret);
        let info = OPCODE_INFO[opcode as usize].expect("lower: an unknown opcode ends the block");
        self.draft.leaves[exit.0 as usize].inputs = i16::from(info.inputs());
        let run = Inst::new(Op::Run(helper), [None; 3], 0, self.pc);
        self.insts.push(Inst { exit: Some(exit), ..run });
        for _ in 0..info.inputs() {
            self.pop();
        }
        for _ in 0..info.outputs() {
            let slot = Slot(self.height());
            let value = self.emit(Op::Slot(slot), [None; 3], 0);
            self.stack.push(value);
        }
    }
}

/// Words an opcode takes off the stack.
fn arity(opcode: u8) -> usize {
    OPCODE_INFO[opcode as usize].map_or(0, |info| usize::from(info.inputs()))
}
