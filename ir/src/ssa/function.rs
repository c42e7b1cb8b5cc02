//! The SSA form of one region.
//!
//! A [`Function`] is a single-entry region of basic blocks in which the words of the EVM stack are
//! values. It is entered at the leader [`Function::pc`] with the canonical state, reads words of the
//! entry stack where it needs them, and writes the stack only where it leaves or where an instruction
//! is run through the host. Every value is a 256-bit word; what is known of it (an upper bound) says
//! how much of it must be computed.
//!
//! # The stack in memory
//! The stack pointer never moves while a function runs: each [`Slot`], in [`Op::Slot`], [`Store`]s,
//! [`Fixup`]s and [`Exit::height`], counts from one past the top word at *entry*, so that slot -1 is
//! the top word at entry, and [`Exit::moved`] is always 0. The slots of memory are read by
//! [`Op::Slot`] only. They are written by three things only: the stores of a way out, the fixups of an
//! exit (which the host performs), and [`Op::Run`].
//!
//! # Entering
//! Before anything else the stack range is checked, once for the whole function: at least
//! [`Function::need`] words, and room for [`Function::grow`] more. If that fails it is left through
//! [`Function::entry_exit`], untouched. Then comes block 0.
//!
//! # Gas
//! A block charges [`Block::gas`] before its first instruction: if less gas is left, it is left
//! through [`Block::gas_exit`] and nothing is charged. Blocks that charge 0 have no such exit.
//! What an exit gives back ([`Exit::gas_back`]) is the host's to add, as for block IR: at most what its
//! block charged, or, in a block that charges nothing and continues one other, what that one charged.
//!
//! # Leaving
//! Each [`ExitId`] has an [`Exit`] record with fixups, as in block IR, and a list of [`Store`]s. To
//! leave through an exit is: perform its stores, then leave with its number. The host then applies the
//! fixups: their slot sources are read after the stores were performed. Stores write distinct slots,
//! none of which a fixup of the same exit writes or reads, so that their order does not matter.
//!
//! The one exception: when [`Op::Run`] says to leave, its stores were performed already (in front of
//! the helper's call) and must not be performed again, since the host has made the state canonical.
//!
//! An exit is used in one place. The values its stores name are defined there.
//!
//! # Order of blocks
//! Blocks lie in reverse post-order: [`Target::Block`] goes to a block that lies behind, and each
//! [`Target::Back`], which polls, to the block itself or one before. A block lies behind its
//! dominators, so each value but a constant is defined in a block at or before those that use it.

use crate::module::{self, Cond};
use kiln_abi::{ExitId, ExitTable, Pc, Slot, Word};

#[expect(unused_imports, reason = "named by the documentation")]
use kiln_abi::{Exit, Fixup};

/// A value: an index into [`Function::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

/// A block: an index into [`Function::blocks`]. Block 0 is the first that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(pub u32);

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Def {
    /// A constant; of no block, and may be used in all of them.
    Const(Word),
    /// A parameter of a block: the argument with the same index of the edge through which the block
    /// was entered.
    Param {
        /// The block.
        block: BlockId,
        /// The index in [`Block::params`].
        index: u32,
    },
    /// The result of an instruction of this block.
    Inst(BlockId),
}

/// What is known of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueData {
    /// Where it comes from.
    pub def: Def,
    /// An upper bound, as an unsigned integer: it is never more than this. A constant's own value
    /// for constants, 1 for booleans, `2^160 - 1` for addresses.
    pub max: Word,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `dst` = the word that lies in this slot of the EVM stack in memory now. It may move across
    /// everything but [`Op::Run`], which writes slots.
    Slot(Slot),
    /// `dst = a`, of which is known *here* that it is at most [`ValueData::max`] of `dst`: behind a
    /// branch on a comparison, for instance. Costs nothing: back ends give `dst` the low limbs of `a`.
    Narrow,
    /// An operation of block IR with its meaning there, over values in place of slots: all but
    /// [`module::Op::Copy`] and [`module::Op::Instruction`]. For [`module::Op::Guarded`] with a result,
    /// `p0` points to a word of the compiled code's own, not to a slot.
    Word(module::Op),
    /// Runs the instruction at [`Inst::exit`] through a helper of shape `Instruction`: performs the
    /// stores of that exit, then calls the helper, which applies the exit's fixups (so that the stack
    /// in memory is canonical) and runs the instruction on the canonical state. If the helper says
    /// leave, leaves at once with the number of `exit`, without performing stores again. Behind it,
    /// all words of the stack lie in their own slots; a word the instruction pushed is read by an
    /// [`Op::Slot`]. `sp` for the helper is the entry stack pointer.
    Run(kiln_abi::Helper),
}

/// One instruction. All operands are read before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// For accesses to memory ([`module::Op::Mload`], [`module::Op::Mstore`],
    /// [`module::Op::Mstore8`]): whether the access may lie outside of memory, so that it compares
    /// with the limits, expands if need be, and may leave through `exit`. False only if earlier
    /// accesses on every path here reached as far; then the offset fits 64 bits. True for all others.
    pub checked: bool,
    /// The value defined, where the operation defines one.
    pub dst: Option<Value>,
    /// Operands, from the top of the stack downwards.
    pub args: [Option<Value>; 3],
    /// Shift amount, byte index, or gas not yet due, as in block IR.
    pub imm: u32,
    /// How to leave in front of this instruction: for checked accesses to memory, guarded helpers and
    /// [`Op::Run`].
    pub exit: Option<ExitId>,
    /// The bytecode instruction it was made from.
    pub pc: Pc,
}

/// Where control goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A block that lies behind.
    Block {
        /// The block.
        block: BlockId,
        /// One value for each of its parameters.
        args: Vec<Value>,
    },
    /// A back-edge, to this block or one before. One is taken off the countdown of polls
    /// (`Context::poll`); if it was 0, out through `exit` instead, which resumes at the leader of that
    /// block.
    Back {
        /// The block.
        block: BlockId,
        /// One value for each of its parameters.
        args: Vec<Value>,
        /// The way out.
        exit: ExitId,
    },
    /// Out of the function.
    Exit(ExitId),
}

/// How a block ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// To one place.
    Jump(Target),
    /// To `taken` if `a cond b`, else to `next`. A computed jump is a chain of these, one for each
    /// predicted destination, that ends in an exit in front of the JUMP.
    Branch {
        /// The comparison.
        cond: Cond,
        /// Left operand.
        a: Value,
        /// Right operand; where just one of the two is a constant, it is this one.
        b: Value,
        /// Where to if it holds.
        taken: Target,
        /// Where to otherwise.
        next: Target,
    },
}

/// One write of a word to the EVM stack in memory, on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// The slot to write.
    pub slot: Slot,
    /// What to write there. Never a constant: those are fixups.
    pub value: Value,
}

/// A basic block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The leader it was made from. Several blocks may be made from one leader, and more than one
    /// from a leader's basic block.
    pub pc: Pc,
    /// The words on the stack where it begins, relative to the height at entry.
    pub height: i16,
    /// Its parameters, none for block 0.
    pub params: Vec<Value>,
    /// Static gas charged where it begins.
    pub gas: u32,
    /// Where to if there is less gas: an `Interpret` exit in front of the leader. Present if and only
    /// if `gas` is not 0.
    pub gas_exit: Option<ExitId>,
    /// Its instructions.
    pub insts: Vec<Inst>,
    /// How it ends.
    pub terminator: Terminator,
}

/// A region in SSA form. The module documentation says how it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Bytes of bytecode it was made from.
    pub code_len: u32,
    /// The leader at which it is entered.
    pub pc: Pc,
    /// Whether that is a JUMPDEST, which a computed jump may reach.
    pub is_jumpdest: bool,
    /// Words the stack must hold at entry: no slot below `-need` is touched.
    pub need: u16,
    /// Words above the entry height that may be written: no slot at or above `grow` is touched.
    pub grow: u16,
    /// Where to if the stack range does not fit: `Interpret` at `pc`, with nothing to write.
    pub entry_exit: ExitId,
    /// The blocks, in reverse post-order. Block 0 has no parameters and is no target.
    pub blocks: Vec<Block>,
    /// What is known of each value.
    pub values: Vec<ValueData>,
    /// Exits, their fixups, and the constants that fixups refer to.
    pub exits: ExitTable,
    /// The stores of all exits, in the order of the exits.
    pub stores: Vec<Store>,
    /// By [`ExitId`], one past the last of the exit's stores in `stores`; it begins where that of the
    /// exit before ends.
    pub stores_end: Vec<u32>,
    /// Bytecode instructions that were lowered, copies counted.
    pub instructions: u32,
}

impl Function {
    /// The block with this id.
    ///
    /// # Panics
    /// If the id is not of this function.
    pub fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.0 as usize]
    }

    /// The stores that are performed to leave through an exit of this function.
    ///
    /// # Panics
    /// If the exit is not of this function.
    pub fn stores(&self, exit: ExitId) -> &[Store] {
        let index = exit.0 as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.stores_end[before]);
        &self.stores[start as usize..self.stores_end[index] as usize]
    }

    /// The value, if it is a constant.
    pub fn constant(&self, value: Value) -> Option<Word> {
        match self.values[value.0 as usize].def {
            Def::Const(word) => Some(word),
            Def::Param { .. } | Def::Inst(_) => None,
        }
    }

    /// An upper bound of a value, as an unsigned integer.
    pub fn max(&self, value: Value) -> Word {
        self.values[value.0 as usize].max
    }

    /// An upper bound on the bits of a value: 0 to 256. At most 1 for booleans, 64 for what one limb
    /// holds, 160 for addresses.
    pub fn bits(&self, value: Value) -> u16 {
        bit_len(&self.max(value))
    }

    /// Limbs of 64 bits that can be other than zero: 0 to 4.
    pub fn limbs(&self, value: Value) -> usize {
        usize::from(self.bits(value).div_ceil(64))
    }
}

impl Target {
    /// The block and the arguments for its parameters, or none for a way out.
    pub fn block(&self) -> Option<(BlockId, &[Value])> {
        match self {
            Self::Block { block, args } | Self::Back { block, args, .. } => Some((*block, args)),
            Self::Exit(_) => None,
        }
    }

    /// The way out, if there is one.
    pub fn exit(&self) -> Option<ExitId> {
        match *self {
            Self::Exit(exit) | Self::Back { exit, .. } => Some(exit),
            Self::Block { .. } => None,
        }
    }
}

impl Terminator {
    /// Where it may go, in the order `taken`, `next`.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let (first, second) = match self {
            Self::Jump(target) => (target, None),
            Self::Branch { taken, next, .. } => (taken, Some(next)),
        };
        core::iter::once(first).chain(second)
    }
}

/// Bits of a word.
pub(super) fn bit_len(word: &Word) -> u16 {
    match word.0.iter().rposition(|&limb| limb != 0) {
        Some(top) => (64 * (top as u32 + 1) - word.0[top].leading_zeros()) as u16,
        None => 0,
    }
}
