//! Forced transitions: engines that alternate inside frames, programs that are exchanged or dropped
//! while they run. Nothing of it shows in any result, and no code outlives its last holder.

use kiln::fixture::{Prepared, check, execute, load, plain_evm};
use kiln_runtime::{Compile, Config, Engine, Force, Tiered};
use kiln_tests::Case;
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{context, forced, oracle, tiered, transact};
use kiln_tests::generate::seeded;
use kiln_tests::minimise::minimise;
use revm::MainBuilder;
use revm::primitives::{hardfork::SpecId, hex};
use std::path::{Path, PathBuf};

/// How often something is forced: at every n-th safepoint.
const EVERY: [u32; 4] = [1, 2, 3, 7];
/// Generated cases for each mode.
const GENERATED: u64 = 120;

/// Every mode at every distance, and some at the same time.
fn modes() -> Vec<Force> {
    let mut texts = vec!["promote".to_owned()];
    for n in EVERY {
        texts.extend([format!("exit={n}"), format!("swap={n}"), format!("evict={n}")]);
    }
    texts.extend(
        ["exit=1,swap=1", "exit=2,swap=3,evict=7", "seed=1", "seed=2,exit=5"].map(str::to_owned),
    );
    texts.iter().map(|text| text.parse().expect("a mode")).collect()
}

fn engines(force: Force) -> Vec<(String, Engine)> {
    forced(force).expect("engines start")
}

/// Machine code for whole contracts; none on targets without.
fn native(force: Force) -> Option<Engine> {
    cfg!(all(target_arch = "x86_64", target_os = "linux"))
        .then(|| Engine::new(Config { force, ..Config::eager() }).expect("the engine starts"))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("its entries can be listed").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn case_files() -> impl Iterator<Item = (String, Case)> {
    files("cases", "evm").into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).expect("a case file can be read");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, text.parse().expect("a case"))
    })
}

/// Asserts that a case comes to the same on an engine as in the interpreter.
fn agrees(name: &str, case: &Case, engine_name: &str, engine: &Engine) {
    let differs = |case: &Case| {
        let db = CaseDb::new(case);
        differences(&oracle(case, &db), &tiered(case, &db, engine))
    };
    let details = differs(case);
    if details.is_empty() {
        return;
    }
    // Smaller, if it fails on its own.
    engine.clear();
    let fails = |case: &Case| {
        engine.clear();
        !differs(case).is_empty()
    };
    let small = if fails(case) { minimise(case.clone(), fails) } else { case.clone() };
    panic!("{name}, {engine_name}:\n{}\n\n{small}", details.join("\n"));
}

#[test]
fn cases_under_force() {
    let named = case_files();
    let generated = (0..GENERATED).map(|seed| (format!("seed {seed}"), seeded(7_000_000 + seed)));
    let cases: Vec<_> = named.chain(generated).collect();
    for force in modes() {
        for (engine_name, engine) in engines(force) {
            let before = engine.code_bytes_used();
            for (name, case) in &cases {
                agrees(name, case, &engine_name, &engine);
            }
            let stats = engine.stats();
            let happened = [
                (force.exit_every, stats.forced_exits),
                (force.swap_every, stats.swaps),
                (force.evict_every, stats.forced_evictions),
            ];
            // Programs are exchanged for newer ones without being forced, too.
            for (every, count) in happened {
                assert!(every.is_none() || count > 0, "{engine_name}: {stats:?}");
            }
            let (exits, evicts) = (force.exit_every.is_some(), force.evict_every.is_some());
            let seeded = force.seed.is_some();
            assert_eq!(exits || seeded, stats.forced_exits > 0, "{engine_name}");
            assert_eq!(evicts || seeded, stats.forced_evictions > 0, "{engine_name}");
            assert!(stats.native_entries > 0, "{engine_name}: nothing was compiled");
            engine.clear();
            assert_eq!(engine.code_bytes_used(), before, "{engine_name}: code is left over");
        }
    }
}

#[test]
fn workloads_under_force() {
    let fixtures: Vec<_> = files("../workloads", "json")
        .iter()
        .map(|path| load(path).unwrap_or_else(|error| panic!("{error}")))
        .collect();
    for force in modes() {
        for (engine_name, engine) in engines(force) {
            let before = engine.code_bytes_used();
            for loaded in &fixtures {
                let prepared = Prepared::new(&loaded.fixture).expect("it fits revm's types");
                let mut evm = Tiered::mainnet(plain_evm(&prepared), engine.clone());
                let executed = execute(&mut evm, &prepared.txs);
                let db = evm.into_inner().ctx.journaled_state.database;
                let mismatches = check(&loaded.fixture, &executed, &db, prepared.spec());
                let mismatches = mismatches.expect("it has expectations");
                let name = &loaded.fixture.name;
                assert!(mismatches.is_empty(), "{name}, {engine_name}:\n{}", mismatches.join("\n"));
            }
            engine.clear();
            assert_eq!(engine.code_bytes_used(), before, "{engine_name}: code is left over");
        }
    }
}

/// A loop that leaves compiled code in every round: 20 calls, each of which suspends the frame.
fn looping() -> Case {
    // n = 20; do { call(0, 0, 0, 0, 0, 0, 0) } while (--n != 0)
    let code = hex!("60145b5f5f5f5f5f5f5ff150600190038060025700");
    Case::of_code(SpecId::CANCUN, code)
}

/// While an EVM goes on, of all the programs that were made for its code one is left.
#[test]
fn swapped_programs_are_freed() {
    let case = looping();
    let db = CaseDb::new(&case);
    let used = |engine: &Engine| {
        let before = engine.code_bytes_used();
        let mut evm = Tiered::mainnet(context(&case, &db).build_mainnet(), engine.clone());
        transact(&case, &mut evm);
        engine.code_bytes_used() - before
    };
    let (Some(plain), Some(swapping)) = (native(Force::NONE), native(mode("swap=1"))) else {
        return;
    };
    let one = used(&plain);
    assert!(one > 0);
    assert_eq!(plain.stats().programs, 1);
    assert_eq!(used(&swapping), one);
    let stats = swapping.stats();
    assert!(stats.swaps > 10 && stats.programs == stats.swaps + 1, "{stats:?}");
    // Another EVM takes over what is there.
    let mut evm = Tiered::mainnet(context(&case, &db).build_mainnet(), swapping.clone());
    assert_eq!(used(&swapping), 0);
    transact(&case, &mut evm);
    drop(evm);
    swapping.clear();
    assert_eq!(swapping.code_bytes_used(), native(Force::NONE).map_or(0, |e| e.code_bytes_used()));
}

/// No EVM holds a program between frames: what another one exchanged is freed at once.
#[test]
fn a_program_is_freed_when_it_is_exchanged() {
    let Some(engine) = native(mode("swap=2")) else { return };
    let case = looping();
    let db = CaseDb::new(&case);
    let evm = || Tiered::mainnet(context(&case, &db).build_mainnet(), engine.clone());
    let trampoline = engine.code_bytes_used();
    let (mut first, mut second) = (evm(), evm());
    transact(&case, &mut first);
    let one = engine.code_bytes_used() - trampoline;
    assert!(one > 0);
    transact(&case, &mut second);
    assert_eq!(engine.code_bytes_used() - trampoline, one);
    engine.clear();
    assert_eq!(engine.code_bytes_used(), trampoline);
    drop((first, second));
    assert_eq!(engine.code_bytes_used(), trampoline);
}

/// Eviction leaves no code behind, and the code comes back.
#[test]
fn evicted_code_comes_back() {
    let Some(engine) = native(mode("evict=3")) else { return };
    let case = looping();
    let db = CaseDb::new(&case);
    for _ in 0..3 {
        let mut evm = Tiered::mainnet(context(&case, &db).build_mainnet(), engine.clone());
        let details = differences(&oracle(&case, &db), &transact(&case, &mut evm));
        assert!(details.is_empty(), "{}", details.join("\n"));
    }
    let stats = engine.stats();
    assert!(stats.forced_evictions > 3 && stats.native_entries > 3, "{stats:?}");
    assert!(stats.programs >= stats.forced_evictions, "{stats:?}");
}

/// Compiled at the first frame, even where blocks are to be recorded first.
#[test]
fn promoted_at_once() {
    if native(Force::NONE).is_none() {
        return;
    }
    let force = mode("promote");
    let config = Config { compile: Compile::Seen, warm_frames: 9, force, ..Config::eager() };
    let engine = Engine::new(config).expect("the engine starts");
    let case = looping();
    tiered(&case, &CaseDb::new(&case), &engine);
    let stats = engine.stats();
    assert_eq!((stats.programs, stats.recorded_instructions, stats.interpreted_frames), (1, 0, 0));
}

/// The counters know no clock and no chance.
#[test]
fn twice_the_same() {
    let run = |force| {
        let engine = native(force)?;
        for seed in 0..30 {
            let case = seeded(8_000_000 + seed);
            tiered(&case, &CaseDb::new(&case), &engine);
        }
        let stats = engine.stats();
        let forced =
            (stats.forced_exits, stats.swaps, stats.forced_evictions, stats.frames_dropped);
        Some((forced, stats.programs, stats.native_entries, stats.interpreted_instructions))
    };
    for force in ["exit=2,swap=3,evict=7", "seed=3"].map(mode) {
        assert_eq!(run(force), run(force));
    }
}

/// Threads exchange and drop each other's programs while they run.
#[test]
fn threads_swap_each_others_programs() {
    for force in ["swap=1", "evict=2", "exit=1,swap=2,evict=3", "seed=5"].map(mode) {
        for (engine_name, engine) in engines(force) {
            let before = engine.code_bytes_used();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for seed in 0..40 {
                            let name = format!("seed {seed}");
                            agrees(&name, &seeded(9_000_000 + seed), &engine_name, &engine);
                        }
                    });
                }
            });
            engine.clear();
            assert_eq!(engine.code_bytes_used(), before, "{engine_name}: code is left over");
        }
    }
}

fn mode(text: &str) -> Force {
    text.parse().expect("a mode")
}
