//! From bytecode to block IR, the only input of kiln's compilers.
//!
//! **Owns** the opcode table ([`Lowering`]: one row per opcode), the decoder and block scan
//! ([`Blocks`]), and the block IR ([`Module`]): operations over stack slots, constants and
//! temporaries, with effects and exits. [`build`] turns one into the other with a symbolic stack;
//! [`verify`], [`parse`], `Display` and [`eval`] make it checkable, readable and executable.
//!
//! **Callers guarantee** nothing: any bytes are valid input. Work is linear in the size of the code
//! and bounded by [`Limits`]; what is over a limit is not compiled.
//!
//! **Never** knows revm's interpreter, machine code, or unsafe code.
#![forbid(unsafe_code)]

mod build;
mod code;
mod config;
mod display;
pub mod eval;
pub mod fold;
pub mod identity;
mod module;
mod opcode;
mod parse;
mod perturb;
#[cfg(test)]
mod sample;
pub mod sent;
pub mod ssa;
mod verify;

pub use build::{Scratch, build};
pub use code::{
    Block, Blocks, Decoded, Ending, Instructions, JumpDests, decode_dup_swap, decode_exchange,
};
pub use config::{Bounds, BuildError, Cancelled, Config, Limits, OpcodeSet};
pub use display::Text;
pub use module::{Cond, ConstId, Inst, Module, Op, Operand, Region, Target, Terminator};
pub use opcode::{LOWERING, Lowering, activated_in};
pub use parse::{ParseError, parse};
pub use perturb::{ParsePerturbError, Perturb, TINY_BLOCK_INSTRUCTIONS};
pub use revm_primitives::hardfork::SpecId;
pub use verify::{Place, VerifyError, verify};

/// A digest of this crate's sources, 32 hexadecimal digits: two builds that do not share it do not share compiled code.
pub const SOURCE: &str = env!("SOURCE_DIGEST");
