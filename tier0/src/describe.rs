//! Listings of what was compiled.
//!
//! **Owns** the text that `kiln compile --emit stencils` and `--emit asm` print. **Callers guarantee**
//! a module that compiles. **Never** is used while compiling.

use crate::{
    CompileError, Library,
    compile::{Traced, trace},
};
use kiln_abi::CodeObject;
use kiln_ir::{Module, Text};
use std::fmt::{self, Write};

/// For each region, each instruction of the block IR with its offset, its bytes, and the stencils
/// that were stitched for it; a stencil's bytes are hot plus cold.
///
/// # Errors
/// As [`crate::compile`].
pub fn describe(library: &Library, module: &Module) -> Result<String, CompileError> {
    let (object, traced) = trace(library, module)?;
    let (names, mut text) = (module.text(), String::new());
    // Writing to a string does not fail.
    let _ = summary(&mut text, &object);
    for (i, part) in traced.iter().enumerate() {
        let _ = heading(&mut text, module, &names, &traced, i);
        for stencil in &part.stencils {
            let (at, hot, cold) = (stencil.at, stencil.hot, stencil.cold);
            let _ = writeln!(text, "    {at:06x}  {:?}: {hot}+{cold} bytes", stencil.key);
        }
    }
    Ok(text)
}

fn summary(text: &mut String, object: &CodeObject) -> fmt::Result {
    let data = object.text.len() - object.code_len;
    writeln!(text, "; {} blocks, {} bytes of code, {data} of data", object.blocks, object.code_len)
}

/// The line that names an instruction, after the line of its region where it is the first.
fn heading(
    text: &mut String,
    module: &Module,
    names: &Text<'_>,
    traced: &[Traced],
    i: usize,
) -> fmt::Result {
    let part = &traced[i];
    let region = &module.regions[part.region];
    let (at, len) = (part.at, part.len);
    if i == 0 || traced[i - 1].region != part.region {
        return writeln!(
            text,
            "\nregion {} {}: need {}, grow {}, gas {}\n  {at:06x}  check ({len} bytes)",
            part.region, region.pc, region.need, region.grow, region.gas
        );
    }
    match &part.inst {
        Some(inst) => {
            writeln!(text, "  {at:06x}  {} ({len} bytes)", names.inst(inst))
        }
        None => {
            let terminator = names.terminator(&region.terminator);
            writeln!(text, "  {at:06x}  {terminator} ({len} bytes)")
        }
    }
}

/// The code as assembly, labelled with regions and instructions.
///
/// # Errors
/// As [`crate::compile`].
#[cfg(feature = "disasm")]
pub fn disassemble(library: &Library, module: &Module) -> Result<String, CompileError> {
    let (object, traced) = trace(library, module)?;
    let (names, mut text) = (module.text(), String::new());
    let _ = summary(&mut text, &object);
    let mut next = 0;
    let hot_end = traced.last().map_or(0, |part| part.at + part.len);
    instructions(&object.text[..object.code_len], |at, instruction| {
        if at == hot_end && hot_end != 0 {
            let _ = writeln!(text, "\ncold code, exits, thunks");
        }
        while traced.get(next).is_some_and(|part| part.at <= at) {
            let _ = heading(&mut text, module, &names, &traced, next);
            next += 1;
        }
        let _ = writeln!(text, "    {at:06x}  {instruction}");
    });
    Ok(text)
}

/// Gives the offset and the text of each instruction of some code.
#[cfg(feature = "disasm")]
pub(crate) fn instructions(code: &[u8], mut each: impl FnMut(usize, &str)) {
    use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};

    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_branch_leading_zeros(false);
    let (mut instruction, mut operands) = (Instruction::default(), String::new());
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        operands.clear();
        formatter.format(&instruction, &mut operands);
        each(instruction.ip() as usize, &operands);
    }
}
