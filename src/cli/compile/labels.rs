//! Names of the instructions of bytecode.

use kiln_abi::Pc;
use kiln_ir::{Decoded, Instructions};

/// The instruction at a pc as listings label it: `0x1f3 PUSH1 0x20`.
pub(super) fn at(code: &[u8], pc: Pc) -> String {
    match Instructions::new(code, pc).next() {
        Some(instruction) => format!("{:#x} {}", pc.0, name(&instruction)),
        None => format!("{:#x}", pc.0),
    }
}

/// An instruction with its immediate.
pub(super) fn name(instruction: &Decoded<'_>) -> String {
    let immediate: String =
        instruction.immediate.iter().map(|byte| format!("{byte:02x}")).collect();
    let space = if immediate.is_empty() { "" } else { " 0x" };
    format!("{}{space}{immediate}", instruction.name())
}
