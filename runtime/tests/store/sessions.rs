//! What an engine remembers of an earlier session.

use crate::{
    BRANCH, Folder, LONG, LOOP, agree, baked, config, engine, hashed, number, tier, until, written,
};
use kiln_runtime::{Compile, CompileError, Config, Engine, Fault, Hooks, Phase, Refusal, Tier};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[test]
fn quarantine_is_remembered() {
    let folder = Folder::new();
    let (code, hash) = hashed(LOOP);
    let config = |folder: &Folder| Config { attempts_max: 1, ..config(folder) };
    {
        let hooks = Hooks::default().intercept(|_| Fault::Error("not this one".into()));
        let engine = Engine::with_hooks(config(&folder), hooks).unwrap();
        let error = engine.compile(&code, hash, &baked()).unwrap_err();
        assert!(matches!(error, CompileError::Injected(_)), "{error}");
        assert!(engine.snapshot());
    }
    let again = engine(config(&folder));
    agree(&again, LOOP, number(3));
    let error = again.compile(&code, hash, &baked()).unwrap_err();
    assert_eq!(error.to_string(), "in quarantine: not this one");
    let stats = again.stats();
    assert_eq!((stats.programs, stats.store_restored), (0, 1), "{stats:?}");
    // It is still known afterwards, and a clear forgives.
    drop(again);
    let again = engine(config(&folder));
    agree(&again, LOOP, number(3));
    assert_eq!(again.stats().programs, 0);
    again.clear();
    agree(&again, LOOP, number(3));
    assert_eq!(again.stats().programs, 1);
    drop(again);
    // Under other limits it may go otherwise.
    let limits = kiln_ir::Limits { insts_max: 1 << 21, ..kiln_ir::Limits::default() };
    let other = engine(Config { limits, ..config(&folder) });
    agree(&other, LOOP, number(3));
    assert_eq!(other.stats().quarantined, 0);
}

/// Holds every compilation until it is called off; counts on `begun`.
fn holding(begun: &Arc<AtomicBool>) -> Hooks {
    let begun = begun.clone();
    Hooks::default().intercept(move |start| {
        begun.store(true, Ordering::SeqCst);
        while start.phase == Phase::Analyse && !start.cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Fault::None
    })
}

#[test]
fn what_was_not_done_is_asked_for_again_and_has_not_failed() {
    let folder = Folder::new();
    let config = |folder: &Folder| Config {
        compile_threads: 1,
        attempts_max: 1,
        compile_deadline_ms: 60_000,
        ..config(folder)
    };
    let codes = [hashed(LOOP), hashed(BRANCH), hashed("6003 5f 52 6020 5f f3")];
    {
        let begun = Arc::new(AtomicBool::new(false));
        let engine = Engine::with_hooks(config(&folder), holding(&begun)).unwrap();
        for (code, hash) in &codes {
            engine.compile_soon(code, *hash, &baked()).unwrap();
        }
        while !begun.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // One runs, and two wait.
        engine.shutdown(LONG);
        let stats = engine.stats();
        assert_eq!((stats.programs, stats.jobs_failed, stats.quarantined), (0, 0, 0), "{stats:?}");
        assert_eq!(stats.store_snapshots, 1, "{stats:?}");
    }
    let engine = engine(config(&folder));
    until(&engine, |stats| stats.store_resumed == 3 && stats.jobs_compiled == 3);
    assert_eq!([tier(&engine, LOOP), tier(&engine, BRANCH)], [Tier::Baseline; 2]);
    assert_eq!(engine.stats().programs, 3);
    drop(engine);
    // It is done: nobody asks a third time.
    let engine = crate::engine(config(&folder));
    agree(&engine, LOOP, number(3));
    until(&engine, |stats| stats.store_hits == 1);
    let stats = engine.stats();
    assert_eq!((stats.store_resumed, stats.programs), (0, 0), "{stats:?}");
}

#[test]
fn a_snapshot_in_between_has_what_is_under_way() {
    let folder = Folder::new();
    let begun = Arc::new(AtomicBool::new(false));
    let config = |folder: &Folder| Config {
        compile_threads: 1,
        compile_deadline_ms: 60_000,
        ..config(folder)
    };
    let held = Engine::with_hooks(config(&folder), holding(&begun)).unwrap();
    let (code, hash) = hashed(LOOP);
    held.compile_soon(&code, hash, &baked()).unwrap();
    assert!(held.snapshot());
    // As if the process had been killed: this one knows nothing of the other's end.
    let engine = engine(config(&folder));
    until(&engine, |stats| stats.store_resumed == 1 && stats.programs == 1);
    assert_eq!(held.compile(&code, hash, &baked()).unwrap_err().to_string(), {
        CompileError::from(Refusal::Busy).to_string()
    });
}

#[test]
fn what_a_code_runs_is_remembered() {
    let folder = Folder::new();
    let seen =
        |folder: &Folder| Config { compile: Compile::Seen, hot_executions: 20, ..config(folder) };
    {
        let engine = engine(seen(&folder));
        // Known, and not yet worth it.
        agree(&engine, LOOP, number(25));
        assert!(engine.snapshot());
        assert_eq!(engine.stats().programs, 0, "{:?}", engine.stats());
    }
    let again = engine(seen(&folder));
    // Without the store it takes a while until the code is known.
    agree(&again, LOOP, number(50));
    let stats = again.stats();
    assert_eq!((stats.programs, stats.store_restored), (1, 1), "{stats:?}");
    let new = engine(Config { store: None, ..seen(&folder) });
    agree(&new, LOOP, number(50));
    assert_eq!(new.stats().programs, 0);
}

#[test]
fn snapshots_come_by_themselves() {
    let folder = Folder::new();
    let times = [(20, 0, 0), (0, 20, 0), (0, 0, 20)];
    for (snapshot_first_ms, snapshot_interval_ms, snapshot_idle_ms) in times {
        let config =
            Config { snapshot_first_ms, snapshot_interval_ms, snapshot_idle_ms, ..config(&folder) };
        let engine = engine(config);
        agree(&engine, LOOP, number(3));
        if snapshot_first_ms == 0 {
            // The program may be there already: then nobody has a reason to begin.
            agree(&engine, &format!("60{snapshot_idle_ms:02x} 5f 52 6020 5f f3"), number(3));
        }
        until(&engine, |stats| stats.store_snapshots >= 1);
    }
    let config = Config {
        snapshot_first_ms: 0,
        snapshot_interval_ms: 0,
        snapshot_idle_ms: 0,
        ..config(&folder)
    };
    let engine = engine(config);
    agree(&engine, "6001 5f 52 6020 5f f3", number(3));
    until(&engine, |stats| stats.store_saved == 1);
    assert_eq!(engine.stats().store_snapshots, 0);
}

#[test]
fn the_hottest_codes_are_loaded_first_as_far_as_there_is_room() {
    let folder = Folder::new();
    let codes: Vec<_> =
        (0..8).map(|nth| format!("60{nth:02x} 5f 52 6020 5f f3 {}", "5b".repeat(500))).collect();
    let used = {
        let engine = engine(config(&folder));
        let before = engine.code_bytes_used();
        codes.iter().for_each(|main| agree(&engine, main, number(0)));
        let used = engine.code_bytes_used() - before;
        // The sixth most, then the third.
        (0..400).for_each(|_| agree(&engine, &codes[6], number(0)));
        (0..200).for_each(|_| agree(&engine, &codes[3], number(0)));
        assert!(engine.flush_store(LONG) && engine.snapshot());
        used
    };
    // For about three.
    let code_bytes_max = used * 3 / 8 + (64 << 10 >> 3);
    let engine = engine(Config { code_bytes_max, ..config(&folder) });
    assert!(engine.preload() < 8);
    let loaded = engine.stats().store_hits;
    assert!((2..8).contains(&loaded), "{:?}", engine.stats());
    for nth in [6, 3] {
        agree(&engine, &codes[nth], number(0));
    }
    let stats = engine.stats();
    assert_eq!((stats.store_hits, stats.hits, stats.programs), (loaded, 2, 0), "{stats:?}");
}

#[test]
fn a_pause_puts_loading_off() {
    let folder = Folder::new();
    let codes: Vec<_> = (0..60).map(|nth| format!("60{nth:02x} 5f 52 6020 5f f3")).collect();
    {
        let engine = engine(config(&folder));
        codes.iter().for_each(|main| agree(&engine, main, number(0)));
    }
    let engine = engine(Config { store_preload: true, ..config(&folder) });
    let pause = engine.pause();
    assert_eq!(engine.preload(), 0);
    drop(pause);
    until(&engine, |stats| stats.store_hits == 60);
    assert_eq!(engine.stats().programs, 0);
}

#[test]
fn an_engine_loads_everything_when_it_is_made() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP, BRANCH]);
    for compile_threads in [0, 1] {
        let config = Config { store_preload: true, compile_threads, ..config(&folder) };
        let engine = engine(config);
        until(&engine, |stats| stats.store_hits == 2);
        engine.preload();
        agree(&engine, LOOP, number(3));
        agree(&engine, BRANCH, number(3));
        let stats = engine.stats();
        assert_eq!((stats.store_hits, stats.hits, stats.programs), (2, 2, 0), "{stats:?}");
    }
}
