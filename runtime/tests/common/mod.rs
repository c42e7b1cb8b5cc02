//! What the tests of this crate share: contracts, transactions, and engines to compare.
#![allow(dead_code, reason = "each test binary uses a part")]

use kiln_runtime::{Backend, Config, Engine, Tiered};
use revm::{
    Context, ExecuteEvm, MainBuilder, MainContext,
    bytecode::Bytecode,
    context::{TxEnv, result::ExecutionResult},
    database::InMemoryDB,
    handler::{MainnetContext, MainnetEvm},
    primitives::{Address, Bytes, TxKind, U256, hardfork::SpecId},
    state::{AccountInfo, EvmState},
};
use std::sync::OnceLock;

pub(crate) type Ctx = MainnetContext<InMemoryDB>;
pub(crate) type Evm = MainnetEvm<Ctx>;
pub(crate) type Outcome = (ExecutionResult, EvmState);

pub(crate) const CALLER: Address = Address::with_last_byte(0xca);
pub(crate) const MAIN: Address = Address::with_last_byte(0xaa);
pub(crate) const OTHER: Address = Address::with_last_byte(0xbb);

/// An engine for each backend that runs here; shared by all tests of a binary.
pub(crate) fn engines() -> &'static [Engine] {
    static ENGINES: OnceLock<Vec<Engine>> = OnceLock::new();
    ENGINES.get_or_init(|| fresh_engines(&Config::eager()))
}

/// New engines, with other options.
pub(crate) fn fresh_engines(config: &Config) -> Vec<Engine> {
    [Backend::Evaluator, Backend::Native]
        .into_iter()
        .filter(|backend| *backend == Backend::Evaluator || native())
        .map(|backend| engine(Config { backend, ..config.clone() }))
        .collect()
}

pub(crate) fn native() -> bool {
    cfg!(all(target_arch = "x86_64", target_os = "linux")) && !cfg!(miri)
}

pub(crate) fn engine(config: Config) -> Engine {
    Engine::new(config).expect("an engine")
}

pub(crate) fn code(hex: &str) -> Bytecode {
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    Bytecode::new_legacy(format!("0x{digits}").parse::<Bytes>().expect("hex"))
}

/// A context with contracts at [`MAIN`] and [`OTHER`].
pub(crate) fn context(spec: SpecId, main: &str, other: &str) -> Ctx {
    let mut db = InMemoryDB::default();
    let funds = AccountInfo { balance: U256::from(1) << 100, ..Default::default() };
    db.insert_account_info(CALLER, funds);
    for (address, hex) in [(MAIN, main), (OTHER, other)] {
        let info = AccountInfo { balance: U256::from(1000), ..Default::default() };
        db.insert_account_info(address, info.with_code(code(hex)));
    }
    Context::mainnet()
        .with_db(db)
        .modify_cfg_chained(|cfg| cfg.set_spec_and_mainnet_gas_params(spec))
}

pub(crate) fn call(gas_limit: u64, data: &[u8]) -> TxEnv {
    TxEnv::builder()
        .caller(CALLER)
        .kind(TxKind::Call(MAIN))
        .gas_limit(gas_limit)
        .data(Bytes::copy_from_slice(data))
        .build()
        .expect("a transaction")
}

pub(crate) fn transact<EVM>(evm: &mut EVM, tx: TxEnv) -> Outcome
where
    EVM: ExecuteEvm<Tx = TxEnv, ExecutionResult = ExecutionResult, State = EvmState>,
    EVM::Error: std::fmt::Debug,
{
    let output = evm.transact(tx).expect("a valid transaction");
    (output.result, output.state)
}

/// Runs a transaction on plain revm and on every engine, and compares everything.
pub(crate) fn compare(spec: SpecId, main: &str, other: &str, tx: &TxEnv) -> Outcome {
    let mut plain = context(spec, main, other).build_mainnet();
    let expected = transact(&mut plain, tx.clone());
    for engine in engines() {
        let evm = context(spec, main, other).build_mainnet();
        let mut tiered = Tiered::mainnet(evm, engine.clone());
        // The second round finds programs and caches in place.
        for round in 0..2 {
            let actual = transact(&mut tiered, tx.clone());
            assert_same(&actual, &expected, &format!("{:?}, round {round}", engine.config()));
        }
        assert!(engine.stats().compile_errors == 0, "{:?}", engine.stats());
    }
    expected
}

pub(crate) fn assert_same(actual: &Outcome, expected: &Outcome, what: &str) {
    assert_eq!(actual.0, expected.0, "{what}");
    assert_eq!(actual.1, expected.1, "{what}");
}
