//! Listings of what regions become.
//!
//! **Owns** the text that `kiln compile --emit clif` and `--emit asm` print of regions. **Callers
//! guarantee** labels: bytecode is not known here. **Never** is used while compiling.

use super::{Compiler, origin};
use crate::CompileError;
use cranelift_codegen::{
    entity::SecondaryMap,
    ir::{Block, Function, Inst, SourceLoc, Value},
    write::{FuncWriter, PlainWriter, decorate_function},
};
use kiln_abi::Pc;
use kiln_ir::{
    Perturb,
    ssa::{self, Origin},
};
use std::fmt::{self, Write};

/// Says what the bytecode instruction at a pc is.
pub type Label<'a> = &'a dyn Fn(Pc) -> String;

/// Columns in front of an instruction of Cranelift's, for `@` and its location.
const INDENT: usize = 12;

impl Compiler {
    /// The Cranelift IR of a region before it is optimised, as text. Each instruction has the location
    /// it is made from, which is a pc for those of bytecode instructions; where that changes stands `; `
    /// and the label.
    ///
    /// # Errors
    /// If the function is malformed.
    pub fn clif(
        &mut self,
        function: &ssa::Function,
        label: Label<'_>,
    ) -> Result<String, CompileError> {
        let built = self.build(function, true, Perturb::NONE);
        let mut text = String::new();
        let mut writer = Writer { label, last: SourceLoc::default() };
        // Writing to a string does not fail.
        let _ = decorate_function(&mut writer, &mut text, &self.context.func);
        self.tidy(built.is_err());
        built.map(|()| text)
    }

    /// The code of a region as assembly, labelled with what it is made from.
    ///
    /// # Errors
    /// As [`Compiler::compile`].
    #[cfg(feature = "disasm")]
    pub fn disassemble<'b>(
        &mut self,
        function: &ssa::Function,
        bounds: impl Into<kiln_ir::Bounds<'b>>,
        label: Label<'_>,
    ) -> Result<String, CompileError> {
        let super::Traced { object, origins } = self.trace(function, bounds)?;
        Ok(assembly(&object, &origins, label))
    }
}

/// The code of a region as assembly, labelled with what it is made from, whoever compiled it.
#[cfg(feature = "disasm")]
pub fn assembly(
    object: &kiln_abi::CodeObject,
    origins: &[(usize, Origin)],
    label: Label<'_>,
) -> String {
    let data = object.text.len() - object.code_len;
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "; {} bytes of code, {data} of data", object.code_len);
    let mut origins = origins.iter().peekable();
    crate::describe::instructions(&object.text[..object.code_len], |at, instruction| {
        // A part may be empty, or end within what is decoded as one instruction.
        while let Some((_, origin)) = origins.next_if(|(begin, _)| *begin <= at) {
            let _ = writeln!(text, "  ; {}", label_of(*origin, label));
        }
        let _ = writeln!(text, "    {at:06x}  {instruction}");
    });
    text
}

fn label_of(origin: Origin, label: Label<'_>) -> String {
    match origin {
        Origin::Inst(pc) => label(pc),
        other => other.to_string(),
    }
}

/// Writes Cranelift IR with labels.
struct Writer<'a> {
    label: Label<'a>,
    last: SourceLoc,
}

impl FuncWriter for Writer<'_> {
    fn write_block_header(
        &mut self,
        w: &mut dyn Write,
        func: &Function,
        block: Block,
        _: usize,
    ) -> fmt::Result {
        self.last = SourceLoc::default();
        PlainWriter.write_block_header(w, func, block, INDENT)
    }

    fn write_instruction(
        &mut self,
        w: &mut dyn Write,
        func: &Function,
        aliases: &SecondaryMap<Value, Vec<Value>>,
        inst: Inst,
        _: usize,
    ) -> fmt::Result {
        let location = func.srcloc(inst);
        if self.last != location {
            self.last = location;
            writeln!(w, "{:INDENT$}; {}", "", label_of(origin::of(location), self.label))?;
        }
        PlainWriter.write_instruction(w, func, aliases, inst, INDENT)
    }
}
