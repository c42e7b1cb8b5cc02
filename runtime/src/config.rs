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

use crate::{checks::Checks, force::Force, hooks::Tier};
use kiln_ir::Limits;
use std::{ffi::OsStr, path::PathBuf};

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
    /// Nothing: only what the store has is run compiled. Needs [`Config::store`].
    Stored,
}

/// When an engine writes to its store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StoreMode {
    /// Never: what is there is loaded, and nothing is changed.
    ReadOnly,
    /// In the background, soon after a program came about.
    #[default]
    ReadWrite,
    /// When it is shut down, or asked to by [`crate::Engine::flush_store`] or [`crate::Engine::snapshot`].
    WriteOnShutdown,
}

/// The executable in which tier 1 compiles, so that what goes wrong in LLVM costs one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Worker {
    /// This process compiles itself, if it has LLVM.
    Off,
    /// The executable of this process, if it calls [`serve_if_worker`]; else `kiln-tier1-worker` or `kiln`, next to
    /// it or on the path; else as [`Worker::Off`].
    ///
    /// [`serve_if_worker`]: crate::serve_if_worker
    #[default]
    Found,
    /// This one.
    Path(PathBuf),
}

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
    /// The tier that code is compiled with first.
    pub first_tier: Tier,
    /// The tier that code is compiled with at most, when it is hot enough.
    pub top_tier: Tier,
    /// The executable in which tier 1 compiles.
    pub tier1_worker: Worker,
    /// Executions of a block, while its code is profiled, from which it gets an optimised region.
    pub region_executions: u32,
    /// Optimised regions of a program at most.
    pub regions_max: usize,
    /// Frames of a program before it is worth optimised regions; loops count by their rounds.
    pub optimise_frames: u32,
    /// Frames of a program with optimised regions before it is worth those of tier 1.
    pub tier1_frames: u32,
    /// Blocks that are interpreted and counted before a code gets them.
    pub profile_blocks: u32,
    /// With [`Compile::All`], frames of a code that are interpreted before it is compiled.
    pub warm_frames: u32,
    /// With [`Compile::Seen`], executions of a block before it is worth compiling.
    pub hot_executions: u32,
    /// Whether the engine starts out recording; see [`crate::Engine::set_recording`].
    pub recording: bool,
    /// Bytes of machine code held at a time. Code that does not fit is interpreted.
    pub code_bytes_max: usize,
    /// Bounds on the work for one program.
    pub limits: Limits,
    /// Threads that compile. With 0 the calling thread compiles, whatever it takes.
    pub compile_threads: usize,
    /// Estimated compile time up to which the calling thread compiles itself, in nanoseconds: what
    /// handing over costs. More goes to the background, if there are threads.
    pub inline_compile_ns: u32,
    /// Events that wait for the backend thread. What does not fit is dropped and counted.
    pub event_queue_len: usize,
    /// Jobs that wait for a compile thread, for each tier. What does not fit is dropped and counted.
    pub job_queue_len: usize,
    /// Events that the backend thread handles in one round, between its other duties.
    pub drain_max: usize,
    /// Wall-clock time one job may take, in milliseconds; then it is cancelled.
    pub compile_deadline_ms: u32,
    /// The same for a job that makes optimised regions.
    pub optimise_deadline_ms: u32,
    /// After the deadline, until a compile thread that does not come back is given up, in
    /// milliseconds.
    pub compile_grace_ms: u32,
    /// A job that waited longer is dropped, in milliseconds: what asked for it has gone cold.
    pub job_age_ms_max: u32,
    /// Between two compilations of a code, in milliseconds.
    pub cooldown_ms: u32,
    /// The longest wait after failures, in milliseconds: it doubles with each failure.
    pub backoff_ms_max: u32,
    /// Failures in a row before a code is quarantined: never compiled again.
    pub attempts_max: u32,
    /// Between two sweeps, in milliseconds. Over budget, one comes at once.
    pub sweep_interval_ms: u32,
    /// A program that was not run for longer is evicted, in milliseconds. 0: never for that.
    pub idle_ms_max: u32,
    /// Codes without a program that are remembered.
    pub slots_max: usize,
    /// How long dropping an engine waits for its threads, in milliseconds.
    pub shutdown_ms: u32,
    /// The folder of the artifact store: machine code that was made is kept there, and found again after a restart. None:
    /// nothing is kept. Absolute; made if it is not there. Of no use to [`Backend::Evaluator`].
    pub store: Option<PathBuf>,
    /// When it is written to.
    pub store_mode: StoreMode,
    /// Bytes of artifacts that it keeps, those of other builds among them; what was not used for long goes first.
    pub store_bytes_max: usize,
    /// Whether what the store has is loaded when the engine is made, in the background, the hottest codes first; else
    /// each program when its code is first called.
    pub store_preload: bool,
    /// After so long what is known about codes is written down for the first time, in milliseconds. 0: not for that.
    pub snapshot_first_ms: u32,
    /// And then at this interval, in milliseconds, if anything was executed meanwhile. 0: not for that.
    pub snapshot_interval_ms: u32,
    /// And when nothing was executed for so long, in milliseconds; then the store is tidied up as well. 0: never.
    pub snapshot_idle_ms: u32,
    /// Whether code that is in use is put on huge pages, where the operating system can (Linux from 6.1).
    pub huge_pages: bool,
    /// Whether programs are written into `/tmp/perf-PID.map`, for `perf`.
    pub perf_map: bool,
    /// Whether programs are registered with a debugger, by the GDB JIT interface.
    pub gdb: bool,
    /// Transitions that are forced, for tests.
    pub force: Force,
    /// What the engine makes sure of about itself while it runs.
    pub checks: Checks,
    /// Folder of the reports of what checks find; it is made if it is not there. None: no files.
    pub reports: Option<PathBuf>,
}

impl Config {
    /// Compiles every contract whole, at its first frame and on the thread that runs it, with room
    /// for 1 GiB of code: for tests, for measurements, and where the same few contracts run all the
    /// time.
    pub fn eager() -> Self {
        Self {
            compile: Compile::All,
            warm_frames: 0,
            compile_threads: 0,
            code_bytes_max: 1 << 30,
            cooldown_ms: 0,
            ..Self::default()
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            backend: Backend::Native,
            compile: Compile::Seen,
            first_tier: Tier::Baseline,
            top_tier: Tier::Tier1,
            tier1_worker: Worker::Found,
            region_executions: 1,
            regions_max: 64,
            optimise_frames: 32_768,
            tier1_frames: 524_288,
            profile_blocks: 2048,
            warm_frames: 32,
            recording: false,
            code_bytes_max: 64 << 20,
            limits: Limits::default(),
            hot_executions: 96,
            compile_threads: 1,
            inline_compile_ns: 3000,
            event_queue_len: 1024,
            job_queue_len: 256,
            drain_max: 256,
            compile_deadline_ms: 1000,
            optimise_deadline_ms: 30_000,
            compile_grace_ms: 1000,
            job_age_ms_max: 10_000,
            cooldown_ms: 2,
            backoff_ms_max: 60_000,
            attempts_max: 3,
            sweep_interval_ms: 1000,
            idle_ms_max: 600_000,
            slots_max: 1 << 16,
            shutdown_ms: 2000,
            store: None,
            store_mode: StoreMode::ReadWrite,
            store_bytes_max: 1 << 30,
            store_preload: true,
            snapshot_first_ms: 30_000,
            snapshot_interval_ms: 300_000,
            snapshot_idle_ms: 2000,
            huge_pages: true,
            perf_map: false,
            gdb: false,
            force: Force::NONE,
            checks: Checks::NONE,
            reports: None,
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
