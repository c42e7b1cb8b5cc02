//! Engines with a store: what one made, another one runs without compiling it.
#![cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]

#[path = "../common/mod.rs"]
mod common;
mod files;
mod programs;
mod sessions;
mod stress;

use common::{Outcome, call, code, context, transact};
use kiln_ir::OpcodeSet;
use kiln_runtime::{Config, Engine, Stats, StoreMode, Tier, Tiered};
use revm::{
    MainBuilder,
    bytecode::Bytecode,
    context::TxEnv,
    interpreter::instructions::gas_table_spec,
    primitives::{B256, hardfork::SpecId},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// i = calldata; s = 0; do { s = s * 3 + i; i -= 1 } while (i); return s
pub(crate) const LOOP: &str =
    "5f35 5f 5b 6003 02 81 01 90 6001 9003 90 81 6003 57 5f 52 6020 5f f3";
/// if (calldata[0]) { return 7 } else { return 9 }, and some more blocks.
pub(crate) const BRANCH: &str = "5f35 600f 57 6009 5f 52 6020 5f f3 00 00 5b 6007 5f 52 6020 5f f3";

/// A folder for a store, and the store in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// The artifacts.
    pub(crate) fn artifacts(&self) -> Vec<PathBuf> {
        let mut files = files_in(&self.path().join("artifacts"));
        files.sort();
        files
    }
}

pub(crate) fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Compiles whole codes at once, on the calling thread. Loads nothing before it is called.
pub(crate) fn config(folder: &Folder) -> Config {
    Config {
        store: Some(folder.path()),
        store_preload: false,
        shutdown_ms: 60_000,
        ..Config::eager()
    }
}

pub(crate) fn reader(folder: &Folder) -> Config {
    Config { store_mode: StoreMode::ReadOnly, ..config(folder) }
}

pub(crate) fn engine(config: Config) -> Engine {
    Engine::new(config).expect("an engine")
}

pub(crate) fn baked() -> kiln_ir::Config {
    let spec = SpecId::CANCUN;
    kiln_ir::Config { spec, gas: gas_table_spec(spec), replaced: OpcodeSet::EMPTY }
}

pub(crate) fn number(value: u64) -> TxEnv {
    let mut data = [0; 32];
    data[24..].copy_from_slice(&value.to_be_bytes());
    call(10_000_000, &data)
}

pub(crate) fn run(engine: &Engine, main: &str, tx: TxEnv) -> Outcome {
    let evm = context(SpecId::CANCUN, main, "").build_mainnet();
    transact(&mut Tiered::mainnet(evm, engine.clone()), tx)
}

/// What revm's interpreter makes of it.
pub(crate) fn expected(main: &str, tx: TxEnv) -> Outcome {
    transact(&mut context(SpecId::CANCUN, main, "").build_mainnet(), tx)
}

/// Runs it, and compares.
#[track_caller]
pub(crate) fn agree(engine: &Engine, main: &str, tx: TxEnv) {
    assert_eq!(run(engine, main, tx.clone()), expected(main, tx), "{:?}", engine.stats());
}

/// A code, and its hash.
pub(crate) fn hashed(main: &str) -> (Bytecode, B256) {
    let code = code(main);
    let hash = code.hash_slow();
    (code, hash)
}

/// The tier of the program of a code, which must be there.
#[track_caller]
pub(crate) fn tier(engine: &Engine, main: &str) -> Tier {
    let (code, hash) = hashed(main);
    let before = engine.stats();
    let program = engine.compile(&code, hash, &baked()).expect("a program");
    assert_eq!(engine.stats().programs, before.programs, "it was not there");
    program.tier()
}

/// Compiles codes with the given options, and saves them.
pub(crate) fn written(config: Config, codes: &[&str]) -> Stats {
    let engine = engine(config);
    for main in codes {
        agree(&engine, main, number(5));
    }
    assert!(engine.flush_store(LONG), "{:?}", engine.stats());
    let stats = engine.stats();
    assert_eq!((stats.programs, stats.store_hits), (codes.len() as u64, 0), "{stats:?}");
    assert_eq!((stats.store_saved, stats.store_errors), (codes.len() as u64, 0), "{stats:?}");
    stats
}

#[track_caller]
pub(crate) fn until(engine: &Engine, is_so: impl Fn(&Stats) -> bool) {
    let start = Instant::now();
    while !is_so(&engine.stats()) {
        assert!(start.elapsed() < LONG, "{:?}", engine.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}
