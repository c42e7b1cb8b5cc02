//! What an [`crate::Engine`] is told.
//!
//! **Owns** the options. **Never** reads the environment: the command does.

use crate::force::Force;
use kiln_ir::Limits;

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
    #[default]
    All,
    /// The blocks that a recording run saw.
    Seen,
}

/// The options of an engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// If false, everything is interpreted by the EVM's own frame loop.
    pub enabled: bool,
    /// What runs compiled code.
    pub backend: Backend,
    /// How much of a contract is compiled.
    pub compile: Compile,
    /// Frames of a code that are interpreted before it is compiled. With [`Compile::Seen`] at
    /// least one is: it records.
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

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            backend: Backend::Native,
            compile: Compile::All,
            warm_frames: 0,
            recording: false,
            code_bytes_max: 1 << 30,
            limits: Limits::default(),
            force: Force::NONE,
        }
    }
}
