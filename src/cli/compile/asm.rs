//! Machine code as text.

use super::super::output::Output;
use iced_x86::{Decoder, DecoderOptions, Formatter, IntelFormatter};
use kiln_abi::CodeObject;
use kiln_ir::Module;
use std::{collections::BTreeMap, io};

/// Prints the code of an object, each block with its leader in front.
pub(super) fn print(object: &CodeObject, module: &Module, output: &mut Output) -> io::Result<()> {
    let labels: BTreeMap<u32, &kiln_ir::Region> = module
        .regions
        .iter()
        .filter_map(|region| Some((object.entries.get(region.pc.0 as usize)?, region)))
        .collect();
    let code = &object.text[..object.code_len];
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    let mut text = String::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let offset = instruction.ip();
        if let Some(region) = labels.get(&(offset as u32)) {
            let jumpdest = if region.is_jumpdest { ", jumpdest" } else { "" };
            output.line(format_args!("block {}{jumpdest}:", region.pc))?;
        }
        text.clear();
        formatter.format(&instruction, &mut text);
        output.line(format_args!("  {offset:6x}  {text}"))?;
    }
    let data = object.text.len() - object.code_len;
    output.line(format_args!("{} bytes of code, {data} bytes of data", object.code_len))
}
