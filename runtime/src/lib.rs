//! Everything that lives while compiled code runs, and its place inside revm.
//!
//! **Owns** code memory, the helpers compiled code calls, the frame loop, the [`Engine`] that
//! compiles and keeps programs, and [`Tiered`], the EVM that runs them.
//!
//! **Callers guarantee** nothing beyond the types, except what they [declare](Tiered::declare)
//! about instruction tables that kiln did not build.
//!
//! **Never** decodes bytecode, and never gives another result than revm's interpreter.
//!
//! ```no_run
//! use kiln_runtime::{Config, Engine, Tiered};
//! use revm::{Context, MainBuilder, MainContext};
//!
//! let engine = Engine::new(Config::default())?;
//! let evm = Tiered::mainnet(Context::mainnet().build_mainnet(), engine);
//! # let _ = evm;
//! # Ok::<(), kiln_runtime::EngineError>(())
//! ```

mod backend;
mod canonical;
mod checks;
mod compile;
mod config;
mod dump;
mod engine;
mod eval_machine;
mod evm;
mod force;
mod frame;
mod heat;
mod helpers;
mod hooks;
mod interpret;
mod keccak;
mod known;
mod local;
mod memory;
mod observe;
mod persist;
mod policy;
mod program;
mod regions;
mod resident;
mod slot;
mod stats;
mod sweep;
mod tier1;
mod watch;

pub use backend::{Prepared, Refusal, Stopped};
pub use checks::{Check, Checks, ParseChecksError, Report};
pub use compile::CompileError;
pub use config::{
    Backend, Compile, Config, ConfigBuilder, ConfigError, StoreMode, VARIABLES, Variable, Worker,
};
#[cfg(feature = "dump")]
pub use dump::{OnSafepoint, Safepoint, SafepointKind};
pub use engine::{Engine, EngineError, Pause};
pub use evm::{EthEvm, Tiered};
pub use force::{Force, ParseForceError};
pub use hooks::{
    Compilation, CompileThread, Compiled, Fault, Hooks, OnCompilation, OnPhase, OnReport, Phase,
    PhaseStart, PhaseTimes, Tier,
};
pub use kiln_ir::{ParsePerturbError, Perturb};
pub use kiln_store::StoreError;
pub use memory::{CodeBlock, CodeMemory, MemoryError};
pub use observe::metrics::{Metric, MetricKind, metrics};
pub use persist::build_digest;
pub use program::Program;
pub use stats::Stats;
pub use tier1::serve_if_worker;
pub use watch::Declared;
