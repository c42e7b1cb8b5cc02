//! What tests and fuzz targets ask of the IR: that it means what the bytecode means, and that its text is the
//! module.
//!
//! **Owns** a toy host, a plain interpreter of it, generators of bytecode, and the comparisons of both forms of the
//! IR with that interpreter. **Callers guarantee** nothing: any bytes and any text are valid input. **Never** knows
//! revm, machine code, or where its input came from.
#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "the names say what is asked, and a panic is the answer no"
)]
#![forbid(unsafe_code)]

pub mod blocks;
pub mod host;
mod program;
pub mod regions;
pub mod text;

pub use program::program;

/// Bytes as in case files.
fn hex(code: &[u8]) -> String {
    code.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What nothing reads is not compared: where compiled code knows how a frame will end, it does not write the words
/// that remain.
fn visible((halt, frame): (host::Halt, host::Frame)) -> impl PartialEq + core::fmt::Debug {
    use host::Halt;
    let ends = matches!(halt, Halt::Stop | Halt::Return | Halt::Revert | Halt::Jump);
    let stack = if ends { Vec::new() } else { frame.stack };
    // Where a push is cut off, the interpreter stops somewhere behind the end.
    let pc = frame.pc.min(frame.code.len());
    (halt, pc, frame.gas, frame.memory, frame.effects, stack)
}
