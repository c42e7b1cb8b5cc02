//! From requests to programs: bounds, duplicates, wake-ups, ages.

use super::*;
use crate::hooks::CompileThread;

#[test]
fn what_is_asked_for_is_compiled() {
    let rig = Rig::easy(config());
    let code = code();
    assert_eq!(rig.ask(&code), Requested::Asked);
    rig.until("compiled", |stats| stats.jobs_compiled == 1);
    assert_eq!((count(&code.compiled), count(&code.published)), (1, 1));
    assert_eq!(code.ticket.quota().attempts, 1);
    // It may be asked for again.
    rig.until("idle", |_| !code.ticket.is_taken());
    assert_eq!(rig.ask(&code), Requested::Asked);
    rig.until("compiled again", |stats| stats.jobs_compiled == 2);
}

#[test]
fn no_thread_starts_before_there_is_work_or_if_there_are_to_be_none() {
    let rig = Rig::easy(config());
    assert!(rig.backend.0.jobs().backend.is_none());
    let code = code();
    for none in
        [BackendConfig { threads: 0, ..config() }, BackendConfig { enabled: false, ..config() }]
    {
        let rig = Rig::easy(none.clone());
        let expected =
            if none.enabled { Requested::Here } else { Requested::Refused(Refusal::Off) };
        assert_eq!(rig.ask(&code), expected);
        assert_eq!(rig.backend.compile_here(&code, TIER).is_ok(), none.enabled);
        assert!(!rig.backend.sweep_soon());
        let jobs = rig.backend.0.jobs();
        assert!(jobs.backend.is_none() && jobs.workers.is_empty());
    }
    assert_eq!(count(&code.published), 1);
}

#[test]
fn a_hundred_requests_from_four_threads_are_one_compilation() {
    let (rig, step) = stepwise(config());
    let code = code();
    rig.ask(&code);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| drop(rig.ask(&code))));
        }
    });
    step.go_on.send(Ok(())).unwrap();
    // Those that came while it ran are one more compilation, together.
    drop(step.go_on);
    rig.until("over", |stats| stats.jobs_compiled >= 1 && !code.ticket.is_taken());
    assert!(count(&code.compiled) <= 2, "{}", count(&code.compiled));
    assert!(rig.stats().jobs_deduped >= 99);
}

#[test]
fn what_is_noted_before_a_request_is_seen_by_a_later_compilation() {
    let rig = Rig::easy(BackendConfig { threads: 2, ..config() });
    let code = code();
    for round in 1..=1000 {
        code.noted.store(round, Ordering::Relaxed);
        rig.ask(&code);
    }
    rig.until("over", |_| !code.ticket.is_taken());
    assert_eq!(count(&code.saw), 1000);
}

#[test]
fn a_request_while_it_runs_is_another_compilation() {
    let (rig, step) = stepwise(config());
    let code = code();
    rig.ask(&code);
    step.began.recv().unwrap();
    assert_eq!(rig.ask(&code), Requested::Known);
    step.go_on.send(Ok(())).unwrap();
    step.began.recv().unwrap();
    step.go_on.send(Ok(())).unwrap();
    rig.until("both", |stats| stats.jobs_compiled == 2);
}

#[test]
fn a_flood_of_events_is_bounded_and_loses_only_what_it_counts() {
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    let rig = Rig::easy(BackendConfig { event_queue_len: 64, job_queue_len: 1 << 20, ..config() });
    let all = codes(THREADS * EACH);
    let refused: usize = thread::scope(|scope| {
        let flood = |codes: &[Arc<Code>]| {
            let ask = |code| match rig.ask(code) {
                Requested::Asked => 0,
                Requested::Refused(Refusal::QueueFull) => 1,
                other => panic!("{other:?}"),
            };
            assert!(rig.stats().events_waiting <= 64);
            codes.iter().map(ask).sum::<usize>()
        };
        let threads: Vec<_> =
            all.chunks(EACH).map(|codes| scope.spawn(move || flood(codes))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let accepted = (THREADS * EACH - refused) as u64;
    rig.until("all that were accepted", |stats| stats.jobs_compiled == accepted);
    let stats = rig.stats();
    assert_eq!((stats.events_accepted, stats.events_dropped), (accepted, refused as u64));
    assert_eq!((stats.events_waiting, stats.jobs_waiting), (0, 0));
    assert_eq!(all.iter().map(|code| count(&code.published)).sum::<usize>() as u64, accepted);
    assert!(all.iter().all(|code| !code.ticket.is_taken()), "those dropped may ask again");
}

#[test]
fn a_parked_backend_is_woken_by_each_of_many_requests() {
    let rig = Rig::easy(config());
    for round in 1..=200 {
        assert_eq!(rig.ask(&code()), Requested::Asked);
        rig.until("woken", |stats| stats.jobs_compiled == round);
    }
}

#[test]
fn a_backend_that_lingers_needs_no_waking() {
    let rig = Rig::easy(BackendConfig { linger_rounds: u32::MAX, ..config() });
    for round in 1..=20 {
        rig.ask(&code());
        rig.until("compiled", |stats| stats.jobs_compiled == round);
    }
}

#[test]
fn a_full_job_queue_drops_and_counts() {
    let (rig, step) = stepwise(BackendConfig { job_queue_len: 2, ..config() });
    let all = codes(5);
    rig.ask(&all[0]);
    step.began.recv().unwrap();
    all[1..].iter().for_each(|code| assert_eq!(rig.ask(code), Requested::Asked));
    rig.until("dropped", |stats| stats.jobs_dropped == 2);
    assert_eq!(rig.stats().jobs_waiting, 2);
    // Control calls answer at once.
    assert_eq!(rig.backend.compile(&code(), TIER), Err(Refusal::QueueFull));
    assert_eq!(rig.compile_wait(&code()), Err(Refusal::QueueFull));
    drop(step.go_on);
    rig.until("the others", |stats| stats.jobs_compiled == 3);
    assert!(all.iter().all(|code| !code.ticket.is_taken() || count(&code.published) == 1));
}

#[test]
fn a_job_that_waited_too_long_is_dropped() {
    let (rig, step) = stepwise(config());
    let (first, stale, named) = (code(), code(), code());
    rig.ask(&first);
    step.began.recv().unwrap();
    rig.ask(&stale);
    rig.backend.compile(&named, TIER).unwrap();
    rig.until("queued", |stats| stats.jobs_waiting == 2);
    rig.advance(rig.backend.0.config.deadline_ms as u64);
    assert_eq!(rig.stats().jobs_aged, 0);
    step.go_on.send(Ok(())).unwrap();
    step.began.recv().unwrap();
    rig.advance(1 + rig.backend.0.config.job_age_ms_max as u64);
    rig.until("aged", |stats| stats.jobs_aged == 1);
    assert!(!stale.ticket.is_taken(), "it may be asked for again");
    assert_eq!(count(&stale.compiled), 0);
    drop(step.go_on);
}

#[test]
fn a_subject_rests_between_attempts_without_being_asked_for() {
    let quota = QuotaConfig { cooldown_ms: 50, ..QuotaConfig::default() };
    let rig = Rig::easy(BackendConfig { quota, ..config() });
    let code = code();
    rig.ask(&code);
    rig.until("compiled", |stats| stats.jobs_compiled == 1);
    assert_eq!(rig.ask(&code), Requested::Asked);
    rig.until("put off", |stats| stats.jobs_waiting == 1 && stats.events_waiting == 0);
    assert_eq!(rig.ask(&code), Requested::Known);
    rig.advance(49);
    assert_eq!(rig.stats().jobs_compiled, 1);
    rig.advance(1);
    rig.until("compiled again", |stats| stats.jobs_compiled == 2);
}

#[test]
fn the_calling_thread_compiles_under_the_same_rules() {
    let quota = QuotaConfig { cooldown_ms: 50, ..QuotaConfig::default() };
    let rig = Rig::new(BackendConfig { quota, ..config() }, |_, job| {
        assert_eq!(job.thread(), CompileThread::Calling);
        Ok(())
    });
    let code = code();
    assert_eq!(rig.backend.compile_here(&code, TIER), Ok(()));
    // Too soon: from here on it waits for its time, and nobody has to look at a clock.
    assert_eq!(rig.backend.compile_here(&code, TIER), Err(Refusal::TooSoon));
    assert!(code.ticket.is_taken());
    assert_eq!(rig.stats().jobs_compiled, 1);
    assert!(rig.stats().events_accepted == 1);
}

#[test]
fn sweeps_come_at_their_interval_and_when_wanted() {
    let rig = Rig::easy(config());
    let sweeps = |n| move |stats: &BackendStats| stats.sweeps == n;
    assert!(rig.backend.sweep_soon());
    rig.until("wanted", sweeps(1));
    rig.advance(999);
    rig.backend.compile_wait(&code(), TIER, LONG).unwrap();
    rig.advance(1000);
    rig.until("interval", |stats| stats.sweeps >= 2);
    let pause = rig.backend.pause();
    let before = rig.stats().sweeps;
    assert!(rig.backend.sweep_soon());
    drop(pause);
    rig.advance(1000);
    rig.until("after the pause", |stats| stats.sweeps > before);
    rig.until("as counted", |stats| stats.sweeps == count(&rig.work.sweeps) as u64);
}
