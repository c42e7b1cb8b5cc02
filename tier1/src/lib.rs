//! Tier 1: optimised regions compiled by LLVM, in a process of its own where there is one.
//!
//! **Owns** the way from `kiln_ir::ssa` through LLVM to a code object (feature `llvm`), and the worker
//! process: its protocol, its limits, its client.
//!
//! **Callers guarantee** nothing: what can not be compiled is refused with a typed error.
//!
//! **Never** sees revm's interpreter, counts what runs, or runs what it made.

#[cfg(feature = "llvm")]
mod loader;
#[cfg(feature = "llvm")]
mod machine;
#[cfg(feature = "llvm")]
mod region;
pub mod worker;

#[cfg(feature = "llvm")]
pub use loader::LoadError;
#[cfg(feature = "llvm")]
pub use machine::CompilerError;
#[cfg(feature = "llvm")]
pub use region::{CompileError, Compiler, Label, Stage, Traced};
#[cfg(feature = "llvm")]
pub use worker::Target;

/// A digest of this crate's sources, 32 hexadecimal digits: two builds that do not share it do not share compiled code.
pub const SOURCE: &str = env!("SOURCE_DIGEST");

/// The major version of LLVM: what builds with the feature `llvm` are linked with, and what a worker has.
pub const LLVM_MAJOR: u32 = 22;

#[cfg(all(test, feature = "llvm"))]
mod tests {
    #[test]
    fn the_library_is_of_the_version_named() {
        assert_eq!(inkwell::support::get_llvm_version().0, super::LLVM_MAJOR);
    }
}
