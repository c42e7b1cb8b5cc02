//! The engines one can choose, and EVMs on them.

use super::error::CliError;
use clap::ValueEnum;
use kiln::{
    fixture::{Executed, FixtureDb, Prepared, execute, plain_evm},
    statetest::{self, Input},
};
use std::fmt;

/// What runs bytecode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// revm's interpreter.
    Interpreter,
    /// Machine code from stencils; what can not be compiled is interpreted.
    Tier0,
    /// The slow evaluator of the IR that machine code is made from, for finding bugs.
    Evaluator,
    /// Code is interpreted at first, and compiled once it was seen to be used again.
    Auto,
}

/// How much of a contract is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compile {
    /// The whole contract.
    All,
    /// The blocks that a recording run saw.
    Seen,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interpreter => "interpreter",
            Self::Tier0 => "tier0",
            Self::Evaluator => "evaluator",
            Self::Auto => "auto",
        })
    }
}

/// Counters of an engine that the command reports; all only ever grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// CPU time of compilation.
    pub(crate) compile_cpu_ns: u64,
    /// Programs compiled.
    pub(crate) programs: u64,
    /// Regions in them.
    pub(crate) regions: u64,
    /// Bytes of machine code.
    pub(crate) code_bytes: u64,
    /// Instructions that the interpreter ran.
    pub(crate) interpreted_instructions: u64,
}

/// What runs bytecode, ready to be used from several threads.
pub(crate) enum Runner {
    /// revm's interpreter.
    Plain,
}

impl Runner {
    pub(crate) fn new(tier: Tier, _compile: Compile) -> Result<Self, CliError> {
        match tier {
            Tier::Interpreter => Ok(Self::Plain),
            tier => Err(CliError::Engine(format!("{tier} is not available"))),
        }
    }

    /// Runs a fixture once, from a fresh state.
    pub(crate) fn run(&self, prepared: &Prepared) -> (Executed, FixtureDb) {
        match self {
            Self::Plain => interpret(prepared),
        }
    }

    /// Makes the engine as warm as it gets: after a recording run it compiles what that saw. Gives
    /// the result of a run that was made for it.
    pub(crate) fn warm_up(&self, _prepared: &Prepared) -> Option<(Executed, FixtureDb)> {
        match self {
            Self::Plain => None,
        }
    }

    /// Executes a state test's transaction.
    pub(crate) fn state_test(&self, input: Input<'_>) -> statetest::Outcome {
        match self {
            Self::Plain => statetest::plain(input),
        }
    }

    /// All counters of the engine, in words.
    pub(crate) fn stats(&self) -> String {
        match self {
            Self::Plain => "no engine".to_owned(),
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        match self {
            Self::Plain => Counters::default(),
        }
    }
}

/// Runs a fixture once on plain revm, from a fresh state.
pub(crate) fn interpret(prepared: &Prepared) -> (Executed, FixtureDb) {
    let mut evm = plain_evm(prepared);
    let executed = execute(&mut evm, &prepared.txs);
    (executed, evm.ctx.journaled_state.database)
}
