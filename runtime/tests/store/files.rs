//! When the store is written, and what happens when it can not be.

use crate::{
    BRANCH, Folder, LONG, LOOP, agree, config, engine, files_in, number, reader, until, written,
};
use kiln_runtime::{Config, Engine, EngineError, StoreMode};
use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

/// What is written to the log, by any thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("nobody else listens");
        log
    })
}

/// Warnings that name this path.
fn warnings(path: &Path) -> Vec<String> {
    let text = String::from_utf8(log().0.lock().unwrap().clone()).unwrap();
    let path = path.display().to_string();
    text.lines().filter(|line| line.contains(&path)).map(str::to_owned).collect()
}

/// Every file below a folder, with its times and length.
fn state(folder: &Path) -> Vec<(PathBuf, u64, i64, i64, u32)> {
    let mut all = Vec::new();
    for path in files_in(folder) {
        let data = fs::symlink_metadata(&path).unwrap();
        if data.is_dir() {
            all.extend(state(&path));
        }
        all.push((path, data.len(), data.mtime(), data.mtime_nsec(), data.mode()));
    }
    all.sort();
    all
}

#[test]
fn programs_are_saved_soon_and_once() {
    let folder = Folder::new();
    let engine = engine(config(&folder));
    agree(&engine, LOOP, number(3));
    until(&engine, |stats| stats.store_saved == 1);
    assert_eq!(folder.artifacts().len(), 1);
    assert!(engine.flush_store(LONG));
    let stats = engine.stats();
    assert_eq!((stats.store_saved, stats.store_dropped), (1, 0), "{stats:?}");
    let stopped = engine.shutdown(LONG);
    assert_eq!((stopped.joined, stopped.detached), (1, 0));
    assert!(engine.stats().store_cpu_ns > 0);
    assert!(!engine.flush_store(LONG), "nothing is written any more");
}

#[test]
fn what_finds_no_room_in_the_queue_is_saved_later() {
    let folder = Folder::new();
    let engine = engine(Config { event_queue_len: 1, ..config(&folder) });
    let codes: Vec<_> = (0..40).map(|nth| format!("60{nth:02x} 5f 52 6020 5f f3")).collect();
    codes.iter().for_each(|main| agree(&engine, main, number(0)));
    assert!(engine.stats().store_dropped > 0, "{:?}", engine.stats());
    until(&engine, |stats| stats.store_saved == 40);
    assert_eq!(folder.artifacts().len(), 40);
}

#[test]
fn what_was_not_saved_is_saved_at_the_end() {
    let folder = Folder::new();
    {
        let engine = engine(config(&folder));
        agree(&engine, LOOP, number(3));
        agree(&engine, BRANCH, number(3));
    }
    assert_eq!(folder.artifacts().len(), 2);
}

#[test]
fn a_reader_writes_nothing() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let before = state(&folder.path());
    {
        let engine = engine(reader(&folder));
        agree(&engine, LOOP, number(3));
        agree(&engine, BRANCH, number(3));
        assert!(!engine.flush_store(LONG) && !engine.snapshot());
        let stats = engine.stats();
        assert_eq!((stats.store_hits, stats.programs, stats.store_saved), (1, 1, 0), "{stats:?}");
        let stopped = engine.shutdown(LONG);
        assert_eq!((stopped.joined, stopped.detached), (0, 0), "it has no thread");
    }
    assert_eq!(state(&folder.path()), before);
}

#[test]
fn a_reader_needs_a_store() {
    let folder = Folder::new();
    let error = Engine::new(reader(&folder)).map(drop).unwrap_err();
    assert!(matches!(error, EngineError::Store(_)), "{error}");
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    assert!(!folder.path().exists());
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for config in [config(&folder), reader(&folder)] {
        let error = Engine::new(config).map(drop).unwrap_err();
        assert!(matches!(error, EngineError::Store(_)), "{error}");
        assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    }
}

#[test]
fn it_may_be_written_at_the_end_only() {
    let folder = Folder::new();
    let config = Config { store_mode: StoreMode::WriteOnShutdown, ..config(&folder) };
    {
        let engine = engine(config.clone());
        let before = state(&folder.path());
        agree(&engine, LOOP, number(3));
        agree(&engine, BRANCH, number(3));
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(state(&folder.path()), before);
        assert_eq!(engine.stats().store_saved, 0);
        let stopped = engine.shutdown(LONG);
        assert_eq!((stopped.joined, stopped.detached), (1, 0));
        assert_eq!((engine.stats().store_saved, engine.stats().store_snapshots), (2, 1));
    }
    assert_eq!(folder.artifacts().len(), 2);
    let engine = engine(config);
    agree(&engine, LOOP, number(3));
    assert_eq!((engine.stats().store_hits, engine.stats().programs), (1, 0));
}

#[test]
fn after_a_lasting_error_nothing_is_written_and_all_goes_on() {
    log();
    let folder = Folder::new();
    written(config(&folder), &[LOOP]);
    let engine = engine(config(&folder));
    // Where files are written first.
    fs::remove_dir_all(folder.path().join("tmp")).unwrap();
    agree(&engine, BRANCH, number(3));
    assert!(!engine.flush_store(LONG));
    let stats = engine.stats();
    assert_eq!((stats.store_errors, stats.store_saved), (1, 0), "{stats:?}");
    // Loading and executing go on; nothing more is tried.
    agree(&engine, LOOP, number(3));
    agree(&engine, "6003 5f 52 6020 5f f3", number(3));
    assert!(!engine.flush_store(LONG) && !engine.snapshot());
    let stats = engine.stats();
    assert_eq!((stats.store_hits, stats.programs, stats.store_errors), (1, 2, 1), "{stats:?}");
    drop(engine);
    let warnings = warnings(&folder.path());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("nothing is written to the store any more"), "{warnings:?}");
}

#[test]
fn a_store_that_is_gone_stops_nothing() {
    let folder = Folder::new();
    written(config(&folder), &[LOOP, BRANCH]);
    let engine = engine(config(&folder));
    agree(&engine, LOOP, number(3));
    fs::remove_dir_all(folder.path()).unwrap();
    agree(&engine, BRANCH, number(3));
    let stats = engine.stats();
    assert_eq!((stats.store_hits, stats.programs), (1, 1), "{stats:?}");
    assert!(!engine.flush_store(LONG));
    agree(&engine, BRANCH, number(4));
}

#[test]
fn while_nothing_is_executed_the_store_is_tidied_up() {
    let folder = Folder::new();
    let codes: Vec<_> =
        (0..200).map(|nth| format!("60{nth:02x} 5f 52 6020 5f f3 {}", "5b".repeat(2000))).collect();
    let config = Config { store_bytes_max: 1 << 20, snapshot_idle_ms: 20, ..config(&folder) };
    let engine = engine(config);
    codes.iter().for_each(|main| agree(&engine, main, number(0)));
    assert!(engine.flush_store(LONG));
    let bytes = || -> u64 {
        folder.artifacts().iter().map(|path| fs::metadata(path).map_or(0, |data| data.len())).sum()
    };
    assert!(bytes() > 1 << 20, "{}", bytes());
    until(&engine, |stats| stats.store_collected > 0);
    until(&engine, |_| bytes() <= 1 << 20);
    assert!(engine.stats().store_snapshots > 0);
    // What is gone is compiled again by another one, and what is there is loaded.
    drop(engine);
    let again = crate::engine(Config { store_mode: StoreMode::ReadOnly, ..crate::config(&folder) });
    codes.iter().for_each(|main| agree(&again, main, number(0)));
    let stats = again.stats();
    assert_eq!(stats.store_hits + stats.programs, 200, "{stats:?}");
    assert_eq!(stats.store_hits, folder.artifacts().len() as u64, "{stats:?}");
}
