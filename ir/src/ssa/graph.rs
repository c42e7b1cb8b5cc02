//! A function under construction: its values, and the ways out before their words are placed.
//!
//! **Owns** [`Draft`], which the builder makes and every pass rewrites. **Callers guarantee** that an
//! instruction's definition in `insts` is the one in its block. **Never** knows bytecode.

use super::{
    bounds,
    function::{Block, BlockId, Def, Inst, Op, Target, Terminator, Value, ValueData},
};
use crate::module::Cond;
use kiln_abi::{ExitKind, Pc, Word};
use std::collections::HashMap;

/// A way out, with the words of the stack that may have to be written.
#[derive(Clone, Debug)]
pub(super) struct Leave {
    pub(super) pc: Pc,
    pub(super) kind: ExitKind,
    pub(super) height: i16,
    pub(super) gas_back: u32,
    pub(super) rest: u32,
    /// By ascending position: what lies there. Positions that are not named hold what they held at
    /// entry, or are not read any more.
    pub(super) words: Vec<(i16, Value)>,
    /// Operands of the instruction it stands in front of, where that is run by the host.
    pub(super) inputs: i16,
}

/// All values of a function.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) values: Vec<ValueData>,
    /// By value: the instruction that defines it.
    insts: Vec<Option<Inst>>,
    constants: HashMap<Word, Value>,
}

impl Graph {
    pub(super) fn constant(&mut self, word: Word) -> Value {
        if let Some(&value) = self.constants.get(&word) {
            return value;
        }
        let value = self.add(ValueData { def: Def::Const(word), max: word });
        self.constants.insert(word, value);
        value
    }

    pub(super) fn small(&mut self, value: u64) -> Value {
        self.constant(Word::from_u64(value))
    }

    fn add(&mut self, data: ValueData) -> Value {
        let value = Value(self.values.len() as u32);
        self.values.push(data);
        self.insts.push(None);
        value
    }

    pub(super) fn param(&mut self, block: BlockId, index: u32) -> Value {
        self.add(ValueData { def: Def::Param { block, index }, max: Word::MAX })
    }

    /// The value that an instruction defines; notes it as the instruction's `dst`.
    pub(super) fn define(&mut self, block: BlockId, inst: &mut Inst) -> Value {
        let max = bounds::bound(inst, |value| self.max(value));
        let value = self.add(ValueData { def: Def::Inst(block), max });
        inst.dst = Some(value);
        self.insts[value.0 as usize] = Some(*inst);
        value
    }

    /// Notes that a value's instruction was rewritten or moved.
    pub(super) fn redefine(&mut self, block: BlockId, inst: &Inst) {
        if let Some(value) = inst.dst {
            self.insts[value.0 as usize] = Some(*inst);
            self.values[value.0 as usize].def = Def::Inst(block);
        }
    }

    /// The instruction that defines a value, if one does.
    pub(super) fn inst(&self, value: Value) -> Option<&Inst> {
        self.insts[value.0 as usize].as_ref()
    }

    /// The value that was narrowed to this one.
    pub(super) fn root(&self, mut value: Value) -> Value {
        while let Some(Inst { op: Op::Narrow, args: [Some(wider), ..], .. }) = self.inst(value) {
            value = *wider;
        }
        value
    }

    pub(super) fn word(&self, value: Value) -> Option<Word> {
        match self.values[value.0 as usize].def {
            Def::Const(word) => Some(word),
            Def::Param { .. } | Def::Inst(_) => None,
        }
    }

    pub(super) fn max(&self, value: Value) -> Word {
        self.values[value.0 as usize].max
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

/// A function under construction. Exit ids are indices into `leaves`.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) blocks: Vec<Block>,
    pub(super) graph: Graph,
    pub(super) leaves: Vec<Leave>,
    /// By parameter: the position of the word it stands for.
    pub(super) positions: HashMap<Value, i16>,
}

impl Inst {
    /// An instruction without result, check or exit.
    pub(super) fn new(op: Op, args: [Option<Value>; 3], imm: u32, pc: Pc) -> Self {
        Self { op, checked: true, dst: None, args, imm, exit: None, pc }
    }
}

impl Terminator {
    /// Where it may go, and the comparison that holds then.
    pub(super) fn edges(&self) -> impl Iterator<Item = (&Target, Option<(Cond, Value, Value)>)> {
        let holds = match *self {
            Self::Jump(_) => None,
            Self::Branch { cond, a, b, .. } => Some((cond, a, b)),
        };
        let otherwise = holds.map(|(cond, a, b)| (cond.negate(), a, b));
        self.targets().zip([holds, otherwise])
    }

    /// Calls `f` for each target.
    pub(super) fn targets_mut(&mut self, mut f: impl FnMut(&mut Target)) {
        match self {
            Self::Jump(target) => f(target),
            Self::Branch { taken, next, .. } => {
                f(taken);
                f(next);
            }
        }
    }

    /// Calls `f` for each value it reads itself: operands and arguments.
    pub(super) fn values_mut(&mut self, mut f: impl FnMut(&mut Value)) {
        if let Self::Branch { a, b, .. } = self {
            f(a);
            f(b);
        }
        self.targets_mut(|target| {
            if let Target::Block { args, .. } | Target::Back { args, .. } = target {
                args.iter_mut().for_each(&mut f);
            }
        });
    }
}

impl Target {
    pub(super) fn args_mut(&mut self) -> Option<(BlockId, &mut Vec<Value>)> {
        match self {
            Self::Block { block, args } | Self::Back { block, args, .. } => Some((*block, args)),
            Self::Exit(_) => None,
        }
    }
}
