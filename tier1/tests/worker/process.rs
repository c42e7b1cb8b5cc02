//! Requests, pools, and what is left of processes.

use kiln_abi::Pc;
use kiln_ir::{Config, Limits, SpecId, ssa::Choice};
use kiln_tier1::worker::{Executable, JobRequest, Pool, PoolConfig, Target};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Behind it a test that hangs is failed.
pub(super) const GUARD: Duration = Duration::from_secs(60);

/// A test of this executable.
pub(super) type Test = (&'static str, fn());

pub(super) fn job(what: impl Into<String>) -> JobRequest {
    let mut gas = [3; 256];
    gas[0x54] = 2100;
    JobRequest {
        bytecode: what.into().into_bytes(),
        config: Config { spec: SpecId::OSAKA, gas, replaced: [0x20, 0xfa].into_iter().collect() },
        limits: Limits::default(),
        counts: vec![(Pc(0), 100), (Pc(7), u64::MAX)],
        choice: Choice { hot: 96, regions_max: 4 },
        target: Target::Baseline,
        deadline_ms: GUARD.as_millis() as u32,
    }
}

/// A job whose time is over soon.
pub(super) fn short(what: impl Into<String>) -> JobRequest {
    JobRequest { deadline_ms: 50, ..job(what) }
}

/// Workers of this executable, without waits between failures.
pub(super) fn config() -> PoolConfig {
    PoolConfig {
        backoff_ms: 0,
        failures_max: u32::MAX,
        ..PoolConfig::new(Executable::find(None).expect("this executable serves"))
    }
}

pub(super) fn never() -> bool {
    false
}

/// Does a job that any worker can do.
pub(super) fn assert_serves(pool: &Pool) {
    let request = job("anything");
    let mut answer = pool.compile(&request, &never).expect("an answer");
    assert!(std::mem::take(&mut answer.cpu_ns) > 0);
    assert_eq!(answer, super::fake::answer(&request));
}

/// A worker that waits, by its process number.
pub(super) fn worker_pid(pool: &Pool) -> u32 {
    match pool.compile(&job("ask"), &never) {
        Err(kiln_tier1::worker::WorkerError::Refused(error)) => {
            error.to_string().parse().expect("a number")
        }
        other => panic!("{other:?}"),
    }
}

/// An executable file that runs a script of the shell.
pub(super) fn script(folder: &TempDir, text: &str) -> Executable {
    let path = folder.path().join("worker");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    Executable::Path(path)
}

pub(super) fn this() -> PathBuf {
    std::env::current_exe().expect("this executable")
}

/// Waits until something is there.
pub(super) fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + GUARD;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "it did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The number that a process wrote.
pub(super) fn pid_in(path: &Path) -> u32 {
    wait_for(|| fs::read_to_string(path).ok()).parse().expect("a number")
}

/// Whether a process runs, be it with one thread: one that no one reaped does not.
pub(super) fn is_running(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else { return false };
        // Behind the name, which is in parentheses.
        !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
    })
}

/// Runs a test; then there is no child, and no descriptor that was not there before.
pub(super) fn leaves_nothing_behind(test: impl FnOnce()) {
    let before = descriptors();
    test();
    assert_eq!(descriptors(), before, "descriptors");
    let child = rustix::process::wait(rustix::process::WaitOptions::NOHANG);
    assert_eq!(child.err(), Some(rustix::io::Errno::CHILD), "a child, or what is left of one");
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("the descriptors").count()
}
