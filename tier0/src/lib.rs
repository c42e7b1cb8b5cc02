//! Tier 0: a copy-and-patch compiler.
//!
//! **Owns** the stencil [`Library`], which Cranelift authors once per process, and [`compile`], which
//! turns block IR into a code object by copying and patching stencils.
//!
//! **Callers guarantee** that modules passed `kiln_ir::verify`; what does not is refused with a typed
//! error or compiles to code that is as wrong as the module.
//!
//! **Never** sees bytecode, allocates executable memory, or runs what it made.
#![forbid(unsafe_code)]

mod compile;
mod describe;
mod hand;
mod isa;
mod key;
mod library;
mod link;
mod lower;
mod operand;
pub mod region;
mod shape;
mod stencil;
mod stitch;
mod thunk;
mod verify;
mod x86;

pub use compile::compile;
pub use describe::describe;
#[cfg(feature = "disasm")]
pub use describe::disassemble;
pub use library::Library;
pub use link::Link;
pub use stitch::Scratch;

use thiserror::Error;

/// A digest of this crate's sources, 32 hexadecimal digits: two builds that do not share it do not share compiled code.
pub const SOURCE: &str = env!("SOURCE_DIGEST");

/// The version of Cranelift, which authors the stencils and compiles regions.
pub const CRANELIFT: &str = cranelift_codegen::VERSION;

/// Why there is no stencil library.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LibraryError {
    /// There are no stencils for this target.
    #[error("tier 0 supports x86-64 Linux only")]
    Unsupported,
    /// Cranelift refused a setting.
    #[error("code generator settings: {0}")]
    Settings(String),
    /// Cranelift could not compile a stencil.
    #[error("stencil {stencil} does not compile: {error}")]
    Codegen {
        /// The stencil.
        stencil: String,
        /// Cranelift's words.
        error: String,
    },
    /// A stencil is not what the verifier accepts.
    #[error("stencil {stencil} is refused at byte {at}: {what}")]
    Refused {
        /// The stencil.
        stencil: String,
        /// Offset in the code Cranelift made.
        at: usize,
        /// What is wrong.
        what: &'static str,
    },
}

/// Why a module was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The module breaks a rule of the block IR.
    #[error("malformed module: {0}")]
    Malformed(&'static str),
    /// A number does not fit its field, or the code object grows too large.
    #[error("the module is too large")]
    TooLarge,
    /// More text than [`kiln_ir::Limits`] allow.
    #[error("the text is {is} bytes, over the limit of {max}")]
    Text {
        /// Bytes when it was noticed.
        is: usize,
        /// The bound.
        max: usize,
    },
    /// The work was called off.
    #[error(transparent)]
    Cancelled(#[from] kiln_ir::Cancelled),
    /// Cranelift could not compile a region.
    #[error("the region does not compile: {0}")]
    Codegen(String),
    /// There is no stencil for an operation.
    #[error("there is no stencil for an operation")]
    NoStencil,
}
