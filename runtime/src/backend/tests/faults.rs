//! Compilers that misbehave, each in its own way.

use super::*;
use std::{any::Any, panic::resume_unwind, sync::Barrier};

/// A panic without the hook, which may print for minutes where backtraces are switched on.
fn throw(what: impl Any + Send) -> ! {
    resume_unwind(Box::new(what))
}

#[test]
fn a_panic_costs_one_job() {
    let rig = Rig::new(config(), |code, _| match count(&code.noted) {
        0 => Ok(()),
        1 => throw("stack of cards"),
        2 => throw("a string".to_owned()),
        _ => throw(7u8),
    });
    let bad = [code(), code(), code()];
    (1..).zip(&bad).for_each(|(n, code)| code.noted.store(n, Ordering::Relaxed));
    let why = |code| rig.compile_wait(code).unwrap_err().to_string();
    assert_eq!(why(&bad[0]), "the compiler panicked: stack of cards");
    assert_eq!(why(&bad[1]), "the compiler panicked: a string");
    assert_eq!(why(&bad[2]), "the compiler panicked: for no stated reason");
    assert_eq!(rig.compile_wait(&code()), Ok(()), "the thread goes on");
    let stats = rig.stats();
    assert_eq!((stats.jobs_panicked, stats.jobs_failed, stats.jobs_compiled), (3, 3, 1));
    assert_eq!(stats.workers_abandoned, 0);
}

#[test]
fn a_panic_on_the_calling_thread_is_contained_too() {
    let rig = Rig::new(BackendConfig { threads: 0, ..config() }, |_, _| throw("here"));
    let code = code();
    let refusal = rig.backend.compile_here(&code, TIER).unwrap_err();
    assert_eq!(refusal.to_string(), "the compiler panicked: here");
    assert!(!code.ticket.is_taken());
}

#[test]
fn failures_are_tried_again_ever_later_and_then_never() {
    let quota = QuotaConfig { cooldown_ms: 10, backoff_ms_max: 60_000, attempts_max: 3 };
    let rig = Rig::new(BackendConfig { quota, ..config() }, |code, _| {
        Err(Failure::Failed(format!("attempt {}", count(&code.compiled)).into()))
    });
    let code = code();
    for (attempt, wait_ms) in [(1, 20), (2, 40)] {
        assert_eq!(rig.ask(&code), Requested::Asked);
        rig.until("failed", |stats| stats.jobs_failed == attempt && !code.ticket.is_taken());
        assert_eq!(code.ticket.quota().not_before_ms, rig.now_ms.load(Ordering::Relaxed) + wait_ms);
        assert_eq!(code.ticket.quarantined(), None);
        rig.advance(wait_ms);
    }
    assert_eq!(rig.ask(&code), Requested::Asked);
    rig.until("quarantined", |stats| stats.quarantined == 1);
    rig.until("barred", |_| code.ticket.is_taken());
    assert_eq!(code.ticket.quarantined().map(|why| &**why), Some("attempt 3"));
    let refusal = Refusal::Quarantined("attempt 3".into());
    rig.until("refused", |_| rig.ask(&code) == Requested::Refused(refusal.clone()));
    assert_eq!(rig.compile_wait(&code), Err(refusal.clone()));
    assert_eq!(rig.backend.compile(&code, TIER), Err(refusal));
    assert_eq!(count(&code.compiled), 3);
}

#[test]
fn some_failures_are_final_at_once_and_others_never() {
    let rig = Rig::new(config(), |code, _| {
        Err(match count(&code.noted) {
            0 => Failure::Hopeless("over a limit".into()),
            _ => Failure::Unused("full".into()),
        })
    });
    let (hopeless, unlucky) = (code(), code());
    unlucky.noted.store(1, Ordering::Relaxed);
    assert_eq!(rig.compile_wait(&hopeless), Err(Refusal::Failed("over a limit".into())));
    assert_eq!(rig.compile_wait(&hopeless), Err(Refusal::Quarantined("over a limit".into())));
    for _ in 0..10 {
        // Commands do not regard the back-off.
        assert_eq!(rig.compile_wait(&unlucky), Err(Refusal::Failed("full".into())));
    }
    assert_eq!(rig.stats().quarantined, 1);
}

#[test]
fn a_compiler_over_its_deadline_is_cancelled() {
    let (rig, began) = endless(config());
    let code = code();
    rig.ask(&code);
    began.recv().unwrap();
    rig.advance(1001);
    rig.until("failed", |stats| stats.jobs_failed == 1);
    assert_eq!((rig.stats().jobs_cancelled, rig.stats().workers_abandoned), (1, 0));
}

#[test]
fn a_compiler_that_does_not_return_is_given_up() {
    let (begin, began) = channel();
    let way_out = Arc::new(Barrier::new(2));
    let held = way_out.clone();
    let rig = Rig::new(config(), move |code, _| {
        if count(&code.noted) == 1 {
            begin.send(()).unwrap();
            held.wait();
        }
        Ok(())
    });
    let stuck = code();
    stuck.noted.store(1, Ordering::Relaxed);
    rig.ask(&stuck);
    began.recv().unwrap();
    rig.advance(2001);
    rig.until("given up", |stats| stats.workers_abandoned == 1);
    assert_eq!(stuck.ticket.quarantined().map(|why| &**why), Some("the compiler did not return"));
    // Another one is in its place.
    assert_eq!(rig.compile_wait(&code()), Ok(()));
    // When it comes back after all, it is nobody's business.
    way_out.wait();
    assert_eq!(rig.compile_wait(&code()), Ok(()));
    let stopped = rig.backend.shut_down(LONG);
    assert_eq!(stopped, Stopped { joined: 2, detached: 0 });
    assert_eq!((count(&stuck.published), rig.stats().jobs_compiled), (0, 2));
    assert!(matches!(rig.ask(&stuck), Requested::Refused(_)));
}

#[test]
fn who_waits_for_what_does_not_return_is_told() {
    let (rig, step) = stepwise(config());
    thread::scope(|scope| {
        let waits = scope.spawn(|| rig.compile_wait(&code()));
        step.began.recv().unwrap();
        rig.advance(2001);
        let reason = "the compiler did not return".into();
        assert_eq!(waits.join().unwrap(), Err(Refusal::Quarantined(reason)));
    });
    drop(step.go_on);
}

#[test]
fn a_tier_that_does_not_return_too_often_is_switched_off() {
    let (rig, step) = stepwise(BackendConfig { abandoned_max: 3, ..config() });
    let waiting = code();
    for given_up in 1..=3 {
        assert_eq!(rig.ask(&code()), Requested::Asked);
        step.began.recv().unwrap();
        if given_up == 3 {
            rig.ask(&waiting);
            rig.until("queued", |stats| stats.jobs_waiting == 1);
        }
        rig.advance(2001);
        rig.until("given up", |stats| stats.workers_abandoned == given_up);
    }
    rig.until("off", |_| rig.ask(&code()) == Requested::Refused(Refusal::Off));
    assert_eq!(rig.compile_wait(&code()), Err(Refusal::Off));
    assert_eq!(rig.backend.compile_here(&code(), TIER), Err(Refusal::Off));
    rig.until("dropped", |stats| stats.jobs_waiting == 0);
    assert_eq!(count(&waiting.compiled), 0);
    drop(step.go_on);
}

#[test]
fn a_publication_that_panics_is_a_failure() {
    struct Bad;
    impl Work for Bad {
        type Subject = Code;
        type Output = ();
        fn compile(&self, _: &Arc<Code>, _: &Job) -> Result<(), Failure> {
            Ok(())
        }
        fn publish(&self, _: &Arc<Code>, (): ()) {
            throw("no place")
        }
        fn sweep(&self, _: &BackendStats) {
            throw("no broom")
        }
        fn note(&self, _: &Code, _: Tier, _: &Note) {}
    }
    let backend = Backend::new(config(), Arc::new(Bad));
    let outcome = backend.compile_wait(&code(), TIER, LONG);
    assert_eq!(outcome, Err(Refusal::Failed("the compiler panicked: no place".into())));
    backend.sweep_soon();
    while backend.stats().sweeps_panicked == 0 {
        thread::yield_now();
    }
    backend.clear();
    assert!(backend.compile_wait(&code(), TIER, LONG).is_err(), "both threads go on");
}
