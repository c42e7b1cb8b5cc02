//! The workloads that the repository ships, on every engine; and, where `KILN_FIXTURES` names a
//! folder of fixtures, a few of those (the command runs all of them).

#![allow(clippy::print_stderr)]

use kiln::fixture::{Prepared, check, execute, load, load_all, plain_evm};
use kiln_runtime::{Backend, Compile, Config, Engine, Tiered};
use std::path::{Path, PathBuf};

/// Files of the folder that are run: its smallest.
const SMOKE: usize = 12;

fn engines() -> Vec<(&'static str, Engine)> {
    let start = |config| Engine::new(config).expect("the engine starts");
    let evaluator = Config { backend: Backend::Evaluator, ..Config::eager() };
    let mut engines = vec![("evaluator", start(evaluator))];
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        engines.push(("tier 0", start(Config::eager())));
        engines.push(("tier 0, seen", start(Config { compile: Compile::Seen, ..Config::eager() })));
    }
    engines
}

fn run(path: &Path) {
    let loaded = load(path).unwrap_or_else(|error| panic!("{error}"));
    let prepared = Prepared::new(&loaded.fixture).expect("a fixture fits revm's types");
    let name = &loaded.fixture.name;
    let checked = |executed: &_, db: &_, engine: &str| {
        let mismatches = check(&loaded.fixture, executed, db, prepared.spec());
        let mismatches = mismatches.expect("a fixture has expectations");
        assert!(mismatches.is_empty(), "{name}, {engine}:\n{}", mismatches.join("\n"));
    };
    let mut plain = plain_evm(&prepared);
    let expected = execute(&mut plain, &prepared.txs);
    checked(&expected, &plain.ctx.journaled_state.database, "interpreter");
    for (engine_name, engine) in engines() {
        if engine.config().compile == Compile::Seen {
            engine.set_recording(true);
            execute(&mut Tiered::mainnet(plain_evm(&prepared), engine.clone()), &prepared.txs);
            engine.set_recording(false);
            engine.compile_recorded();
        }
        let mut tiered = Tiered::mainnet(plain_evm(&prepared), engine);
        let actual = execute(&mut tiered, &prepared.txs);
        checked(&actual, &tiered.inner().ctx.journaled_state.database, engine_name);
        // All of the results, not only what a fixture expects.
        for (expected, actual) in expected.results.iter().zip(&actual.results) {
            assert_eq!(format!("{expected:?}"), format!("{actual:?}"), "{name}, {engine_name}");
        }
    }
}

#[test]
fn shipped_workloads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the workloads are there")
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no workload in {}", folder.display());
    files.iter().for_each(|path| run(path));
}

#[test]
fn external_fixtures() {
    let Some(folder) = std::env::var_os("KILN_FIXTURES") else {
        eprintln!("skipped: KILN_FIXTURES names no folder");
        return;
    };
    let folders: Vec<PathBuf> = ["contracts", "blocks", "blocks-partial"]
        .iter()
        .map(|name| Path::new(&folder).join(name))
        .filter(|path| path.is_dir())
        .collect();
    assert!(!folders.is_empty(), "KILN_FIXTURES: no fixtures in {}", folder.display());
    for folder in folders {
        let mut files = load_all(&[folder]).unwrap_or_else(|error| panic!("{error}"));
        files.sort_by_key(|path| std::fs::metadata(path).map_or(u64::MAX, |file| file.len()));
        files.iter().take(SMOKE).for_each(|path| run(path));
    }
}
