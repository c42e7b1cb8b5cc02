//! Running the variants of state test files on several threads.

use super::{Golden, StateTestError, VariantError, logs_root, state_root};
use crate::fixture::{self, FixtureError};
use revm::{
    Context, ExecuteCommitEvm, MainBuilder, MainContext, MainnetEvm,
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    database::{CacheState, EmptyDB, State, bal::EvmDatabaseError},
    handler::MainnetContext,
    primitives::{Bytes, U256, hardfork::SpecId},
};
use revm_statetest_types::{SpecName, Test, TestSuite, TestUnit};
use std::{
    convert::Infallible,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The database that a variant runs on.
pub type StateTestDb = State<EmptyDB>;
/// Plain revm over it.
pub type StateTestEvm<'db> = MainnetEvm<MainnetContext<&'db mut StateTestDb>>;
/// What became of a variant's transaction.
pub type Outcome =
    Result<ExecutionResult<HaltReason>, EVMError<EvmDatabaseError<Infallible>, InvalidTransaction>>;

/// A transaction to be executed and committed.
#[derive(Debug)]
pub struct Input<'a> {
    /// What `db` was made of.
    pub prestate: &'a CacheState,
    /// The state before, and after.
    pub db: &'a mut StateTestDb,
    /// The configuration.
    pub cfg: CfgEnv,
    /// The block.
    pub block: BlockEnv,
    /// The transaction.
    pub tx: TxEnv,
}

/// The database of a variant.
pub fn database(prestate: &CacheState) -> StateTestDb {
    State::builder().with_cached_prestate(prestate.clone()).with_bundle_update().build()
}

/// Plain revm for a variant.
pub fn plain_evm(db: &mut StateTestDb, cfg: CfgEnv, block: BlockEnv) -> StateTestEvm<'_> {
    Context::mainnet().with_db(db).with_cfg(cfg).with_block(block).build_mainnet()
}

/// Executes a variant with revm's interpreter.
pub fn plain(input: Input<'_>) -> Outcome {
    plain_evm(input.db, input.cfg, input.block).transact_commit(input.tx)
}

/// What to run and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads.
    pub threads: NonZeroUsize,
    /// Results to compare with.
    pub golden: Option<Golden>,
}

/// A variant that did not come out as expected.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The file.
    pub path: PathBuf,
    /// The test in the file.
    pub test: String,
    /// The fork.
    pub spec: SpecId,
    /// Indexes of data, gas limit and value.
    pub indexes: [usize; 3],
    /// How it differs.
    pub error: VariantError,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Variants that came out as expected.
    pub passed: usize,
    /// Variants of forks that revm does not have.
    pub skipped: usize,
    /// Variants that were also compared with golden results.
    pub golden: usize,
    /// Variants that did not come out as expected, by file.
    pub failures: Vec<Failure>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.golden += other.golden;
        self.failures.extend(other.failures);
    }
}

/// Test files under the paths, folders recursively, without those whose path contains one of
/// `skip`.
///
/// # Errors
/// A path that can not be read, or a folder without files.
pub fn find(paths: &[PathBuf], skip: &[String]) -> Result<Vec<PathBuf>, FixtureError> {
    let mut files = fixture::find(paths, &[".json", ".json.gz"])?;
    files.retain(|file| {
        let name = file.to_string_lossy();
        !skip.iter().any(|part| name.contains(part.as_str()))
    });
    Ok(files)
}

/// The codes of a file's accounts before its transactions, under each fork that revm has and a variant is for. A code
/// comes as often as there are accounts with it.
///
/// # Errors
/// What is wrong with the file.
pub fn codes(path: &Path) -> Result<Vec<(SpecId, Bytes)>, StateTestError> {
    let mut codes = Vec::new();
    for unit in suite(path)?.0.values() {
        for spec in unit.post.keys().filter_map(spec_id) {
            codes.extend(unit.pre.values().map(|account| (spec, account.code.clone())));
        }
    }
    Ok(codes)
}

/// Runs all variants of the files through `execute`, which may find differences of its own, one line each;
/// `progress` is called after each file.
///
/// # Errors
/// The first file, in order, that can not be used.
pub fn run<E>(
    files: &[PathBuf],
    options: &Options,
    execute: &E,
    progress: &(dyn Fn() + Sync),
) -> Result<Report, StateTestError>
where
    E: Fn(Input<'_>) -> Result<Outcome, Vec<String>> + Sync,
{
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::with_capacity(files.len()));
    let worker = || {
        // Relaxed: the counter only hands out indexes; the reports go through the mutex.
        while let Some((index, path)) = take(files, &next) {
            let report = run_file(path, options, execute);
            reports.lock().unwrap_or_else(PoisonError::into_inner).push((index, report));
            progress();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.get().min(files.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_unstable_by_key(|(index, _)| *index);
    let mut total = Report::default();
    reports.into_iter().try_for_each(|(_, report)| report.map(|report| total.add(report)))?;
    Ok(total)
}

fn take<'a>(files: &'a [PathBuf], next: &AtomicUsize) -> Option<(usize, &'a Path)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    files.get(index).map(|path| (index, path.as_path()))
}

fn run_file<E>(path: &Path, options: &Options, execute: &E) -> Result<Report, StateTestError>
where
    E: Fn(Input<'_>) -> Result<Outcome, Vec<String>>,
{
    let mut report = Report::default();
    for (name, unit) in &suite(path)?.0 {
        let malformed =
            |what| StateTestError::Malformed { path: path.to_path_buf(), test: name.clone(), what };
        validate(unit).map_err(malformed)?;
        let state = unit.state();
        for (spec_name, tests) in &unit.post {
            let Some(spec) = spec_id(spec_name) else {
                report.skipped += tests.len();
                continue;
            };
            let runner = Runner { path, name, unit, state: &state, spec, golden: &options.golden };
            for test in tests {
                runner.variant(test, execute, &mut report);
            }
        }
    }
    Ok(report)
}

fn suite(path: &Path) -> Result<TestSuite, StateTestError> {
    let bytes = fixture::read(path)
        .map_err(|error| StateTestError::Io { path: path.to_path_buf(), error })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| StateTestError::Json { path: path.to_path_buf(), error })
}

/// Everything that `revm_statetest_types` would index or convert without asking.
fn validate(unit: &TestUnit) -> Result<(), &'static str> {
    let tx = &unit.transaction;
    let wide = |value: Option<U256>| value.is_some_and(|value| value > U256::from(u128::MAX));
    if wide(tx.max_priority_fee_per_gas) || wide(tx.max_fee_per_blob_gas) {
        return Err("a fee does not fit 128 bits");
    }
    if unit.env.current_excess_blob_gas.is_some_and(|gas| gas > U256::from(u64::MAX)) {
        return Err("currentExcessBlobGas does not fit 64 bits");
    }
    for test in unit.post.values().flatten() {
        let indexes = &test.indexes;
        if indexes.data >= tx.data.len()
            || indexes.gas >= tx.gas_limit.len()
            || indexes.value >= tx.value.len()
        {
            return Err("an index is outside of the transaction's parts");
        }
    }
    Ok(())
}

/// The fork, if revm has it.
fn spec_id(name: &SpecName) -> Option<SpecId> {
    match name {
        SpecName::Constantinople | SpecName::ByzantiumToConstantinopleAt5 | SpecName::Unknown => {
            None
        }
        name => Some(name.to_spec_id()),
    }
}

/// Runs the variants of one test on one fork.
struct Runner<'a> {
    path: &'a Path,
    name: &'a str,
    unit: &'a TestUnit,
    state: &'a CacheState,
    spec: SpecId,
    golden: &'a Option<Golden>,
}

impl Runner<'_> {
    fn variant<E>(&self, test: &Test, execute: &E, report: &mut Report)
    where
        E: Fn(Input<'_>) -> Result<Outcome, Vec<String>>,
    {
        match self.check(test, execute) {
            Ok(golden) => {
                report.passed += 1;
                report.golden += golden as usize;
            }
            Err(error) => report.failures.push(Failure {
                path: self.path.to_path_buf(),
                test: self.name.to_owned(),
                spec: self.spec,
                indexes: indexes(test),
                error,
            }),
        }
    }

    /// Runs a variant; whether there was a golden result too.
    fn check<E>(&self, test: &Test, execute: &E) -> Result<bool, VariantError>
    where
        E: Fn(Input<'_>) -> Result<Outcome, Vec<String>>,
    {
        let mut cfg = self.configuration();
        let block = self.unit.block_env(&mut cfg);
        let tx = match test.tx_env(self.unit) {
            Ok(tx) => tx,
            // The transaction can not even be stated, which is what the test is about.
            Err(_) if test.expect_exception.is_some() => return Ok(false),
            Err(error) => {
                let actual = Some(error.to_string());
                return Err(VariantError::Exception { expected: None, actual });
            }
        };
        let mut db = database(self.state);
        let input = Input { prestate: self.state, db: &mut db, cfg, block, tx };
        let outcome = execute(input).map_err(|details| VariantError::Engines { details })?;
        self.compare(test, &outcome, &db)?;
        let Some(golden) = self.golden else { return Ok(false) };
        golden.compare(self.path, self.name, self.spec, indexes(test), &outcome)
    }

    fn configuration(&self) -> CfgEnv {
        let mut cfg = CfgEnv::default();
        let chain_id = self.unit.env.current_chain_id.unwrap_or(U256::ONE);
        cfg.chain_id = chain_id.try_into().unwrap_or(1);
        cfg.set_spec_and_mainnet_gas_params(self.spec);
        let prague = SpecId::PRAGUE <= self.spec && self.spec < SpecId::OSAKA;
        cfg.set_max_blobs_per_tx(if prague { 9 } else { 6 });
        cfg
    }

    fn compare(
        &self,
        test: &Test,
        outcome: &Outcome,
        db: &StateTestDb,
    ) -> Result<(), VariantError> {
        let result = match (&test.expect_exception, outcome) {
            (None, Ok(result)) => result,
            (Some(_), Err(_)) => return Ok(()),
            (expected, outcome) => {
                let actual = outcome.as_ref().err().map(ToString::to_string);
                return Err(VariantError::Exception { expected: expected.clone(), actual });
            }
        };
        if let (Some(expected), Some(actual)) = (&self.unit.out, result.output())
            && expected != actual
        {
            let (expected, actual) = (expected.clone(), actual.clone());
            return Err(VariantError::Output { expected, actual });
        }
        let actual = logs_root(result.logs());
        if actual != test.logs {
            return Err(VariantError::LogsRoot { expected: test.logs, actual });
        }
        let actual = state_root(db.cache.trie_account());
        if actual != test.hash {
            return Err(VariantError::StateRoot { expected: test.hash, actual });
        }
        Ok(())
    }
}

const fn indexes(test: &Test) -> [usize; 3] {
    [test.indexes.data, test.indexes.gas, test.indexes.value]
}
