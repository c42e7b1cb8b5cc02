//! A worker whose parent ends in the middle of a job.

use crate::process::{Test, config, is_running, job, never, pid_in, this, wait_for, worker_pid};
use kiln_tier1::worker::Pool;
use std::process::{Command, ExitCode};

const VARIABLE: &str = "KILN_TEST_PARENT";

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("a_worker_ends_with_its_parent", a_worker_ends_with_its_parent),
        (
            "a_worker_outlives_the_thread_that_started_it",
            a_worker_outlives_the_thread_that_started_it,
        ),
    ]
}

/// With the variable set, this executable is the parent: it waits for a job that has no end.
pub(super) fn parent() -> Option<ExitCode> {
    let path = std::env::var(VARIABLE).ok()?;
    let _ = Pool::new(config()).compile(&job(format!("hang {path}")), &never);
    Some(ExitCode::FAILURE)
}

fn a_worker_ends_with_its_parent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pid");
    let mut parent = Command::new(this()).env(VARIABLE, &path).spawn().expect("a parent");
    let worker = pid_in(&path);
    assert!(is_running(worker));
    parent.kill().expect("killed");
    parent.wait().expect("reaped");
    wait_for(|| (!is_running(worker)).then_some(()));
}

fn a_worker_outlives_the_thread_that_started_it() {
    let pool = Pool::new(config());
    let pid = std::thread::scope(|scope| scope.spawn(|| worker_pid(&pool)).join());
    assert_eq!(worker_pid(&pool), pid.expect("the thread"));
}
