//! The text form of a function, to be read next to the bytecode.
//!
//! **Owns** how every entity of the SSA form is written. **Callers guarantee** nothing: a function that
//! breaks rules is written as far as it goes. **Never** is read back.
//!
//! ```text
//! function @5 jumpdest need 2 grow 3 entry x0 instructions 14
//! b1 @5 height 0 (v2: 256, v3: 64) gas 21 else x1
//!   v4: 256 = add v2, v3 @9
//!   if ne v4, 0x0 then b1(v4, v3) poll x2 else x3
//! exit x2 resume @5 height 0 gas_back 0 rest 0 { s-1 = v4, s-2 = c1 0x20 }
//! ```
//!
//! The number behind a value that is defined is the upper bound on its bits.

use super::function::{Block, BlockId, Function, Inst, Op, Target, Terminator, Value};
use crate::display::{has_imm, kind_name, mnemonic};
use core::fmt::{self, Display, Formatter};
use kiln_abi::{ExitId, Pc, Source};

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for BlockId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// What a line says of the bytecode instruction that those behind it are made from.
type Label<'a> = &'a dyn Fn(Pc) -> String;

impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.write(None, f)
    }
}

/// A [`Function`] with a line, `; ` and a label, in front of the instructions that are made from one of the
/// bytecode.
#[derive(Clone, Copy)]
pub struct Labelled<'a> {
    function: &'a Function,
    label: Label<'a>,
}

impl fmt::Debug for Labelled<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labelled").field("function", self.function).finish_non_exhaustive()
    }
}

impl Display for Labelled<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.function.write(Some(self.label), f)
    }
}

impl Function {
    /// Its text with labels; `label` says what the bytecode instruction at a pc is.
    pub fn labelled<'a>(&'a self, label: Label<'a>) -> Labelled<'a> {
        Labelled { function: self, label }
    }

    fn write(&self, label: Option<Label<'_>>, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "function {}", self.pc)?;
        if self.is_jumpdest {
            f.write_str(" jumpdest")?;
        }
        let Self { need, grow, entry_exit, instructions, .. } = self;
        writeln!(f, " need {need} grow {grow} entry {entry_exit} instructions {instructions}")?;
        for (block, id) in self.blocks.iter().zip(0..) {
            self.write_block_head(BlockId(id), block, f)?;
            self.write_insts(block, label, f)?;
            self.write_terminator(&block.terminator, f)?;
        }
        (0..self.exits.exits.len() as u32).try_for_each(|id| self.write_exit(ExitId(id), f))
    }

    fn write_insts(
        &self,
        block: &Block,
        label: Option<Label<'_>>,
        f: &mut Formatter<'_>,
    ) -> fmt::Result {
        let mut labelled = None;
        for inst in &block.insts {
            if let Some(label) = label
                && labelled.replace(inst.pc) != Some(inst.pc)
            {
                writeln!(f, "  ; {}", label(inst.pc))?;
            }
            self.write_inst(inst, f)?;
        }
        Ok(())
    }

    fn write_block_head(&self, id: BlockId, block: &Block, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{id} {} height {} (", block.pc, block.height)?;
        for (index, &param) in block.params.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            self.write_defined(param, f)?;
        }
        write!(f, ") gas {}", block.gas)?;
        if let Some(exit) = block.gas_exit {
            write!(f, " else {exit}")?;
        }
        writeln!(f)
    }

    fn write_defined(&self, value: Value, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{value}")?;
        match self.values.get(value.0 as usize) {
            Some(_) => write!(f, ": {}", self.bits(value)),
            None => Ok(()),
        }
    }

    fn write_value(&self, value: Value, f: &mut Formatter<'_>) -> fmt::Result {
        let known = self.values.get(value.0 as usize).and_then(|_| self.constant(value));
        match known {
            Some(word) => write!(f, "{word}"),
            None => write!(f, "{value}"),
        }
    }

    fn write_values(&self, values: &[Value], f: &mut Formatter<'_>) -> fmt::Result {
        for (index, &value) in values.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            self.write_value(value, f)?;
        }
        Ok(())
    }

    fn write_inst(&self, inst: &Inst, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("  ")?;
        if let Some(dst) = inst.dst {
            self.write_defined(dst, f)?;
            f.write_str(" = ")?;
        }
        match inst.op {
            Op::Slot(slot) => write!(f, "{slot}")?,
            Op::Narrow => f.write_str("narrow")?,
            Op::Word(op) => write!(f, "{}", mnemonic(op))?,
            Op::Run(helper) => write!(f, "run.{}", helper.name())?,
        }
        let args: Vec<Value> = inst.args.iter().flatten().copied().collect();
        if !args.is_empty() {
            f.write_str(" ")?;
        }
        self.write_values(&args, f)?;
        if matches!(inst.op, Op::Word(op) if has_imm(op)) {
            write!(f, " #{}", inst.imm)?;
        }
        if !inst.checked {
            f.write_str(" unchecked")?;
        }
        if let Some(exit) = inst.exit {
            write!(f, " else {exit}")?;
        }
        writeln!(f, " {}", inst.pc)
    }

    fn write_terminator(&self, terminator: &Terminator, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("  ")?;
        match terminator {
            Terminator::Jump(target) => {
                f.write_str("jump ")?;
                self.write_target(target, f)?;
            }
            Terminator::Branch { cond, a, b, taken, next } => {
                write!(f, "if {cond} ")?;
                self.write_values(&[*a, *b], f)?;
                f.write_str(" then ")?;
                self.write_target(taken, f)?;
                f.write_str(" else ")?;
                self.write_target(next, f)?;
            }
        }
        writeln!(f)
    }

    fn write_target(&self, target: &Target, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some((block, args)) = target.block() {
            write!(f, "{block}(")?;
            self.write_values(args, f)?;
            f.write_str(")")?;
        }
        match target {
            Target::Block { .. } => Ok(()),
            Target::Back { exit, .. } => write!(f, " poll {exit}"),
            Target::Exit(exit) => write!(f, "{exit}"),
        }
    }

    fn write_exit(&self, id: ExitId, f: &mut Formatter<'_>) -> fmt::Result {
        let exit = self.exits.exit(id);
        let (pc, height) = (exit.pc, exit.height);
        write!(f, "exit {id} {} {pc} height {height}", kind_name(exit.kind))?;
        write!(f, " gas_back {} rest {}", exit.gas_back, exit.rest)?;
        let mut separator = " { ";
        if (id.0 as usize) < self.stores_end.len() {
            for store in self.stores(id) {
                write!(f, "{separator}{} = ", store.slot)?;
                self.write_value(store.value, f)?;
                separator = ", ";
            }
        }
        for fixup in self.exits.fixups(exit) {
            write!(f, "{separator}{} = ", fixup.slot)?;
            match fixup.source {
                Source::Slot(slot) => write!(f, "{slot}")?,
                Source::Const(id) => match self.exits.pool.get(id as usize) {
                    Some(word) => write!(f, "{word}")?,
                    None => write!(f, "c{id}")?,
                },
            }
            separator = ", ";
        }
        writeln!(f, "{}", if separator == ", " { " }" } else { "" })
    }
}
