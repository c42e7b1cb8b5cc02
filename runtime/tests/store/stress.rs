//! All at once: threads that execute, little room, clears, snapshots, flushes, engines that come and go.

use crate::{
    BRANCH, Folder, LONG, LOOP, baked, config, engine, expected, hashed, number, reader, run,
};
use kiln_runtime::{Compile, Config, Tier};
use std::thread;

/// Codes with one number each.
fn codes() -> Vec<String> {
    let constants = (0..6).map(|nth| format!("60{nth:02x} 5f 52 6020 5f f3 {}", "5b".repeat(300)));
    constants.chain([LOOP.to_owned(), BRANCH.to_owned()]).collect()
}

#[test]
fn results_stay_whatever_happens_to_the_store() {
    let folder = Folder::new();
    let codes = codes();
    let outcomes: Vec<_> = codes.iter().map(|main| expected(main, number(40))).collect();
    for round in 0..6 {
        let config = Config {
            compile: [Compile::Seen, Compile::All][round % 2],
            hot_executions: 2,
            warm_frames: 0,
            compile_threads: round % 3,
            code_bytes_max: 48 << 10,
            optimise_frames: 16,
            tier1_frames: 1 << 20,
            profile_blocks: 64,
            top_tier: Tier::Optimised,
            sweep_interval_ms: 10,
            snapshot_first_ms: 10,
            snapshot_interval_ms: 10,
            snapshot_idle_ms: 5,
            store_preload: round > 2,
            store_bytes_max: 1 << 20,
            ..config(&folder)
        };
        let engine = engine(config);
        thread::scope(|scope| {
            for id in 0..3 {
                let (engine, codes, outcomes) = (&engine, &codes, &outcomes);
                scope.spawn(move || {
                    for nth in 0..60 {
                        let at = (nth * 5 + id) % codes.len();
                        assert_eq!(run(engine, &codes[at], number(40)), outcomes[at]);
                    }
                });
            }
            scope.spawn(|| {
                for nth in 0..12 {
                    match nth % 4 {
                        0 => engine.clear(),
                        1 => assert!(engine.snapshot()),
                        2 => assert!(engine.flush_store(LONG)),
                        _ => _ = engine.preload(),
                    }
                }
            });
        });
        let stats = engine.stats();
        assert_eq!(
            (stats.store_bad, stats.store_errors, stats.quarantined),
            (0, 0, 0),
            "{stats:?}"
        );
        // Whatever was cleared when: now there are programs, and they are kept.
        for (main, outcome) in codes.iter().zip(&outcomes) {
            let (code, hash) = hashed(main);
            // Another thread may be at it.
            let _ = engine.compile(&code, hash, &baked());
            assert_eq!(run(&engine, main, number(40)), *outcome);
        }
        assert!(engine.flush_store(LONG), "{:?}", engine.stats());
    }
    assert!(!folder.artifacts().is_empty());
    let reader = engine(reader(&folder));
    for (main, outcome) in codes.iter().zip(&outcomes) {
        assert_eq!(run(&reader, main, number(40)), *outcome);
    }
    let stats = reader.stats();
    assert_eq!((stats.store_bad, stats.store_errors), (0, 0), "{stats:?}");
}
