//! Many jobs: back-off, pauses, the list of those that wait.

use crate::process::{
    GUARD, Test, assert_serves, config, is_running, job, never, script, wait_for, worker_pid,
};
use kiln_tier1::worker::{Pool, PoolConfig, WorkerError};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("back_off_holds", back_off_holds),
        ("too_many_failures_are_a_pause", too_many_failures_are_a_pause),
        ("workers_that_wait_are_used_in_a_pause", workers_that_wait_are_used_in_a_pause),
        ("a_worker_that_ended_while_it_waited", a_worker_that_ended_while_it_waited),
        ("dropping_a_pool_ends_its_workers", dropping_a_pool_ends_its_workers),
        ("as_many_workers_as_threads_and_places", as_many_workers_as_threads_and_places),
        ("workers_that_wait_for_long_are_ended", workers_that_wait_for_long_are_ended),
        ("processes_are_replaced_in_time", processes_are_replaced_in_time),
        ("many_threads_many_failures", many_threads_many_failures),
        ("a_probe_starts_a_worker", a_probe_starts_a_worker),
    ]
}

const HOUR_MS: u32 = 3_600_000;

fn crash(pool: &Pool) {
    let error = pool.compile(&job("exit"), &never).expect_err("a crash");
    assert!(matches!(error, WorkerError::Crashed { .. }), "{error:?}");
}

fn back_off_holds() {
    let config = PoolConfig { backoff_ms: HOUR_MS, backoff_ms_max: HOUR_MS, ..config() };
    let pool = Pool::new(config);
    crash(&pool);
    // Now it waits, for as long as the caller does.
    let asked = Cell::new(0);
    let cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 20
    };
    let error = pool.compile(&job("anything"), &cancelled).expect_err("no worker");
    assert!(matches!(error, WorkerError::Cancelled));
    let stats = pool.stats();
    assert_eq!((stats.started, stats.failed, asked.get()), (1, 1, 21));
    // With a wait that ends, there is a worker behind it.
    let pool = Pool::new(PoolConfig { backoff_ms: 20, ..crate::process::config() });
    crash(&pool);
    crash(&pool);
    assert_serves(&pool);
    assert_eq!(pool.stats().started, 3);
}

fn too_many_failures_are_a_pause() {
    let pool = Pool::new(PoolConfig { failures_max: 3, pause_ms: HOUR_MS, ..config() });
    (0..3).for_each(|_| crash(&pool));
    let before = Instant::now();
    for _ in 0..3 {
        match pool.compile(&job("anything"), &never) {
            Err(WorkerError::Unavailable { until }) => {
                assert!(until > before && until < before + Duration::from_millis(HOUR_MS.into()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((pool.stats().started, pool.stats().failed), (3, 3));
    // A success in between begins the count anew; and a pause ends.
    let pool = Pool::new(PoolConfig { failures_max: 2, pause_ms: 20, ..config() });
    for _ in 0..3 {
        crash(&pool);
        assert_serves(&pool);
    }
    (0..2).for_each(|_| crash(&pool));
    wait_for(|| pool.compile(&job("anything"), &never).ok());
    assert_serves(&pool);
}

fn workers_that_wait_are_used_in_a_pause() {
    let config = PoolConfig { failures_max: 1, pause_ms: HOUR_MS, grace_ms: 60_000, ..config() };
    let pool = Pool::new(config);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pid");
    std::thread::scope(|scope| {
        // Two at a time, so that there are two.
        let first = scope.spawn(|| {
            let cancelled = || path.exists() && pool.stats().answered > 0;
            let request = job(format!("pid {}", path.display()));
            assert!(pool.compile(&request, &cancelled).is_err());
        });
        wait_for(|| path.exists().then_some(()));
        assert_serves(&pool);
        first.join().expect("the thread");
    });
    // The first one answered in its grace.
    assert_eq!(pool.stats().idle, 2);
    crash(&pool);
    assert_serves(&pool);
    let stats = pool.stats();
    assert_eq!((stats.started, stats.failed, stats.idle), (2, 1, 1));
}

fn a_worker_that_ended_while_it_waited() {
    let pool = Pool::new(config());
    let pid = worker_pid(&pool);
    kill_process(Pid::from_raw(pid as i32).expect("a process"), Signal::KILL).expect("killed");
    wait_for(|| (!is_running(pid)).then_some(()));
    assert_serves(&pool);
    let stats = pool.stats();
    assert_eq!((stats.started, stats.failed), (2, 0));
}

fn dropping_a_pool_ends_its_workers() {
    let pool = Pool::new(config());
    let pid = worker_pid(&pool);
    assert!(is_running(pid));
    drop(pool);
    assert!(!is_running(pid));
}

fn as_many_workers_as_threads_and_places() {
    let pool = Pool::new(PoolConfig { idle_max: 2, ..config() });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10).for_each(|_| assert_serves(&pool)));
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.answered, stats.failed), (40, 0));
    assert!(stats.idle <= 2);
}

fn workers_that_wait_for_long_are_ended() {
    let pool = Pool::new(config());
    let pid = worker_pid(&pool);
    assert_eq!(pool.trim(GUARD), 0);
    assert!(is_running(pid));
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!((pool.trim(Duration::ZERO), pool.stats().idle), (1, 0));
    assert!(!is_running(pid));
    assert_serves(&pool);
}

fn processes_are_replaced_in_time() {
    let pool = Pool::new(PoolConfig { jobs_max: 3, ..config() });
    (0..9).for_each(|_| assert_serves(&pool));
    assert_eq!(pool.stats().started, 3);
}

fn many_threads_many_failures() {
    let pool = Pool::new(config());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..8 {
                    let what = ["exit", "garbage", "abort", "refuse"][(thread + round) % 4];
                    assert!(pool.compile(&job(what), &never).is_err());
                    assert_serves(pool);
                }
            });
        }
    });
    let stats = pool.stats();
    assert_eq!((stats.answered, stats.failed), (32 + 8, 24));
}

fn a_probe_starts_a_worker() {
    let pool = Pool::new(config());
    pool.probe(&never).expect("a worker");
    pool.probe(&never).expect("the same");
    assert_serves(&pool);
    assert_eq!(pool.stats().started, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let executable = script(&folder, "exit 2");
    let pool = Pool::new(PoolConfig { executable, ..config() });
    assert!(matches!(pool.probe(&never), Err(WorkerError::Handshake { .. })));
}
