//! What may happen to one job.

use crate::process::{
    Test, assert_serves, config, is_running, job, never, pid_in, short, wait_for, worker_pid,
};
use kiln_tier1::worker::{JobError, JobRequest, Pool, PoolConfig, WorkerError};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    cell::Cell,
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    sync::atomic::{AtomicBool, Ordering},
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("a_job_is_answered_with_all_that_was_asked", a_job_is_answered_with_all_that_was_asked),
        ("refusals_leave_the_worker_as_it_is", refusals_leave_the_worker_as_it_is),
        ("a_child_killed_in_the_middle", a_child_killed_in_the_middle),
        ("a_child_that_hangs", a_child_that_hangs),
        ("a_child_over_its_memory", a_child_over_its_memory),
        ("a_child_that_aborts", a_child_that_aborts),
        ("a_compiler_that_panics", a_compiler_that_panics),
        ("a_child_that_overflows_its_stack", a_child_that_overflows_its_stack),
        ("a_child_that_exits", a_child_that_exits),
        ("garbage_in_the_stream", garbage_in_the_stream),
        ("a_length_over_the_limit", a_length_over_the_limit),
        ("a_part_of_a_frame", a_part_of_a_frame),
        ("the_answer_to_another_job", the_answer_to_another_job),
        ("printing_harms_no_one", printing_harms_no_one),
        ("answers_that_can_not_be_are_refusals", answers_that_can_not_be_are_refusals),
        ("requests_over_the_limit_go_nowhere", requests_over_the_limit_go_nowhere),
        ("the_deadline_is_for_the_compiler_first", the_deadline_is_for_the_compiler_first),
        ("called_off_jobs_keep_a_worker_that_listens", called_off_jobs_keep_a_worker_that_listens),
        ("neighbours_finish", neighbours_finish),
        ("limits_are_set", limits_are_set),
    ]
}

fn fail(pool: &Pool, request: &JobRequest) -> WorkerError {
    pool.compile(request, &never).expect_err("no answer")
}

/// The job fails, and the next one is served by a new child.
fn costs_one_job(request: &JobRequest) -> WorkerError {
    costs_one_job_of(config(), request)
}

fn costs_one_job_of(config: PoolConfig, request: &JobRequest) -> WorkerError {
    let pool = Pool::new(config);
    assert_serves(&pool);
    let pid = worker_pid(&pool);
    let error = fail(&pool, request);
    assert!(!is_running(pid));
    assert_serves(&pool);
    assert_ne!(worker_pid(&pool), pid);
    assert_eq!(pool.stats().started, 2);
    error
}

fn crash(error: &WorkerError) -> (ExitStatus, &str) {
    match error {
        WorkerError::Crashed { status: Some(status), stderr } => (*status, stderr),
        other => panic!("{other:?}"),
    }
}

fn a_job_is_answered_with_all_that_was_asked() {
    let pool = Pool::new(config());
    (0..20).for_each(|_| assert_serves(&pool));
    let stats = pool.stats();
    assert_eq!((stats.started, stats.answered, stats.idle), (1, 20, 1));
}

fn refusals_leave_the_worker_as_it_is() {
    let pool = Pool::new(config());
    let pid = worker_pid(&pool);
    let error = fail(&pool, &job("refuse for a reason"));
    assert!(matches!(error, WorkerError::Refused(JobError::Failed(why)) if why == "for a reason"));
    let error = fail(&pool, &job("large 7"));
    assert!(matches!(error, WorkerError::Refused(JobError::TooLarge(why)) if why == "7"));
    assert_eq!(worker_pid(&pool), pid);
    assert_eq!(pool.stats().failed, 0);
}

fn a_child_killed_in_the_middle() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pid");
    let killed = Cell::new(false);
    let pool = Pool::new(config());
    // The caller is asked while the job runs: a place to kill it from.
    let kill = || {
        if !killed.get() && path.exists() {
            let pid = Pid::from_raw(pid_in(&path) as i32).expect("a process");
            kill_process(pid, Signal::KILL).expect("killed");
            killed.set(true);
        }
        false
    };
    let request = job(format!("hang {}", path.display()));
    let error = pool.compile(&request, &kill).expect_err("no answer");
    assert_eq!(crash(&error).0.signal(), Some(9));
    assert_serves(&pool);
    // By its own hand.
    assert_eq!(crash(&costs_one_job(&job("kill"))).0.signal(), Some(9));
}

fn a_child_that_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let request = short(format!("hang {}", folder.path().join("pid").display()));
    assert!(matches!(costs_one_job(&request), WorkerError::Deadline));
}

fn a_child_over_its_memory() {
    let config = PoolConfig { memory_bytes_max: 128 << 20, ..config() };
    let pool = Pool::new(config.clone());
    let error = fail(&pool, &job(format!("memory {}", 8 << 20)));
    assert!(matches!(error, WorkerError::Refused(_)), "{error:?}");
    let error = costs_one_job_of(config, &job(format!("memory {}", 512 << 20)));
    let (status, stderr) = crash(&error);
    assert_eq!(status.signal(), Some(6));
    assert!(stderr.contains("allocation"), "{stderr}");
    assert!(!status.core_dumped());
}

fn a_child_that_aborts() {
    let error = costs_one_job(&job("abort"));
    let (status, stderr) = crash(&error);
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    assert!(
        stderr.starts_with("the first words") && stderr.ends_with("the last words"),
        "{stderr}"
    );
    assert!(stderr.len() <= 4096);
}

fn a_compiler_that_panics() {
    let error = costs_one_job(&job("panic"));
    let (status, stderr) = crash(&error);
    assert_eq!(status.code(), Some(101));
    assert!(stderr.contains("a panic in the compiler"), "{stderr}");
    assert!(error.to_string().contains("a panic in the compiler"));
}

fn a_child_that_overflows_its_stack() {
    let error = costs_one_job(&job("recurse"));
    let (status, stderr) = crash(&error);
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    assert!(stderr.contains("overflowed its stack"), "{stderr}");
}

fn a_child_that_exits() {
    assert_eq!(crash(&costs_one_job(&job("exit"))).0.code(), Some(7));
}

fn garbage_in_the_stream() {
    let error = costs_one_job(&job("garbage"));
    assert!(
        matches!(error, WorkerError::TooLong { .. } | WorkerError::Garbage { .. }),
        "{error:?}"
    );
}

fn a_length_over_the_limit() {
    let error = costs_one_job(&job("oversized"));
    assert!(
        matches!(error, WorkerError::TooLong { what: "answer", bytes: 0xffff_ffff, .. }),
        "{error:?}"
    );
}

fn a_part_of_a_frame() {
    assert_eq!(crash(&costs_one_job(&job("truncated"))).0.code(), Some(0));
}

fn the_answer_to_another_job() {
    assert!(matches!(costs_one_job(&job("other")), WorkerError::Garbage { .. }));
}

fn printing_harms_no_one() {
    let pool = Pool::new(config());
    for what in ["print", "chatter"] {
        let answer = pool.compile(&job(what), &never).expect("an answer");
        assert_eq!(answer.objects, super::fake::answer(&job(what)).objects);
    }
    assert_serves(&pool);
    assert_eq!(pool.stats().started, 1);
    // What was written during a job that went well is not told of another one.
    worker_pid(&pool);
    let error = fail(&pool, &job("exit"));
    assert_eq!(crash(&error).1, "");
}

fn answers_that_can_not_be_are_refusals() {
    let pool = Pool::new(PoolConfig { answer_bytes_max: 1 << 20, ..config() });
    let too_large = |error| matches!(error, WorkerError::Refused(JobError::TooLarge(_)));
    // More than so many instructions may be compiled to; more than a message may have.
    assert!(too_large(fail(&pool, &job("huge 900000"))));
    let free = kiln_ir::Limits::NONE;
    assert!(too_large(fail(&pool, &JobRequest { limits: free, ..job("huge 1100000") })));
    let error = fail(&pool, &job("broken"));
    assert!(matches!(error, WorkerError::Refused(JobError::Failed(_))), "{error:?}");
    assert_serves(&pool);
    assert_eq!(pool.stats().started, 1);
}

fn requests_over_the_limit_go_nowhere() {
    let pool = Pool::new(PoolConfig { request_bytes_max: 4096, ..config() });
    let error = fail(&pool, &job("x".repeat(4096)));
    assert!(matches!(error, WorkerError::TooLong { what: "request", .. }), "{error:?}");
    assert_eq!(pool.stats().started, 0);
    assert_serves(&pool);
}

fn the_deadline_is_for_the_compiler_first() {
    let pool = Pool::new(PoolConfig { grace_ms: 60_000, ..config() });
    let pid = worker_pid(&pool);
    assert!(matches!(fail(&pool, &short("wait")), WorkerError::Deadline));
    // An answer in the grace is one.
    let request = short("late");
    let answer = pool.compile(&request, &never).expect("an answer");
    assert_eq!(answer.objects, super::fake::answer(&request).objects);
    assert_eq!(worker_pid(&pool), pid);
    assert_eq!(pool.stats().killed, 0);
}

fn called_off_jobs_keep_a_worker_that_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pid");
    // Once the compiler has the job.
    let cancelled = || path.exists();
    let pool = Pool::new(PoolConfig { grace_ms: 60_000, ..config() });
    let request = job(format!("pid {}", path.display()));
    let error = pool.compile(&request, &cancelled).expect_err("called off");
    assert!(matches!(error, WorkerError::Cancelled));
    assert_eq!(worker_pid(&pool), pid_in(&path));
    std::fs::remove_file(&path).expect("removed");

    // And end one that does not.
    let pool = Pool::new(PoolConfig { grace_ms: 20, ..config() });
    let request = job(format!("hang {}", path.display()));
    let error = pool.compile(&request, &cancelled).expect_err("called off");
    assert!(matches!(error, WorkerError::Cancelled));
    assert!(!is_running(pid_in(&path)));
    assert_serves(&pool);
    let stats = pool.stats();
    assert_eq!((stats.killed, stats.failed), (1, 0));
}

fn neighbours_finish() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pid");
    let pool = Pool::new(PoolConfig { grace_ms: 60_000, ..config() });
    let finish = AtomicBool::new(false);
    // It has an answer as soon as it is told to come to an end, by its deadline.
    let request = JobRequest { deadline_ms: 3000, ..job(format!("pid {}", path.display())) };
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let answer = pool.compile(&request, &never);
            finish.store(true, Ordering::SeqCst);
            answer.map(|answer| answer.objects)
        });
        let pid = pid_in(&path);
        let mut crashes = 0;
        wait_for(|| {
            for what in ["abort", "garbage", "exit", "kill"] {
                assert!(fail(&pool, &job(what)).to_string().len() > 5);
                crashes += 1;
                assert!(is_running(pid) || finish.load(Ordering::SeqCst));
            }
            finish.load(Ordering::SeqCst).then_some(())
        });
        let answer = neighbour.join().expect("the thread").expect("an answer");
        assert_eq!(answer, super::fake::answer(&request).objects);
        assert!(crashes >= 4);
        assert_eq!(pool.stats().failed, crashes);
    });
    assert_serves(&pool);
}

fn limits_are_set() {
    let pool = Pool::new(config());
    let error = fail(&pool, &job("limits"));
    let WorkerError::Refused(JobError::Failed(limits)) = error else { panic!("{error:?}") };
    let nice = rustix::process::getpriority_process(None).expect("a priority") + 10;
    let nice = nice.min(19);
    assert_eq!(limits, format!("core Some(0) memory true cpu true nice {nice}"));
}
