//! The differential harness: cases, engines, comparison, generator, minimiser.
//!
//! Owns the `.evm` case format and the meaning of "the same result". The plain revm interpreter is
//! the oracle; every other engine must agree with it in everything [`engine::Outcome`] records.
//! Callers give any bytecode at all; the harness never panics on a case. It never decides what the
//! right result is: explicit expectations in case files are checked against the oracle too.

pub mod asm;
pub mod case;
pub mod compare;
pub mod db;
#[cfg(feature = "dump")]
pub mod dump;
pub mod engine;
pub mod environment;
pub mod generate;
pub mod handler;
pub mod hunt;
pub mod inspected;
pub mod kind;
pub mod minimise;
pub mod perturbed;
pub mod sweep;
pub mod text;
pub mod warm;

pub use case::{Case, Contract, Expect};
pub use engine::{Engines, Outcome};
