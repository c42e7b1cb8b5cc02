//! The block IR.
//!
//! A [`Module`] holds the regions of one program. A [`Region`] here is one basic block of bytecode:
//! it checks its precondition once (stack range, static gas), then runs its instructions over the
//! words of the EVM stack in memory, and ends in a [`Terminator`]. Slots are relative to the stack
//! top at block entry. A slot at or above the final height serves as a temporary; the stack range in
//! the precondition covers those too.
//!
//! Every instruction reads all its operands before it writes its destination, so a destination may
//! be the same slot as an operand. Operands are named from the top of the stack downwards: for
//! `SUB`, `a - b`, `a` was on top.

use core::fmt;
use kiln_abi::{ExitId, ExitTable, Helper, Pc, Slot};

/// An index into the constant pool of the module ([`ExitTable::pool`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConstId(pub u32);

/// What an instruction reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A stack slot.
    Slot(Slot),
    /// A constant.
    Const(ConstId),
}

/// A comparison of two words. `Eq` against the constant zero is ISZERO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cond {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Unsigned less than.
    Ult,
    /// Unsigned greater than.
    Ugt,
    /// Unsigned less than or equal.
    Ule,
    /// Unsigned greater than or equal.
    Uge,
    /// Signed less than.
    Slt,
    /// Signed greater than.
    Sgt,
    /// Signed less than or equal.
    Sle,
    /// Signed greater than or equal.
    Sge,
}

impl Cond {
    /// All conditions.
    pub const ALL: [Self; 10] = [
        Self::Eq,
        Self::Ne,
        Self::Ult,
        Self::Ugt,
        Self::Ule,
        Self::Uge,
        Self::Slt,
        Self::Sgt,
        Self::Sle,
        Self::Sge,
    ];

    /// The condition that holds exactly when this one does not.
    pub const fn negate(self) -> Self {
        match self {
            Self::Eq => Self::Ne,
            Self::Ne => Self::Eq,
            Self::Ult => Self::Uge,
            Self::Uge => Self::Ult,
            Self::Ugt => Self::Ule,
            Self::Ule => Self::Ugt,
            Self::Slt => Self::Sge,
            Self::Sge => Self::Slt,
            Self::Sgt => Self::Sle,
            Self::Sle => Self::Sgt,
        }
    }

    /// The condition `c` with `a self b == b c a`.
    pub const fn swap(self) -> Self {
        match self {
            Self::Eq => Self::Eq,
            Self::Ne => Self::Ne,
            Self::Ult => Self::Ugt,
            Self::Ugt => Self::Ult,
            Self::Ule => Self::Uge,
            Self::Uge => Self::Ule,
            Self::Slt => Self::Sgt,
            Self::Sgt => Self::Slt,
            Self::Sle => Self::Sge,
            Self::Sge => Self::Sle,
        }
    }

    /// The name in textual IR.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Ult => "ult",
            Self::Ugt => "ugt",
            Self::Ule => "ule",
            Self::Uge => "uge",
            Self::Slt => "slt",
            Self::Sgt => "sgt",
            Self::Sle => "sle",
            Self::Sge => "sge",
        }
    }
}

/// What an instruction does. The comments name what it uses of [`Inst`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `dst = a`.
    Copy,
    /// `dst = a + b`.
    Add,
    /// `dst = a - b`.
    Sub,
    /// `dst = a * b`: a 64-bit fast path, else [`Helper::Mul`].
    Mul,
    /// `dst = a & b`.
    And,
    /// `dst = a | b`.
    Or,
    /// `dst = a ^ b`.
    Xor,
    /// `dst = !a`.
    Not,
    /// `dst = (a cond b) as word`.
    Set(Cond),
    /// `dst = b << imm`, 0 < imm < 256; the value is `a`.
    ShlImm,
    /// `dst = a >> imm`, 0 < imm < 256, zeros come in.
    ShrImm,
    /// `dst = a >> imm`, 0 < imm < 256, the sign comes in.
    SarImm,
    /// `dst` = byte `imm` of `a`, from the most significant, imm < 32.
    ByteImm,
    /// `dst` = `a` sign-extended from byte `imm` counted from the least significant, imm < 31.
    SignextendImm,
    /// `dst` = the word of memory at byte offset `a`. If it may lie outside (`checked`), memory is
    /// expanded first, or the block is left through `exit`.
    Mload,
    /// memory\[a\] = word `b`; as [`Op::Mload`].
    Mstore,
    /// memory\[a\] = low byte of `b`; as [`Op::Mload`].
    Mstore8,
    /// `dst` = word of calldata at `a`, zeros behind its end.
    Calldataload,
    /// `dst` = the frame's address.
    Address,
    /// `dst` = the caller's address.
    Caller,
    /// `dst` = the call's value.
    CallValue,
    /// `dst` = bytes of calldata.
    Calldatasize,
    /// `dst` = bytes of return data.
    Returndatasize,
    /// `dst` = bytes of memory.
    Msize,
    /// `dst` = gas left once the static gas not yet due (`imm`) is counted back in.
    Gas,
    /// A helper of shape `Pure1`, `Pure2`, `Pure3`: `dst = helper(a, b, c)`.
    Pure(Helper),
    /// A helper of shape `Guarded3`: may leave through `exit`, before it did anything. Where it
    /// writes, `p0` is `dst` and `p1`, `p2` are the operands; else three operands are `p0` to `p2`,
    /// and two are `p1`, `p2`. Pointers that are not used are null.
    Guarded(Helper),
    /// A helper of shape `Instruction`: makes the state at `exit` canonical, runs the instruction
    /// there, and leaves all words of the stack in their own slots.
    Instruction(Helper),
}

/// One instruction of block IR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inst {
    /// What it does.
    pub op: Op,
    /// For memory operations with a constant offset: whether the access may lie outside of memory.
    /// False only if an earlier access of the block already reached as far.
    pub checked: bool,
    /// The slot written, where the operation writes one.
    pub dst: Option<Slot>,
    /// Operands, from the top of the stack downwards.
    pub args: [Option<Operand>; 3],
    /// Shift amount, byte index, or gas not yet due.
    pub imm: u32,
    /// How to leave in front of this instruction, where it may.
    pub exit: Option<ExitId>,
    /// The instruction it was made from.
    pub pc: Pc,
}

/// Where control goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The region with this index in [`Module::regions`], which lies behind.
    Region(u32),
    /// A back-edge: to this region or one before. One is taken off the countdown of polls; if it was
    /// 0, out through `exit`, which resumes at that region.
    Back {
        /// The region's index.
        region: u32,
        /// The way out.
        exit: ExitId,
    },
    /// Out of compiled code.
    Exit(ExitId),
}

/// How a region ends. At a transfer to another region all words are in their own slots and the stack
/// pointer has moved by [`Region::height`]; the operands of the terminator are relative to the entry
/// pointer, like all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// To one place. Where it is the next region, nothing is emitted.
    Jump(Target),
    /// To `taken` if `a cond b`, else to `next`.
    Branch {
        /// The comparison.
        cond: Cond,
        /// Left operand.
        a: Operand,
        /// Right operand.
        b: Operand,
        /// Where to if it holds.
        taken: Target,
        /// Where to otherwise.
        next: Target,
    },
    /// To the pc in `dest` if it is a compiled JUMPDEST, else out through `exit`, in front of the
    /// JUMP.
    JumpDynamic {
        /// The slot that holds the destination.
        dest: Slot,
        /// The way out.
        exit: ExitId,
    },
    /// Out of compiled code. The stack pointer has not moved.
    Exit(ExitId),
}

/// One compiled basic block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its leader.
    pub pc: Pc,
    /// Whether the leader is a JUMPDEST, which a computed jump may reach.
    pub is_jumpdest: bool,
    /// Words the stack must hold at entry.
    pub need: u16,
    /// Words above the entry height that are written.
    pub grow: u16,
    /// Change of the stack height at the terminator.
    pub height: i16,
    /// Static gas, charged at entry.
    pub gas: u32,
    /// Where to if the precondition fails. Always `Interpret` at `pc` with nothing to write.
    pub entry_exit: ExitId,
    /// First instruction in [`Module::insts`].
    pub insts_start: u32,
    /// Number of instructions.
    pub insts_len: u32,
    /// How it ends.
    pub terminator: Terminator,
    /// Bytecode instructions in the block.
    pub instructions: u32,
}

/// The IR of one program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Bytes of bytecode it was made from.
    pub code_len: u32,
    /// The regions, by ascending pc.
    pub regions: Vec<Region>,
    /// The instructions of all regions.
    pub insts: Vec<Inst>,
    /// Exits, their fixups, and the constant pool.
    pub exits: ExitTable,
}

impl Module {
    /// The instructions of a region of this module.
    pub fn insts(&self, region: &Region) -> &[Inst] {
        &self.insts[region.insts_start as usize..][..region.insts_len as usize]
    }

    /// The value of a constant.
    pub fn constant(&self, id: ConstId) -> kiln_abi::Word {
        self.exits.pool[id.0 as usize]
    }

    /// Bytecode instructions compiled.
    pub fn instructions(&self) -> usize {
        self.regions.iter().map(|region| region.instructions as usize).sum()
    }

    /// Of these, accesses to storage.
    pub fn storage_accesses(&self) -> usize {
        let accesses = |inst: &&Inst| {
            matches!(inst.op, Op::Guarded(Helper::Sload) | Op::Instruction(Helper::Sstore))
        };
        self.insts.iter().filter(accesses).count()
    }
}

impl fmt::Display for Cond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
