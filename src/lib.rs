//! kiln: a JIT for revm.
//!
//! [`Tiered`] wraps any EVM that runs plain Ethereum frames and takes its place: warm code runs
//! compiled, everything else in revm's interpreter, and every result is the interpreter's.
//!
//! ```no_run
//! use kiln::{Config, Engine, Tiered};
//! use revm::{Context, ExecuteEvm, MainBuilder, MainContext, context::TxEnv};
//!
//! // One engine for the process: it holds the compiled programs.
//! let engine = Engine::new(Config::default())?;
//! let mut evm = Tiered::mainnet(Context::mainnet().build_mainnet(), engine);
//! let result = evm.transact(TxEnv::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With feature `cli` (the default) the crate also holds the `kiln` command and the fixture formats
//! it reads.

pub use kiln_abi as abi;
pub use kiln_ir as ir;
pub use kiln_runtime::*;
pub use kiln_tier0 as tier0;
pub use kiln_tier1 as tier1;

#[cfg(feature = "cli")]
pub mod fixture;
#[cfg(feature = "cli")]
pub mod statetest;
