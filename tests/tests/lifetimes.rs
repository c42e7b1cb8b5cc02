//! How long compiled code lives, and what an engine that is off does.

use kiln_runtime::{Backend, Config, Engine};
use kiln_tests::Case;
use kiln_tests::case::TARGET;
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, oracle, tiered};
use kiln_tests::generate::seeded;
use revm::primitives::{hardfork::SpecId, keccak256};
use std::sync::atomic::{AtomicBool, Ordering};

/// Programs are forgotten all the time while other threads run them, some of them suspended in a
/// call: every result stays right.
#[test]
fn clear_while_frames_run() {
    let engines = Engines::new().expect("engines start");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let engines = &engines;
                scope.spawn(move || {
                    for seed in 0..150 {
                        let case = seeded(5_000_000 + worker * 1000 + seed);
                        let db = CaseDb::new(&case);
                        let expected = oracle(&case, &db);
                        for kind in [
                            Kind::Evaluator,
                            Kind::Tier0All,
                            Kind::Tier0Warm,
                            Kind::Tier0Hot,
                            Kind::Promoted,
                        ] {
                            let details = differences(&expected, &engines.run(kind, &case, &db));
                            assert!(details.is_empty(), "{}\n{case}", details.join("\n"));
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            // Relaxed: only ends the loop.
            while !done.load(Ordering::Relaxed) {
                engines.clear();
                std::thread::yield_now();
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a worker failed");
    });
}

/// Code memory comes back when nothing holds a program any more.
#[test]
fn cleared_memory_is_free() {
    let engines = Engines::new().expect("engines start");
    let Some(engine) = engines.of(Kind::Tier0All) else { return };
    let before = engine.code_bytes_used();
    for seed in 0..50 {
        let case = seeded(seed);
        engines.run(Kind::Tier0All, &case, &CaseDb::new(&case));
    }
    assert!(engine.code_bytes_used() > before, "something was compiled");
    engines.clear();
    assert_eq!(engine.code_bytes_used(), before);
}

/// With hardly any code memory, what does not fit is interpreted.
#[test]
fn out_of_code_memory() {
    let Ok(engine) = Engine::new(Config { code_bytes_max: 128 * 1024, ..Config::eager() }) else {
        return;
    };
    for seed in 0..200 {
        let case = seeded(seed);
        let db = CaseDb::new(&case);
        let details = differences(&oracle(&case, &db), &tiered(&case, &db, &engine));
        assert!(details.is_empty(), "{}\n{case}", details.join("\n"));
    }
}

/// Switched off: compiles nothing, counts nothing, changes nothing.
#[test]
fn off() {
    let config = Config { enabled: false, backend: Backend::Native, ..Config::eager() };
    let engine = Engine::new(config).expect("an engine that is off always starts");
    for seed in 0..100 {
        let case: Case = seeded(seed);
        let db = CaseDb::new(&case);
        let details = differences(&oracle(&case, &db), &tiered(&case, &db, &engine));
        assert!(details.is_empty(), "{}\n{case}", details.join("\n"));
    }
    assert_eq!(engine.stats().programs, 0);
    assert_eq!(engine.stats().native_entries, 0);
}

/// A database claims one code's hash for another as well: whatever becomes of the second, no code is left.
#[test]
fn cleared_memory_of_a_code_whose_hash_is_taken_is_free() {
    let engines = Engines::new().expect("engines start");
    let Some(engine) = engines.of(Kind::Tier0All) else { return };
    let before = engine.code_bytes_used();
    let honest = Case::of_code(SpecId::CANCUN, [0x60, 0x01, 0x50, 0x00]);
    let mut other = Case::of_code(SpecId::CANCUN, [0x60, 0x02, 0x50, 0x00]);
    other.target_mut().hash = Some(keccak256(&honest.contracts[&TARGET].code));
    for case in [&other, &honest] {
        let db = CaseDb::new(case);
        let details = differences(&oracle(case, &db), &tiered(case, &db, engine));
        assert!(details.is_empty(), "{}", details.join("\n"));
    }
    engine.clear();
    assert_eq!(engine.code_bytes_used(), before);
}
