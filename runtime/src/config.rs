//! What an [`crate::Engine`] is told.
//!
//! **Owns** the options and every way to state them: as plain data, by the builder, by `KILN_*`
//! variables. **Never** reads the environment unless asked to ([`Config::from_env`]).

mod builder;
mod error;
mod variables;

pub use builder::ConfigBuilder;
pub use error::ConfigError;
pub use variables::{VARIABLES, Variable};

use crate::force::Force;
use kiln_ir::Limits;
use std::ffi::OsStr;

/// What runs compiled code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Machine code from tier 0.
    #[default]
    Native,
    /// The evaluator of the block IR: slow, for tests. Needs no executable memory.
    Evaluator,
}

/// How much of a contract is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compile {
    /// The whole contract.
    All,
    /// The blocks that recorded frames came through.
    #[default]
    Seen,
}

/// With [`Compile::Seen`], frames of a code that are recorded, once it is warm, before it is compiled:
/// the paths through a contract that are taken at all are mostly taken again.
pub const RECORDED_FRAMES: u32 = 2;

/// The options of an engine. Plain data: whoever fills in the fields is believed;
/// [`Config::builder`] checks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// If false, everything is interpreted by the EVM's own frame loop.
    pub enabled: bool,
    /// What runs compiled code.
    pub backend: Backend,
    /// How much of a contract is compiled.
    pub compile: Compile,
    /// Frames of a code that are interpreted before it is compiled. With [`Compile::Seen`],
    /// [`RECORDED_FRAMES`] more are interpreted and recorded.
    pub warm_frames: u32,
    /// Whether the engine starts out recording; see [`crate::Engine::set_recording`].
    pub recording: bool,
    /// Bytes of machine code held at a time. Code that does not fit is interpreted.
    pub code_bytes_max: usize,
    /// Bounds on the work for one program.
    pub limits: Limits,
    /// Transitions that are forced, for tests.
    pub force: Force,
}

impl Config {
    /// Compiles every contract whole, at its first frame: for tests, for measurements, and where the
    /// same few contracts run all the time.
    pub fn eager() -> Self {
        Self { compile: Compile::All, warm_frames: 0, ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            backend: Backend::Native,
            compile: Compile::Seen,
            warm_frames: 32,
            recording: false,
            code_bytes_max: 1 << 30,
            limits: Limits::default(),
            force: Force::NONE,
        }
    }
}

impl Config {
    /// Starts from the defaults.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// The defaults, changed by the `KILN_*` variables of the environment: those of [`VARIABLES`].
    ///
    /// # Errors
    /// If a `KILN_*` variable is not one of them, or has a bad value.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::builder().env()?.build()
    }

    /// As [`Config::from_env`], with these pairs of name and value for an environment. Names that
    /// do not begin with `KILN_` are left alone; of equal names the last one counts.
    ///
    /// # Errors
    /// If a `KILN_*` name is not one of [`VARIABLES`], or has a bad value.
    pub fn from_vars<N, V>(vars: impl IntoIterator<Item = (N, V)>) -> Result<Self, ConfigError>
    where
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        Self::builder().vars(vars)?.build()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// If one is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        VARIABLES.iter().try_for_each(|variable| variable.check(self))
    }
}
