//! What can go wrong.

use kiln::{ConfigError, EngineError, fixture::FixtureError};
use kiln_store::StoreError;
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no figure.
#[derive(Debug, Error)]
pub enum BenchError {
    /// A fixture that can not be used.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// No engine on this machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A variable of the environment with a bad value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A code that the measurement of slots made did not run or compile.
    #[error("measuring slots: {0}")]
    Slots(String),
    /// The frame that the measurement of a hit runs again and again is not there or not compiled.
    #[error("measuring a hit: {0}")]
    Hit(String),
    /// A store that can not be written or read.
    #[error("measuring restarts: {0}")]
    Store(String),
    /// The system does not say what children took.
    #[error("CPU time of children: {0}")]
    Usage(#[source] std::io::Error),
    /// A tier that compiled nothing: without feature `llvm` and without a worker, tier 1.
    #[error("{}: {tier}: nothing was compiled", path.display())]
    Tier {
        /// The tier.
        tier: &'static str,
        /// The fixture.
        path: PathBuf,
    },
    /// A fixture that did not come out as expected: its time would mean nothing.
    #[error("{}: {engine}: {mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What ran it.
        engine: &'static str,
        /// The first difference.
        mismatch: String,
    },
}

impl From<StoreError> for BenchError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
