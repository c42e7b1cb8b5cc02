//! The engines, and how a case is run on one.
//!
//! Owns what is recorded of a run. Callers reuse one [`Engines`] for many cases: the stencil library
//! is generated once. A panic in an engine is a result like any other, so that a hunt goes on and
//! reports it.

pub use crate::environment::{block, context, tx};
pub use crate::kind::Kind;

use crate::case::Case;
use crate::db::{Access, CaseDb};
use crate::handler::{CaseContext, Trace, TraceHandler, TracedContext};
use kiln_runtime::{Backend, Compile, Config, Engine, EngineError, Force, Tier, Tiered};
use revm::context::result::{EVMError, ExecutionResult, HaltReason, Output};
use revm::context::{ContextSetters, ContextTr, JournalTr};
use revm::handler::{EthFrame, EvmTr, Handler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::state::EvmState;
use revm::{Database, DatabaseCommit, MainBuilder};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether there is machine code for this target.
const IS_NATIVE: bool = cfg!(all(target_arch = "x86_64", target_os = "linux"));

/// How the text of a panic begins, in place of an error's.
const PANIC: &str = "panic: ";

/// What one transaction came to.
#[derive(Clone, Debug, PartialEq)]
pub struct TxOutcome {
    /// The result, or the error (its `Debug` form; `panic: ..` for a panic).
    pub result: Result<ExecutionResult<HaltReason>, String>,
    /// The journal's whole state: everything touched, loaded or changed.
    pub state: EvmState,
    /// What happened between frames.
    pub trace: Trace,
}

/// What a transaction over a database gives.
pub type TracedResult<DB> = Result<ExecutionResult<HaltReason>, EVMError<<DB as Database>::Error>>;

/// What a case came to on one engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its transactions.
    pub transactions: Vec<TxOutcome>,
    /// Every database access, in order.
    pub accesses: Vec<Access>,
}

impl TxOutcome {
    /// The result as case files spell it.
    pub fn name(&self) -> String {
        match &self.result {
            Ok(ExecutionResult::Success { reason, .. }) => format!("Success({reason:?})"),
            Ok(ExecutionResult::Revert { .. }) => "Revert".to_owned(),
            Ok(ExecutionResult::Halt { reason, .. }) => format!("Halt({reason:?})"),
            Err(error) => format!("Error({error})"),
        }
    }

    /// Whether the engine panicked.
    pub fn panicked(&self) -> bool {
        self.result.as_ref().is_err_and(|error| error.starts_with(PANIC))
    }

    /// Gas that the transaction spent, refunds not counted; none if it did not run.
    pub fn gas_spent(&self) -> Option<u64> {
        self.result.as_ref().ok().map(|result| result.gas().total_gas_spent())
    }

    /// The output, empty where there is none.
    pub fn output(&self) -> &[u8] {
        match &self.result {
            Ok(ExecutionResult::Success { output: Output::Call(data), .. }) => data,
            Ok(result) => result.output().map_or(&[], |output| output),
            Err(_) => &[],
        }
    }
}

/// All engines. Not shared between threads in tests that count.
#[derive(Clone, Debug)]
pub struct Engines(Vec<(Kind, Engine)>);

impl Engines {
    /// Starts every engine that there is on this target.
    ///
    /// # Errors
    /// If an engine that is supported does not start.
    pub fn new() -> Result<Self, EngineError> {
        Self::tuned(|_, config| config)
    }

    /// As [`Engines::new`], with options that `tune` changes.
    ///
    /// # Errors
    /// As [`Engines::new`].
    pub fn tuned(tune: impl Fn(Kind, Config) -> Config) -> Result<Self, EngineError> {
        let mut engines = Vec::new();
        for &kind in Kind::COMPARED {
            if let Some(config) = kind.config()
                && (config.backend == Backend::Evaluator || IS_NATIVE)
            {
                engines.push((kind, Engine::new(tune(kind, config))?));
            }
        }
        Ok(Self(engines))
    }

    /// The kiln engine of a kind, if there is one on this target.
    pub fn of(&self, kind: Kind) -> Option<&Engine> {
        self.0.iter().find(|(of, _)| *of == kind).map(|(_, engine)| engine)
    }

    /// One engine with the given options, as the only one.
    ///
    /// # Errors
    /// If it does not start.
    pub fn only(kind: Kind, config: Config) -> Result<Self, EngineError> {
        Ok(Self(vec![(kind, Engine::new(config)?)]))
    }

    /// The engines that there are.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Engine)> {
        self.0.iter().map(|(kind, engine)| (*kind, engine))
    }

    /// Drops every compiled program: hunts call it now and then.
    pub fn clear(&self) {
        self.0.iter().for_each(|(_, engine)| engine.clear());
    }

    /// Runs a case on one engine, from the state that `db` holds.
    pub fn run(&self, kind: Kind, case: &Case, db: &CaseDb) -> Outcome {
        let Some(engine) = self.of(kind) else {
            return transact(case, context(case, db).build_mainnet());
        };
        if kind.is_recorded() {
            // Recorded with other calldata, so that some blocks that will run were not seen.
            let other = Case { calldata: Vec::new(), repeat: 1, ..case.clone() };
            engine.set_recording(true);
            tiered(&other, db, engine);
            engine.set_recording(false);
            engine.compile_recorded();
        }
        tiered(case, db, engine)
    }
}

/// An engine for each backend of this target in which transitions are forced: whole contracts, and
/// on machine code also blocks that were seen.
///
/// # Errors
/// If an engine that is supported does not start.
pub fn forced(force: Force) -> Result<Vec<(String, Engine)>, EngineError> {
    let start = |name: &str, config| {
        let engine: Result<Engine, EngineError> = Engine::new(config);
        engine.map(|engine| (format!("{name}, {force}"), engine))
    };
    let all = Config { force, ..Config::eager() };
    let optimised = Config { first_tier: Tier::Optimised, ..all.clone() };
    let evaluator = |config| Config { backend: Backend::Evaluator, ..config };
    let mut engines = vec![start("evaluator", evaluator(all.clone()))?];
    // An eviction has regions made again at a JUMPDEST soon after: thousands of times, which takes minutes.
    // The stress test evicts optimised programs.
    let keeps = force.evict_every.is_none();
    if keeps {
        engines.push(start("evaluator of regions", evaluator(optimised.clone()))?);
    }
    if IS_NATIVE {
        engines.push(start("tier 0", all.clone())?);
        // Compiled soon: most cases run each of their blocks a few times only.
        let seen = Config { compile: Compile::Seen, hot_executions: 2, ..all };
        engines.push(start("tier 0, seen", seen)?);
        if keeps {
            engines.push(start("optimised", Config { regions_max: 3, ..optimised })?);
        }
    }
    Ok(engines)
}

/// Runs a case on one kiln engine.
pub fn tiered(case: &Case, db: &CaseDb, engine: &Engine) -> Outcome {
    transact(case, Tiered::mainnet(context(case, db).build_mainnet(), engine.clone()))
}

/// Runs a case on plain revm: the oracle.
pub fn oracle(case: &Case, db: &CaseDb) -> Outcome {
    transact(case, context(case, db).build_mainnet())
}

/// Runs the transactions of a case on an EVM whose context came from [`context`].
pub fn transact<EVM>(case: &Case, mut evm: EVM) -> Outcome
where
    EVM: EvmTr<Context = CaseContext, Frame = EthFrame<EthInterpreter>>,
{
    let mut transactions = Vec::new();
    for nonce in 0..case.repeat as u64 {
        evm.ctx().set_tx(tx(case, nonce));
        let (_, outcome) = transact_traced(&mut evm, case.is_static);
        let goes_on = !outcome.panicked() && nonce + 1 < case.repeat as u64;
        if goes_on {
            evm.ctx().db_mut().commit(outcome.state.clone());
        }
        transactions.push(outcome);
        if !goes_on {
            break;
        }
    }
    Outcome { transactions, accesses: std::mem::take(&mut evm.ctx().db_mut().accesses) }
}

/// Runs the transaction that is set, and takes the journal's state, which is not committed. The result as such is
/// none after a panic, which leaves the EVM as it came upon it.
pub fn transact_traced<EVM, DB>(
    evm: &mut EVM,
    is_static: bool,
) -> (Option<TracedResult<DB>>, TxOutcome)
where
    DB: Database,
    EVM: EvmTr<Context = TracedContext<DB>, Frame = EthFrame<EthInterpreter>>,
{
    let mut handler = TraceHandler::new(is_static);
    match catch_unwind(AssertUnwindSafe(|| handler.run(evm))) {
        Ok(result) => {
            let state = evm.ctx().journal_mut().finalize();
            let said = result.as_ref().map_err(|error| format!("{error:?}")).cloned();
            (Some(result), TxOutcome { result: said, state, trace: handler.trace })
        }
        Err(payload) => {
            let what = payload.downcast_ref::<String>().map(String::as_str);
            let what = what.or(payload.downcast_ref::<&str>().copied()).unwrap_or_default();
            let result = Err(format!("{PANIC}{what}"));
            (None, TxOutcome { result, state: EvmState::default(), trace: handler.trace })
        }
    }
}
