//! Options that are checked before an engine gets them.

use super::{Backend, Compile, Config, ConfigError, StoreMode, Worker, variables};
use crate::{checks::Checks, force::Force, hooks::Tier};
use kiln_ir::Limits;
use std::{ffi::OsStr, path::PathBuf};

/// Collects options; what is stated later wins. From [`Config::builder`], or from a [`Config`].
///
/// ```
/// use kiln_runtime::{Compile, Config};
///
/// let config = Config::builder().compile(Compile::Seen).warm_frames(2).env()?.build()?;
/// # let _ = config;
/// # Ok::<(), kiln_runtime::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ConfigBuilder {
    config: Config,
}

impl From<Config> for ConfigBuilder {
    fn from(config: Config) -> Self {
        Self { config }
    }
}

macro_rules! setters {
    ($($field:ident: $type:ty),* $(,)?) => {
        impl ConfigBuilder {
            $(
                #[doc = concat!("Sets [`Config::", stringify!($field), "`].")]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.config.$field = $field;
                    self
                }
            )*
        }

        // A field without a setter does not compile.
        const _: fn(Config) = |Config { $($field: _),* }| ();
    };
}

setters! {
    enabled: bool,
    backend: Backend,
    compile: Compile,
    first_tier: Tier,
    top_tier: Tier,
    tier1_worker: Worker,
    region_executions: u32,
    regions_max: usize,
    optimise_frames: u32,
    tier1_frames: u32,
    profile_blocks: u32,
    warm_frames: u32,
    recording: bool,
    code_bytes_max: usize,
    limits: Limits,
    hot_executions: u32,
    compile_threads: usize,
    inline_compile_ns: u32,
    event_queue_len: usize,
    job_queue_len: usize,
    drain_max: usize,
    compile_deadline_ms: u32,
    optimise_deadline_ms: u32,
    compile_grace_ms: u32,
    job_age_ms_max: u32,
    cooldown_ms: u32,
    backoff_ms_max: u32,
    attempts_max: u32,
    sweep_interval_ms: u32,
    idle_ms_max: u32,
    slots_max: usize,
    shutdown_ms: u32,
    store: Option<PathBuf>,
    store_mode: StoreMode,
    store_bytes_max: usize,
    store_preload: bool,
    snapshot_first_ms: u32,
    snapshot_interval_ms: u32,
    snapshot_idle_ms: u32,
    huge_pages: bool,
    perf_map: bool,
    gdb: bool,
    force: Force,
    checks: Checks,
    reports: Option<PathBuf>,
}

impl ConfigBuilder {
    /// Sets what the `KILN_*` variables of the environment state; see [`crate::VARIABLES`].
    ///
    /// # Errors
    /// If one is not known, or has a bad value.
    pub fn env(self) -> Result<Self, ConfigError> {
        self.vars(std::env::vars_os())
    }

    /// Sets what these pairs of name and value state; see [`Config::from_vars`].
    ///
    /// # Errors
    /// If a `KILN_*` name is not known, or has a bad value.
    pub fn vars<N, V>(mut self, vars: impl IntoIterator<Item = (N, V)>) -> Result<Self, ConfigError>
    where
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        for (name, value) in vars {
            variables::apply(&mut self.config, name.as_ref(), value.as_ref())?;
        }
        Ok(self)
    }

    /// The options, each within its range.
    ///
    /// # Errors
    /// If one is not.
    pub fn build(self) -> Result<Config, ConfigError> {
        self.config.validate()?;
        Ok(self.config)
    }
}
