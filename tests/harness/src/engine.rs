//! The engines, and how a case is run on one.
//!
//! Owns the fixed environment of all cases (block, fees, chain) and what is recorded of a run.
//! Callers reuse one [`Engines`] for many cases: the stencil library is generated once. A panic in
//! an engine is a result like any other, so that a hunt goes on and reports it.

use crate::case::{BENEFICIARY, Case, SENDER, TARGET};
use crate::db::{Access, CaseDb};
use crate::handler::{Trace, TraceHandler, TracedContext};
use kiln_runtime::{Backend, Compile, Config, Engine, EngineError, Force, Tier, Tiered};
use revm::context::result::{EVMError, ExecutionResult, HaltReason, Output};
use revm::context::{BlockEnv, CfgEnv, ContextSetters, ContextTr, JournalTr, TxEnv};
use revm::handler::{EthFrame, EvmTr, Handler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::primitives::{B256, TxKind, U256, hardfork::SpecId};
use revm::state::EvmState;
use revm::{Database, DatabaseCommit, MainBuilder};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The context of a case.
pub type CaseContext = TracedContext<CaseDb>;

/// Whether there is machine code for this target.
const IS_NATIVE: bool = cfg!(all(target_arch = "x86_64", target_os = "linux"));

/// What runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Plain revm: the oracle.
    Interpreter,
    /// kiln with the IR evaluator.
    Evaluator,
    /// kiln with the evaluator of optimised regions, as far as there are some.
    EvaluatorRegions,
    /// kiln with tier 0, whole contracts.
    Tier0All,
    /// kiln with tier 0, the blocks that an earlier run saw; other blocks are interpreted.
    Tier0Seen,
    /// kiln with tier 0, where the first frames of a code are interpreted and later ones not.
    Tier0Warm,
    /// kiln with tier 0 as it decides by itself, but after very few executions: what was run is compiled on
    /// the calling thread, again and again as more is run, and under running frames.
    Tier0Hot,
    /// The same, where what runs a second time is profiled and promoted, also under running frames.
    Promoted,
    /// kiln with optimised regions by Cranelift, wherever there can be one.
    OptimisedAll,
    /// The same, where an earlier run was.
    OptimisedSeen,
    /// kiln with optimised regions by LLVM, wherever there can be one.
    #[cfg(feature = "llvm")]
    Tier1All,
    /// The same, where an earlier run was.
    #[cfg(feature = "llvm")]
    Tier1Seen,
}

impl Kind {
    /// All engines that are compared with the oracle.
    pub const COMPARED: &[Self] = &[
        Self::Evaluator,
        Self::EvaluatorRegions,
        Self::Tier0All,
        Self::Tier0Seen,
        Self::Tier0Warm,
        Self::Tier0Hot,
        Self::Promoted,
        Self::OptimisedAll,
        Self::OptimisedSeen,
        #[cfg(feature = "llvm")]
        Self::Tier1All,
        #[cfg(feature = "llvm")]
        Self::Tier1Seen,
    ];

    /// Those that run whole contracts, one for each way there is to run code.
    pub const WHOLE: &[Self] = &[
        Self::Evaluator,
        Self::EvaluatorRegions,
        Self::Tier0All,
        Self::OptimisedAll,
        #[cfg(feature = "llvm")]
        Self::Tier1All,
    ];

    /// Of many cases the `nth` one's engines: those of LLVM, which takes a tenth of a second for a contract, have
    /// one in so many.
    pub fn thinned(all: &'static [Self], nth: u64) -> &'static [Self] {
        const SLOW_EVERY: u64 = 16;
        let quick = all.iter().position(|kind| kind.is_slow()).unwrap_or(all.len());
        if nth.is_multiple_of(SLOW_EVERY) { all } else { &all[..quick] }
    }

    /// Whether compiling for it takes long. These come last in the lists.
    fn is_slow(self) -> bool {
        match self {
            #[cfg(feature = "llvm")]
            Self::Tier1All | Self::Tier1Seen => true,
            _ => false,
        }
    }

    /// The options of its engine; none for the oracle.
    fn config(self) -> Option<Config> {
        let all = Config { compile: Compile::All, ..Config::eager() };
        let seen = Config { compile: Compile::Seen, ..all.clone() };
        let first_tier = Tier::Optimised;
        Some(match self {
            Self::Interpreter => return None,
            Self::Evaluator => Config { backend: Backend::Evaluator, ..all },
            Self::EvaluatorRegions => Config { backend: Backend::Evaluator, first_tier, ..all },
            Self::Tier0All => all,
            Self::Tier0Seen => seen,
            Self::Tier0Warm => Config { warm_frames: 2, ..all },
            Self::Tier0Hot => Config { hot_executions: 2, ..seen },
            Self::Promoted => Config {
                hot_executions: 2,
                optimise_frames: 1,
                profile_blocks: 4,
                top_tier: Tier::Optimised,
                ..seen
            },
            Self::OptimisedAll => Config { first_tier, ..all },
            Self::OptimisedSeen => Config { first_tier, ..seen },
            #[cfg(feature = "llvm")]
            Self::Tier1All => Config { first_tier: Tier::Tier1, ..all },
            #[cfg(feature = "llvm")]
            Self::Tier1Seen => Config { first_tier: Tier::Tier1, ..seen },
        })
    }

    /// Whether what is compiled is what an earlier run saw.
    fn is_recorded(self) -> bool {
        match self {
            Self::Tier0Seen | Self::OptimisedSeen => true,
            #[cfg(feature = "llvm")]
            Self::Tier1Seen => true,
            _ => false,
        }
    }
}

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
        let mut engines = Vec::new();
        for &kind in Kind::COMPARED {
            if let Some(config) = kind.config()
                && (config.backend == Backend::Evaluator || IS_NATIVE)
            {
                engines.push((kind, Engine::new(config)?));
            }
        }
        Ok(Self(engines))
    }

    /// The kiln engine of a kind, if there is one on this target.
    pub fn of(&self, kind: Kind) -> Option<&Engine> {
        self.0.iter().find(|(of, _)| *of == kind).map(|(_, engine)| engine)
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
        engines.push(start("tier 0, seen", Config { compile: Compile::Seen, ..all })?);
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
        let (result, outcome) = transact_traced(&mut evm, case.is_static);
        let ends = result.is_none();
        if !ends {
            evm.ctx().db_mut().commit(outcome.state.clone());
        }
        transactions.push(outcome);
        if ends {
            break;
        }
    }
    Outcome { transactions, accesses: std::mem::take(&mut evm.ctx().db_mut().accesses) }
}

/// Runs the transaction that is set, and takes the journal's state, which is not committed. The result as such is
/// none after a panic, which leaves the EVM as it was found.
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
            let result = Err(format!("panic: {what}"));
            (None, TxOutcome { result, state: EvmState::default(), trace: handler.trace })
        }
    }
}

/// The context in which a case runs.
pub fn context(case: &Case, db: &CaseDb) -> CaseContext {
    let mut cfg = CfgEnv::default();
    cfg.set_spec_and_mainnet_gas_params(case.spec);
    let mut context = CaseContext::new(db.clone(), case.spec);
    context.cfg = cfg;
    context.block = block(case.spec);
    context
}

/// The block of every case.
pub fn block(spec: SpecId) -> BlockEnv {
    let mut block = BlockEnv {
        number: U256::from(20_000_000),
        beneficiary: BENEFICIARY,
        timestamp: U256::from(1_700_000_000),
        gas_limit: u64::MAX,
        basefee: if spec.is_enabled_in(SpecId::LONDON) { 7 } else { 0 },
        difficulty: U256::from(0x20000),
        prevrandao: Some(B256::repeat_byte(0x5a)),
        slot_num: 77,
        ..BlockEnv::default()
    };
    block.set_blob_excess_gas_and_price(1 << 20, 3_338_477);
    block
}

/// A transaction of a case. The effective gas price is 10 on every fork.
pub fn tx(case: &Case, nonce: u64) -> TxEnv {
    let mut tx = TxEnv {
        caller: SENDER,
        kind: TxKind::Call(TARGET),
        gas_limit: case.gas,
        gas_price: 10,
        value: case.value,
        data: case.calldata.clone().into(),
        nonce,
        chain_id: Some(1),
        ..TxEnv::default()
    };
    if case.spec.is_enabled_in(SpecId::LONDON) {
        tx.tx_type = 2;
        tx.gas_price = 100;
        tx.gas_priority_fee = Some(3);
    }
    if case.spec.is_enabled_in(SpecId::CANCUN) {
        tx.tx_type = 3;
        tx.max_fee_per_blob_gas = 1 << 30;
        let mut hash = B256::repeat_byte(0xb1);
        hash.0[0] = 1;
        tx.blob_hashes = vec![hash];
    }
    tx
}
