//! The text form of a module: complete, and readable next to the bytecode.
//!
//! **Owns** how every entity of the block IR is written; [`crate::parse`] reads it back.
//!
//! **Callers guarantee** nothing: a module that breaks rules is written as far as it goes, with what
//! it lacks left out, so that it can be looked at.
//!
//! **Never** decides anything: what is not written here is not in the module.
//!
//! ```text
//! code 9
//! const c0 = 0x0
//! const c1 = 0x20
//! region r0 @0 jumpdest need 1 grow 2 height -1 gas 14 entry x0 instructions 5
//!   s0 = add s-1, 0x20 @1
//!   mstore 0x0, s0 else x1 @5
//!   if ult s-1, 0x20 then r0 poll x3 else x2
//! exit x0 interpret @0 moved 0 height 0 gas_back 0 rest 0
//! exit x1 interpret @5 moved 0 height 2 gas_back 8 rest 5 { s0 = s-1, s1 = 0x0 }
//! exit x2 resume @8 moved -1 height -1 gas_back 0 rest 0
//! exit x3 resume @0 moved -1 height -1 gas_back 0 rest 0
//! ```
//!
//! A constant is written by its value where it is the first of that value in the pool, else as `c7`.
//! `#` leads an immediate, `@` a pc in hexadecimal. `;` begins a comment.

use crate::module::{ConstId, Inst, Module, Op, Operand, Region, Target, Terminator};
use core::fmt::{self, Display, Formatter, from_fn};
use kiln_abi::{Exit, ExitId, ExitKind, Source, Word};
use std::collections::HashMap;

/// A module, ready to write its parts.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    module: &'a Module,
    /// By value, the first constant of the pool that has it.
    first: HashMap<Word, u32>,
}

impl Module {
    /// The module's parts as text.
    pub fn text(&self) -> Text<'_> {
        let pool = &self.exits.pool;
        let mut first = HashMap::with_capacity(pool.len());
        for (index, &word) in pool.iter().enumerate() {
            first.entry(word).or_insert(index as u32);
        }
        Text { module: self, first }
    }
}

impl Text<'_> {
    /// A region with its instructions and its terminator, one a line.
    pub fn region(&self, index: usize) -> impl Display + '_ {
        from_fn(move |f| {
            let Some(region) = self.module.regions.get(index) else { return Ok(()) };
            write!(f, "region r{index} {}", region.pc)?;
            if region.is_jumpdest {
                f.write_str(" jumpdest")?;
            }
            let Region { need, grow, height, gas, entry_exit, instructions, .. } = region;
            write!(f, " need {need} grow {grow} height {height} gas {gas} entry {entry_exit}")?;
            writeln!(f, " instructions {instructions}")?;
            for inst in self.insts(region) {
                writeln!(f, "  {}", self.inst(inst))?;
            }
            writeln!(f, "  {}", self.terminator(&region.terminator))
        })
    }

    /// The instructions of a region, as many as there are.
    fn insts(&self, region: &Region) -> &[Inst] {
        let start = region.insts_start as usize;
        let end = start.saturating_add(region.insts_len as usize).min(self.module.insts.len());
        self.module.insts.get(start..end).unwrap_or(&[])
    }

    /// An instruction of this module.
    pub fn inst<'b>(&'b self, inst: &'b Inst) -> impl Display + 'b {
        from_fn(move |f| {
            if let Some(dst) = inst.dst {
                write!(f, "{dst} = ")?;
            }
            write!(f, "{}", mnemonic(inst.op))?;
            let args = inst.args.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
            for (index, arg) in inst.args[..args].iter().enumerate() {
                f.write_str(if index == 0 { " " } else { ", " })?;
                match arg {
                    Some(operand) => self.operand(*operand, f)?,
                    None => f.write_str("_")?,
                }
            }
            if inst.imm != 0 || has_imm(inst.op) {
                write!(f, " #{}", inst.imm)?;
            }
            if !inst.checked {
                f.write_str(" unchecked")?;
            }
            if let Some(exit) = inst.exit {
                write!(f, " else {exit}")?;
            }
            write!(f, " {}", inst.pc)
        })
    }

    /// A terminator of this module.
    pub fn terminator<'b>(&'b self, terminator: &'b Terminator) -> impl Display + 'b {
        from_fn(move |f| match *terminator {
            Terminator::Jump(to) => write!(f, "jump {to}"),
            Terminator::Branch { cond, a, b, taken, next } => {
                write!(f, "if {cond} ")?;
                self.operand(a, f)?;
                f.write_str(", ")?;
                self.operand(b, f)?;
                write!(f, " then {taken} else {next}")
            }
            Terminator::JumpDynamic { dest, exit } => write!(f, "jump {dest} else {exit}"),
            Terminator::Exit(exit) => write!(f, "leave {exit}"),
        })
    }

    /// An exit with its fixups.
    pub fn exit(&self, id: ExitId) -> impl Display + '_ {
        from_fn(move |f| {
            let table = &self.module.exits;
            let Some(exit) = table.exits.get(id.0 as usize) else { return Ok(()) };
            let Exit { pc, kind, moved, height, gas_back, rest, fixups_start, fixups_len } = *exit;
            write!(f, "exit {id} {} {pc} moved {moved} height {height}", kind_name(kind))?;
            write!(f, " gas_back {gas_back} rest {rest}")?;
            let start = fixups_start as usize;
            let fixups = table.fixups.get(start..start.saturating_add(fixups_len.into()));
            for (index, fixup) in fixups.into_iter().flatten().enumerate() {
                f.write_str(if index == 0 { " { " } else { ", " })?;
                write!(f, "{} = ", fixup.slot)?;
                match fixup.source {
                    Source::Slot(slot) => write!(f, "{slot}")?,
                    Source::Const(id) => self.constant(id, f)?,
                }
            }
            f.write_str(if fixups.is_some_and(|fixups| !fixups.is_empty()) { " }" } else { "" })
        })
    }

    fn operand(&self, operand: Operand, f: &mut Formatter<'_>) -> fmt::Result {
        match operand {
            Operand::Slot(slot) => write!(f, "{slot}"),
            Operand::Const(ConstId(id)) => self.constant(id, f),
        }
    }

    fn constant(&self, id: u32, f: &mut Formatter<'_>) -> fmt::Result {
        match self.module.exits.pool.get(id as usize) {
            Some(word) if self.first.get(word) == Some(&id) => write!(f, "{word}"),
            _ => write!(f, "c{id}"),
        }
    }
}

impl Display for Module {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.text();
        writeln!(f, "code {}", self.code_len)?;
        for (index, word) in self.exits.pool.iter().enumerate() {
            writeln!(f, "const c{index} = {word}")?;
        }
        for index in 0..self.regions.len() {
            write!(f, "{}", text.region(index))?;
        }
        for index in 0..self.exits.exits.len() {
            writeln!(f, "{}", text.exit(ExitId(index as u32)))?;
        }
        Ok(())
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(index) => write!(f, "r{index}"),
            Self::Back { region, exit } => write!(f, "r{region} poll {exit}"),
            Self::Exit(exit) => write!(f, "{exit}"),
        }
    }
}

/// The name of an operation; helpers behind the name of their shape.
pub(crate) fn mnemonic(op: Op) -> impl Display {
    from_fn(move |f| match op {
        Op::Pure(helper) => write!(f, "pure.{}", helper.name()),
        Op::Guarded(helper) => write!(f, "guarded.{}", helper.name()),
        Op::Instruction(helper) => write!(f, "run.{}", helper.name()),
        Op::Set(cond) => f.write_str(cond.name()),
        op => f.write_str(plain_name(op).unwrap_or("?")),
    })
}

/// The name of an operation that has no parameter of its own.
pub(crate) fn plain_name(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Copy => "copy",
        Op::Add => "add",
        Op::Sub => "sub",
        Op::Mul => "mul",
        Op::And => "and",
        Op::Or => "or",
        Op::Xor => "xor",
        Op::Not => "not",
        Op::ShlImm => "shl",
        Op::ShrImm => "shr",
        Op::SarImm => "sar",
        Op::ByteImm => "byte",
        Op::SignextendImm => "signextend",
        Op::Mload => "mload",
        Op::Mstore => "mstore",
        Op::Mstore8 => "mstore8",
        Op::Calldataload => "calldataload",
        Op::Address => "address",
        Op::Caller => "caller",
        Op::CallValue => "callvalue",
        Op::Calldatasize => "calldatasize",
        Op::Returndatasize => "returndatasize",
        Op::Msize => "msize",
        Op::Gas => "gas",
        Op::Set(_) | Op::Pure(_) | Op::Guarded(_) | Op::Instruction(_) => return None,
    })
}

/// Whether the operation uses its immediate.
pub(crate) const fn has_imm(op: Op) -> bool {
    matches!(op, Op::ShlImm | Op::ShrImm | Op::SarImm | Op::ByteImm | Op::SignextendImm | Op::Gas)
}

/// The name of a kind of exit.
pub(crate) const fn kind_name(kind: ExitKind) -> &'static str {
    match kind {
        ExitKind::Interpret => "interpret",
        ExitKind::Resume => "resume",
        ExitKind::Stop => "stop",
        ExitKind::Return => "return",
        ExitKind::Revert => "revert",
    }
}
