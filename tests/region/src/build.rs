//! Functions in the making.

use crate::support::{number, word};
use kiln_abi::{Exit, ExitId, ExitKind, ExitTable, Helper, Pc, Slot};
use kiln_ir::{
    Op,
    ssa::{self, BlockId, Def, Function, Inst, Store, Target, Terminator, Value, ValueData},
};
use revm_primitives::U256;

/// A function in the making. Exit 0 is the one of the head.
pub struct Builder {
    pub function: Function,
}

pub const HEAD: ExitId = ExitId(0);

impl Builder {
    pub fn new(need: u16, grow: u16) -> Self {
        let mut builder = Self {
            function: Function {
                code_len: 1000,
                pc: Pc(0),
                is_jumpdest: false,
                need,
                grow,
                entry_exit: HEAD,
                blocks: Vec::new(),
                values: Vec::new(),
                exits: ExitTable::default(),
                stores: Vec::new(),
                stores_end: Vec::new(),
                instructions: 20,
            },
        };
        builder.exit(&[]);
        builder
    }

    /// A way out that writes the stack so.
    pub fn exit(&mut self, stores: &[(i16, Value)]) -> ExitId {
        let function = &mut self.function;
        function.exits.exits.push(Exit::plain(Pc(0), ExitKind::Interpret, 0));
        let stores = stores.iter().map(|&(slot, value)| Store { slot: Slot(slot), value });
        function.stores.extend(stores);
        function.stores_end.push(function.stores.len() as u32);
        ExitId(function.exits.exits.len() as u32 - 1)
    }

    /// A block that leaves through the head's exit, until it is told otherwise.
    pub fn block(&mut self, gas: u32) -> BlockId {
        let gas_exit = (gas != 0).then(|| self.exit(&[]));
        self.function.blocks.push(ssa::Block {
            pc: Pc(0),
            height: 0,
            params: Vec::new(),
            gas,
            gas_exit,
            insts: Vec::new(),
            terminator: Terminator::Jump(Target::Exit(HEAD)),
        });
        BlockId(self.function.blocks.len() as u32 - 1)
    }

    pub fn end(&mut self, BlockId(block): BlockId, terminator: Terminator) {
        self.function.blocks[block as usize].terminator = terminator;
    }

    fn value(&mut self, def: Def, max: U256) -> Value {
        self.function.values.push(ValueData { def, max: word(max) });
        Value(self.function.values.len() as u32 - 1)
    }

    pub fn max(&self, value: Value) -> U256 {
        number(self.function.max(value))
    }

    pub fn constant(&mut self, value: U256) -> Value {
        self.value(Def::Const(word(value)), value)
    }

    pub fn param(&mut self, block: BlockId, max: U256) -> Value {
        let index = self.function.blocks[block.0 as usize].params.len() as u32;
        let value = self.value(Def::Param { block, index }, max);
        self.function.blocks[block.0 as usize].params.push(value);
        value
    }

    /// Appends an instruction with an exit; gives its result.
    pub fn inst(
        &mut self,
        block: BlockId,
        op: ssa::Op,
        args: &[Value],
        imm: u32,
        max: Option<U256>,
        exit: Option<ExitId>,
    ) -> Option<Value> {
        let dst = max.map(|max| self.value(Def::Inst(block), max));
        let mut all = [None; 3];
        all.iter_mut().zip(args).for_each(|(all, arg)| *all = Some(*arg));
        let insts = &mut self.function.blocks[block.0 as usize].insts;
        insts.push(Inst { op, checked: true, dst, args: all, imm, exit, pc: Pc(0) });
        dst
    }

    /// The last instruction, which is not checked.
    pub fn unchecked(&mut self, BlockId(block): BlockId) {
        let inst = self.function.blocks[block as usize].insts.last_mut().unwrap();
        (inst.checked, inst.exit) = (false, None);
    }

    /// A word of the stack.
    pub fn slot(&mut self, block: BlockId, slot: i16) -> Value {
        self.inst(block, ssa::Op::Slot(Slot(slot)), &[], 0, Some(U256::MAX), None).unwrap()
    }

    /// A word of the stack that is known to be small.
    pub fn narrow_slot(&mut self, block: BlockId, slot: i16, max: U256) -> Value {
        let word = self.slot(block, slot);
        self.inst(block, ssa::Op::Narrow, &[word], 0, Some(max), None).unwrap()
    }

    /// An operation on words; what is known of the result follows from what is known of the operands.
    pub fn word(&mut self, block: BlockId, op: Op, args: &[Value], imm: u32) -> Value {
        let known: Vec<_> = args.iter().map(|&arg| self.max(arg)).collect();
        let max = bound(op, &known, imm);
        self.inst(block, ssa::Op::Word(op), args, imm, Some(max), None).unwrap()
    }
}

/// All ones, as many as the number has bits.
pub fn ones(bits: usize) -> U256 {
    if bits == 0 { U256::ZERO } else { U256::MAX >> (256 - bits) }
}

/// An upper bound of a result.
pub fn bound(op: Op, args: &[U256], imm: u32) -> U256 {
    let arg = |index: usize| args[index];
    match op {
        Op::Add => arg(0).checked_add(arg(1)).unwrap_or(U256::MAX),
        Op::Mul | Op::Pure(Helper::Mul) => arg(0).checked_mul(arg(1)).unwrap_or(U256::MAX),
        Op::And => arg(0).min(arg(1)),
        Op::Or | Op::Xor => ones(arg(0).bit_len().max(arg(1).bit_len())),
        Op::Set(_) => U256::from(1),
        Op::ShlImm => ones((arg(0).bit_len() + imm as usize).min(256)),
        Op::ShrImm => arg(0) >> imm as usize,
        Op::SarImm if arg(0).bit_len() < 256 => arg(0) >> imm as usize,
        Op::ByteImm | Op::Pure(Helper::Byte) => U256::from(255),
        Op::Pure(Helper::Div) => arg(0),
        Op::Pure(Helper::Rem) => arg(0).min(arg(1)),
        Op::Pure(Helper::Shr) => arg(0),
        Op::Address | Op::Caller => ones(160),
        Op::Calldatasize | Op::Returndatasize | Op::Msize | Op::Gas => ones(64),
        _ => U256::MAX,
    }
}
