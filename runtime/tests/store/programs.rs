//! Programs that are saved by one engine and loaded by another.

use crate::{
    BRANCH, Folder, LONG, LOOP, agree, baked, config, engine, hashed, number, reader, run, tier,
    until, written,
};
use kiln_runtime::{Compile, CompileError, Config, Engine, EngineError, Force, Tier};
use std::path::Path;

#[test]
fn what_one_engine_compiled_another_one_runs() {
    let tiers = [Tier::Baseline, Tier::Optimised, Tier::Tier1];
    let tiers = if cfg!(feature = "llvm") { &tiers[..] } else { &tiers[..2] };
    for &first_tier in tiers {
        let folder = Folder::new();
        let stats = written(Config { first_tier, ..config(&folder) }, &[LOOP, BRANCH]);
        assert_eq!(folder.artifacts().len(), 2);
        assert!(stats.store_saved_bytes > stats.code_bytes, "{stats:?}");
        for config in [config(&folder), reader(&folder)] {
            let engine = engine(config);
            for value in [1, 2, 20_000] {
                agree(&engine, LOOP, number(value));
                agree(&engine, BRANCH, number(value));
            }
            let stats = engine.stats();
            assert_eq!((stats.programs, stats.optimised_regions), (0, 0), "{stats:?}");
            assert_eq!((stats.store_hits, stats.store_misses, stats.hits), (2, 0, 6), "{stats:?}");
            assert!(stats.store_loaded_bytes > 0 && stats.store_load_cpu_ns > 0, "{stats:?}");
            assert_eq!((tier(&engine, LOOP), stats.store_saved), (first_tier, 0));
        }
    }
}

#[test]
fn the_best_tier_is_loaded_that_the_options_allow() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let (code, hash) = hashed(LOOP);
    {
        let optimised = engine(Config { first_tier: Tier::Optimised, ..config(&folder) });
        optimised.compile(&code, hash, &baked()).unwrap();
        assert!(optimised.flush_store(LONG));
        let stats = optimised.stats();
        assert_eq!((stats.programs, stats.store_hits, stats.store_misses), (1, 0, 1), "{stats:?}");
    }
    assert_eq!(folder.artifacts().len(), 2);
    for (top_tier, found) in [(Tier::Tier1, Tier::Optimised), (Tier::Baseline, Tier::Baseline)] {
        let engine = engine(Config { top_tier, ..config(&folder) });
        agree(&engine, LOOP, number(7));
        assert_eq!(tier(&engine, LOOP), found);
        assert_eq!(engine.stats().store_hits, 1);
    }
}

#[test]
fn it_is_loaded_in_the_background_if_there_are_threads() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let engine = engine(Config { compile_threads: 1, compile: Compile::Seen, ..config(&folder) });
    agree(&engine, LOOP, number(3));
    until(&engine, |stats| stats.store_hits == 1);
    agree(&engine, LOOP, number(3));
    let stats = engine.stats();
    assert_eq!((stats.programs, stats.hits), (0, 1), "{stats:?}");
}

#[test]
fn a_later_compilation_has_the_blocks_of_the_program_that_was_loaded() {
    let folder = Folder::new();
    let seen =
        |folder: &Folder| Config { compile: Compile::Seen, hot_executions: 1, ..config(folder) };
    {
        let engine = engine(seen(&folder));
        (0..20).for_each(|_| agree(&engine, BRANCH, number(0)));
        assert!(engine.flush_store(LONG));
    }
    let engine = engine(seen(&folder));
    agree(&engine, BRANCH, number(0));
    let (code, hash) = hashed(BRANCH);
    let regions = || engine.compile(&code, hash, &baked()).unwrap().regions();
    let before = regions();
    assert_eq!((engine.stats().store_hits, engine.stats().programs), (1, 0));
    // The other way, until it is worth compiling.
    (0..200).for_each(|_| agree(&engine, BRANCH, number(1)));
    assert!(engine.stats().programs > 0, "{:?}", engine.stats());
    assert!(regions() > before, "what was loaded and what is new");
    let left = engine.stats().exits_resume;
    agree(&engine, BRANCH, number(0));
    assert_eq!(engine.stats().exits_resume, left, "no block was lost");
    // And that is saved in its place.
    assert!(engine.flush_store(LONG));
    assert_eq!((folder.artifacts().len(), engine.stats().store_saved), (1, 1));
}

#[test]
fn who_wants_whole_codes_does_not_get_parts() {
    let folder = Folder::new();
    {
        let part = Config { compile: Compile::Seen, hot_executions: 1, ..config(&folder) };
        let engine = engine(part);
        (0..20).for_each(|_| agree(&engine, BRANCH, number(0)));
        assert!(engine.flush_store(LONG) && engine.stats().store_saved > 0);
    }
    let engine = engine(config(&folder));
    agree(&engine, BRANCH, number(0));
    agree(&engine, BRANCH, number(1));
    let stats = engine.stats();
    assert_eq!((stats.store_hits, stats.store_refused, stats.programs), (0, 1, 1), "{stats:?}");
    assert_eq!(stats.exits_resume, 0, "{stats:?}");
}

#[test]
fn what_was_thrown_out_is_loaded_again() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let force = "evict=1".parse::<Force>().unwrap();
    let engine = engine(Config { compile: Compile::Stored, force, ..config(&folder) });
    for value in 1..50 {
        agree(&engine, LOOP, number(value));
    }
    let stats = engine.stats();
    assert!(stats.forced_evictions > 0 && stats.store_hits > 1, "{stats:?}");
    assert_eq!(stats.programs, 0, "{stats:?}");
}

#[test]
fn with_what_is_stored_alone_nothing_else_is_compiled() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let stored = |folder| Config { compile: Compile::Stored, ..config(folder) };
    let one = engine(stored(&folder));
    for _ in 0..500 {
        agree(&one, LOOP, number(3));
        agree(&one, BRANCH, number(3));
    }
    let stats = one.stats();
    assert_eq!((stats.programs, stats.store_hits, stats.hits), (0, 1, 500), "{stats:?}");
    let (code, hash) = hashed(BRANCH);
    let error = one.compile(&code, hash, &baked()).unwrap_err();
    assert!(matches!(error, CompileError::NotStored), "{error}");
    let stats = one.stats();
    assert_eq!((stats.programs, stats.quarantined, stats.compile_errors), (0, 0, 0), "{stats:?}");
    let without = Engine::new(Config { compile: Compile::Stored, ..Config::eager() });
    assert!(matches!(without, Err(EngineError::NoStore)));
}

#[test]
fn what_is_over_a_limit_is_compiled_or_not_as_without_a_store() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let limited = |limits| {
        let engine = engine(Config { limits, ..config(&folder) });
        agree(&engine, LOOP, number(3));
        engine.stats()
    };
    let limits = kiln_ir::Limits::default();
    let stats = limited(kiln_ir::Limits { code_bytes_max: 8, ..limits });
    assert_eq!((stats.store_hits, stats.store_refused, stats.programs), (0, 1, 0), "{stats:?}");
    assert_eq!((stats.store_bad, stats.hits), (0, 0), "{stats:?}");
    let stats = limited(kiln_ir::Limits { text_ratio_max: 1, text_bytes_free: 0, ..limits });
    assert_eq!((stats.store_hits, stats.store_refused, stats.programs), (0, 1, 0), "{stats:?}");
    // Nothing is wrong with it.
    let stats = limited(limits);
    assert_eq!((stats.store_hits, stats.store_refused), (1, 0), "{stats:?}");
}

#[test]
fn what_another_build_made_is_not_looked_at() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let mut limits = kiln_ir::Limits::default();
    limits.perturb.spill = true;
    let engine = engine(Config { limits, ..config(&folder) });
    agree(&engine, LOOP, number(3));
    assert!(engine.flush_store(LONG));
    let stats = engine.stats();
    assert_eq!((stats.store_hits, stats.store_misses, stats.programs), (0, 1, 1), "{stats:?}");
    assert_eq!((stats.store_saved, folder.artifacts().len()), (1, 2), "both stay");
}

/// Of the artifact of the only code there is.
fn damage(folder: &Folder, damage: impl Fn(&mut Vec<u8>)) -> std::path::PathBuf {
    let [path] = &folder.artifacts()[..] else { panic!("{:?}", folder.artifacts()) };
    let mut bytes = std::fs::read(path).unwrap();
    damage(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    path.clone()
}

fn name(path: &Path) -> &std::ffi::OsStr {
    path.file_name().unwrap()
}

#[test]
fn what_is_damaged_is_set_aside_and_compiled_again() {
    for preload in [false, true] {
        let folder = Folder::new();
        written(config(&folder), &[LOOP]);
        let path = damage(&folder, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        let engine = engine(Config { store_preload: preload, ..config(&folder) });
        let looked_at = engine.preload();
        assert!(looked_at <= 1);
        agree(&engine, LOOP, number(3));
        agree(&engine, LOOP, number(4));
        let stats = engine.stats();
        assert_eq!((stats.store_bad, stats.store_hits, stats.programs), (1, 0, 1), "{stats:?}");
        let aside = crate::files_in(&folder.path().join("aside"));
        assert_eq!(aside.iter().map(|path| name(path)).collect::<Vec<_>>(), [name(&path)]);
        assert!(engine.flush_store(LONG));
        drop(engine);
        let again = crate::engine(config(&folder));
        agree(&again, LOOP, number(3));
        assert_eq!((again.stats().store_hits, again.stats().programs), (1, 0));
    }
}

#[test]
fn a_reader_leaves_what_is_damaged_where_it_is() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    damage(&folder, |bytes| bytes.truncate(100));
    let engine = engine(reader(&folder));
    agree(&engine, LOOP, number(3));
    let stats = engine.stats();
    assert_eq!((stats.store_bad, stats.programs), (1, 1), "{stats:?}");
    assert_eq!(folder.artifacts().len(), 1);
}

#[test]
fn a_false_hash_gets_nobody_elses_program() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let engine = engine(config(&folder));
    let (other, (_, hash)) = (hashed(BRANCH).0, hashed(LOOP));
    // The database says that it is the other code.
    let program = engine.compile(&other, hash, &baked()).unwrap();
    assert_eq!(program.bytecode(), &other);
    let stats = engine.stats();
    assert_eq!((stats.store_hits, stats.store_refused, stats.programs), (0, 1, 1), "{stats:?}");
}

#[test]
fn a_clear_leaves_the_store() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let engine = engine(config(&folder));
    for nth in 1..4 {
        agree(&engine, LOOP, number(3));
        assert_eq!((engine.stats().store_hits, engine.stats().programs), (nth, 0));
        engine.clear();
    }
    assert_eq!(folder.artifacts().len(), 1);
}

#[test]
fn two_engines_have_one_store() {
    let folder = Folder::new();
    let (one, two) = (engine(config(&folder)), engine(config(&folder)));
    for value in 1..4 {
        agree(&one, LOOP, number(value));
        agree(&two, LOOP, number(value));
        agree(&two, BRANCH, number(value));
    }
    assert!(one.flush_store(LONG) && two.flush_store(LONG));
    assert_eq!((one.stats().store_saved, two.stats().store_saved), (1, 2));
    assert_eq!(folder.artifacts().len(), 2);
    assert!(one.snapshot() && two.snapshot());
    drop((one, two));
    let three = engine(config(&folder));
    let outcomes = [LOOP, BRANCH].map(|main| run(&three, main, number(9)));
    assert_eq!(outcomes, [LOOP, BRANCH].map(|main| crate::expected(main, number(9))));
    let stats = three.stats();
    assert_eq!((stats.store_hits, stats.programs, stats.store_errors), (2, 0, 0), "{stats:?}");
    assert_eq!(stats.store_restored, 2, "{stats:?}");
}
