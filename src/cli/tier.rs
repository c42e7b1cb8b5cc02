//! The engines one can choose, and EVMs on them.

use super::error::CliError;
use clap::ValueEnum;
use kiln::{
    fixture::{Executed, FixtureDb, Prepared, execute, plain_evm},
    statetest::{self, Input, StateTestDb},
};
use kiln_harness::{
    compare::transaction_differences,
    engine::{TxOutcome, transact_traced},
    handler::TracedContext,
};
use kiln_ir::{Limits, OpcodeSet};
use kiln_runtime::{
    Backend, Config, ConfigBuilder, ConfigError, Engine, EngineError, Force, Stats, StoreMode,
    Tiered,
};
use revm::{
    DatabaseCommit, ExecuteCommitEvm,
    bytecode::Bytecode,
    context::{ContextSetters, ContextTr, TxEnv},
    handler::{EthFrame, EvmTr},
    interpreter::{instructions::gas_table_spec, interpreter::EthInterpreter},
    primitives::{B256, hardfork::SpecId},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// What runs bytecode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// revm's interpreter.
    Interpreter,
    /// Machine code from stencils; what can not be compiled is interpreted.
    Tier0,
    /// Tier 0, with optimised regions in the place of its blocks.
    Optimised,
    /// Tier 0, with regions optimised by LLVM in the place of its blocks.
    Tier1,
    /// The slow evaluator of the IR that machine code is made from, for finding bugs.
    Evaluator,
    /// Code is interpreted at first, and compiled once it was seen to be used again.
    Auto,
    /// Only machine code that the store has is run, and nothing is compiled or written.
    Aot,
}

/// What an engine is made with, besides what the environment says.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) tier: Tier,
    pub(crate) compile: Option<Compile>,
    pub(crate) force: Option<Force>,
    /// The folder of its store.
    pub(crate) store: Option<PathBuf>,
}

impl Choice {
    /// Whether machine code is kept, or was.
    pub(crate) fn has_store(&self) -> bool {
        self.store.is_some() || self.tier == Tier::Aot
    }
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
            Self::Optimised => "optimised",
            Self::Tier1 => "tier1",
            Self::Evaluator => "evaluator",
            Self::Auto => "auto",
            Self::Aot => "aot",
        })
    }
}

impl From<Compile> for kiln_runtime::Compile {
    fn from(compile: Compile) -> Self {
        match compile {
            Compile::All => Self::All,
            Compile::Seen => Self::Seen,
        }
    }
}

/// Rounds after which the `auto` tier counts as warm, however many frames it was told to interpret.
const AUTO_ROUNDS_MAX: u32 = 64;

/// How long what is still to be saved may take.
const FLUSH_MAX: Duration = Duration::from_secs(120);

/// What runs bytecode, ready to be used from several threads.
pub(crate) enum Runner {
    /// revm's interpreter.
    Plain,
    /// An engine.
    Tiered(Engine),
}

impl Runner {
    /// The options given, then the environment's, then the tier's own.
    pub(crate) fn new(choice: &Choice) -> Result<Self, CliError> {
        let config = config(choice)?;
        if choice.tier == Tier::Interpreter {
            return Ok(Self::Plain);
        }
        match Engine::new(config) {
            Ok(engine) => Ok(Self::Tiered(engine)),
            Err(error @ EngineError::Store(_)) => Err(CliError::Engine(error.to_string())),
            Err(error) if choice.tier == Tier::Auto => {
                tracing::warn!(%error, "everything is interpreted");
                Ok(Self::Plain)
            }
            Err(error) => Err(CliError::Engine(error.to_string())),
        }
    }

    /// Writes out what is still to be saved, if there is a store to save it in.
    pub(crate) fn flush(&self) {
        if let Self::Tiered(engine) = self {
            flush(engine);
        }
    }

    /// Runs a fixture once, from a fresh state.
    pub(crate) fn run(&self, prepared: &Prepared) -> (Executed, FixtureDb) {
        match self {
            Self::Plain => interpret(prepared),
            Self::Tiered(engine) => {
                let mut evm = Tiered::mainnet(plain_evm(prepared), engine.clone());
                let executed = execute(&mut evm, &prepared.txs);
                (executed, evm.into_inner().ctx.journaled_state.database)
            }
        }
    }

    /// Makes the engine as warm as it gets, by runs: one that compiles, or one that is recorded and
    /// then compiled, or as many as it takes until code counts as warm. Gives what came of them.
    pub(crate) fn warm_up(&self, prepared: &Prepared, tier: Tier) -> Vec<(Executed, FixtureDb)> {
        let Self::Tiered(engine) = self else { return Vec::new() };
        let records = tier != Tier::Auto && engine.config().compile == kiln_runtime::Compile::Seen;
        let rounds = match tier {
            Tier::Auto => engine.config().hot_executions.min(AUTO_ROUNDS_MAX - 1) + 1,
            _ => 1,
        };
        if records {
            engine.set_recording(true);
        }
        let rounds = (0..rounds).map(|_| self.run(prepared)).collect();
        if records {
            engine.set_recording(false);
            engine.compile_recorded();
        }
        rounds
    }

    /// Executes a state test's transaction.
    pub(crate) fn state_test(&self, input: Input<'_>) -> statetest::Outcome {
        match self {
            Self::Plain => statetest::plain(input),
            Self::Tiered(engine) => {
                let evm = statetest::plain_evm(input.db, input.cfg, input.block);
                Tiered::mainnet(evm, engine.clone()).transact_commit(input.tx)
            }
        }
    }

    /// The same, on the interpreter as well, with a record of what happens between frames: it is answered in what
    /// they differ, one line each.
    pub(crate) fn state_test_compared(
        &self,
        input: Input<'_>,
    ) -> Result<statetest::Outcome, Vec<String>> {
        let Self::Tiered(engine) = self else { return Ok(self.state_test(input)) };
        let Input { prestate, db, cfg, block, tx } = input;
        let mut plain_db = statetest::database(prestate);
        let plain = statetest::plain_evm(&mut plain_db, cfg.clone(), block.clone());
        let (_, expected) = traced(plain, tx.clone());
        let evm = Tiered::mainnet(statetest::plain_evm(db, cfg, block), engine.clone());
        let (result, actual) = traced(evm, tx);
        let details = transaction_differences(&expected, &actual);
        if !details.is_empty() {
            return Err(details);
        }
        result.ok_or_else(|| vec![actual.name()])
    }

    /// What the engine did so far.
    pub(crate) fn stats(&self) -> Stats {
        match self {
            Self::Plain => Stats::default(),
            Self::Tiered(engine) => engine.stats(),
        }
    }

    /// Whether anything at all is compiled.
    pub(crate) fn is_tiered(&self) -> bool {
        matches!(self, Self::Tiered(engine) if engine.config().enabled)
    }

    /// Whether the engine has a program for a code, or can make one.
    pub(crate) fn compiles(&self, bytecode: &Bytecode, hash: B256, spec: SpecId) -> bool {
        match self {
            Self::Plain => false,
            Self::Tiered(engine) => engine.compile(bytecode, hash, &mainnet(spec)).is_ok(),
        }
    }
}

/// Executes a state test's transaction with a record, and commits it.
fn traced<'db, EVM>(mut evm: EVM, tx: TxEnv) -> (Option<statetest::Outcome>, TxOutcome)
where
    EVM: EvmTr<Context = TracedContext<&'db mut StateTestDb>, Frame = EthFrame<EthInterpreter>>,
{
    evm.ctx().set_tx(tx);
    let (result, outcome) = transact_traced(&mut evm, false);
    if let Some(Ok(_)) = result {
        evm.ctx().db_mut().commit(outcome.state.clone());
    }
    (result, outcome)
}

/// The options of a tier's engine. An option given wins over the environment, which wins over what
/// the tier would have without it. To name a compiler is to ask for it.
fn config(choice: &Choice) -> Result<Config, CliError> {
    let Choice { tier, compile, force, store } = choice;
    let own = match tier {
        Tier::Interpreter | Tier::Auto => Config::builder(),
        Tier::Tier0 | Tier::Evaluator => Config::eager().into(),
        Tier::Optimised => {
            ConfigBuilder::from(Config::eager()).first_tier(kiln_runtime::Tier::Optimised)
        }
        Tier::Tier1 => ConfigBuilder::from(Config::eager()).first_tier(kiln_runtime::Tier::Tier1),
        // Loaded by the thread that calls a code first: the same each time.
        Tier::Aot => Config::builder().compile_threads(0).store_preload(false),
    };
    let stated = own.env().map_err(|error| usage(&error))?;
    let mut stated = match tier {
        Tier::Interpreter | Tier::Auto => stated,
        Tier::Tier0 | Tier::Optimised | Tier::Tier1 => {
            stated.enabled(true).backend(Backend::Native)
        }
        Tier::Evaluator => stated.enabled(true).backend(Backend::Evaluator),
        Tier::Aot => stated.enabled(true).backend(Backend::Native).store_mode(StoreMode::ReadOnly),
    };
    stated = match (tier, compile) {
        (Tier::Aot, Some(_)) => {
            return Err(CliError::Usage("--tier aot compiles nothing: no --compile".to_owned()));
        }
        (Tier::Aot, None) => stated.compile(kiln_runtime::Compile::Stored),
        (_, Some(compile)) => stated.compile((*compile).into()),
        (_, None) => stated,
    };
    if let Some(force) = force {
        stated = stated.force(*force);
    }
    if let Some(store) = store {
        stated = stated.store(Some(absolute(store)?));
    }
    let config = stated.build().map_err(|error| usage(&error))?;
    if *tier == Tier::Aot && config.store.is_none() {
        return Err(CliError::Usage("--tier aot runs what a store has: --store DIR".to_owned()));
    }
    Ok(config)
}

/// Waits until everything is saved that an engine is to save. Whoever needs it to be there looks.
pub(crate) fn flush(engine: &Engine) {
    let Config { store, store_mode, .. } = engine.config();
    let saves = store.is_some() && *store_mode != StoreMode::ReadOnly;
    if saves && !engine.flush_store(FLUSH_MAX) {
        tracing::warn!("not all machine code could be saved");
    }
}

/// The folder of a store, wherever this process goes.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    std::path::absolute(path).map_err(|error| CliError::File { path: path.to_path_buf(), error })
}

/// What the environment states.
pub(crate) fn stated() -> Result<Config, CliError> {
    Config::from_env().map_err(|error| usage(&error))
}

/// The bounds that the environment states.
pub(crate) fn limits() -> Result<Limits, CliError> {
    stated().map(|config| config.limits)
}

fn usage(error: &ConfigError) -> CliError {
    CliError::Usage(error.to_string())
}

/// What is baked into code for an EVM with mainnet's instruction table.
pub(crate) fn mainnet(spec: SpecId) -> kiln_ir::Config {
    kiln_ir::Config { spec, gas: gas_table_spec(spec), replaced: OpcodeSet::EMPTY }
}

/// Runs a fixture once on plain revm, from a fresh state.
pub(crate) fn interpret(prepared: &Prepared) -> (Executed, FixtureDb) {
    let mut evm = plain_evm(prepared);
    let executed = execute(&mut evm, &prepared.txs);
    (executed, evm.ctx.journaled_state.database)
}
