//! Commands: waiting, batches, clears, pauses, the end.

use super::*;

#[test]
fn who_waits_gets_the_outcome() {
    let rig = Rig::easy(config());
    let code = code();
    assert_eq!(rig.compile_wait(&code), Ok(()));
    assert_eq!(count(&code.published), 1);
    assert_eq!(rig.stats().events_accepted, 0, "commands use no event");
}

#[test]
fn who_waits_joins_what_is_under_way() {
    let (rig, step) = stepwise(config());
    let code = code();
    rig.ask(&code);
    step.began.recv().unwrap();
    thread::scope(|scope| {
        let waits: Vec<_> = (0..3).map(|_| scope.spawn(|| rig.compile_wait(&code))).collect();
        rig.until("all joined", |stats| stats.jobs_deduped == 3);
        step.go_on.send(Ok(())).unwrap();
        waits.into_iter().for_each(|waits| assert_eq!(waits.join().unwrap(), Ok(())));
    });
    assert_eq!(count(&code.compiled), 1);
}

#[test]
fn waiting_ends_in_time_and_the_job_goes_on() {
    let (rig, step) = stepwise(config());
    let code = code();
    let outcome = rig.backend.compile_wait(&code, TIER, Duration::from_millis(1));
    assert_eq!(outcome, Err(Refusal::TimedOut));
    step.began.recv().unwrap();
    step.go_on.send(Ok(())).unwrap();
    rig.until("compiled", |stats| stats.jobs_compiled == 1);
    assert_eq!(count(&code.published), 1);
}

#[test]
fn commands_go_in_front_of_what_is_merely_hot() {
    let (rig, step) = stepwise(config());
    let all = codes(4);
    rig.ask(&all[0]);
    step.began.recv().unwrap();
    rig.ask(&all[1]);
    rig.ask(&all[2]);
    rig.until("queued", |stats| stats.jobs_waiting == 2);
    rig.backend.compile(&all[3], TIER).unwrap();
    // One that waits already moves up.
    rig.backend.compile(&all[2], TIER).unwrap();
    drop(step.go_on);
    let order: Vec<_> = (0..3).map(|_| step.began.recv().unwrap()).collect();
    for (began, expected) in order.iter().zip([&all[2], &all[3], &all[1]]) {
        assert!(Arc::ptr_eq(began, expected));
    }
}

#[test]
fn a_batch_larger_than_the_queue_is_prepared_by_who_waits() {
    let rig =
        Rig::new(
            BackendConfig { job_queue_len: 4, threads: 2, ..config() },
            |code, _| match count(&code.noted) {
                0 => Ok(()),
                _ => Err(Failure::Failed("no".into())),
            },
        );
    let mut all = codes(100);
    all[50].noted.store(1, Ordering::Relaxed);
    all.push(all[0].clone());
    let prepared = rig.backend.prepare(&all, TIER, Some(LONG));
    assert_eq!(prepared, Prepared { compiled: 100, pending: 0, failed: 1 });
    assert_eq!(all.iter().filter(|code| count(&code.published) > 0).count(), 100);
}

#[test]
fn a_batch_that_nobody_waits_for_fills_the_queue_at_most() {
    let (rig, step) = stepwise(BackendConfig { job_queue_len: 4, ..config() });
    rig.ask(&code());
    step.began.recv().unwrap();
    let all = codes(6);
    let prepared = rig.backend.prepare(&all, TIER, None);
    assert_eq!(prepared, Prepared { compiled: 0, pending: 4, failed: 2 });
    let late = rig.backend.prepare(&all[..1], TIER, Some(Duration::ZERO));
    assert_eq!(late, Prepared { compiled: 0, pending: 1, failed: 0 });
    drop(step.go_on);
    rig.until("all", |stats| stats.jobs_compiled == 5);
}

#[test]
fn without_threads_commands_are_done_by_the_caller() {
    let rig = Rig::easy(BackendConfig { threads: 0, ..config() });
    assert_eq!(rig.compile_wait(&code()), Ok(()));
    assert_eq!(rig.backend.compile(&code(), TIER), Ok(()));
    let prepared = rig.backend.prepare(&codes(3), TIER, Some(LONG));
    assert_eq!(prepared, Prepared { compiled: 3, pending: 0, failed: 0 });
    assert_eq!(rig.backend.shut_down(LONG), Stopped::default());
}

#[test]
fn a_clear_drops_what_waits() {
    let (rig, step) = stepwise(config());
    let (first, queued, asked_after) = (code(), code(), code());
    rig.ask(&first);
    step.began.recv().unwrap();
    rig.ask(&queued);
    rig.until("queued", |stats| stats.jobs_waiting == 1);
    rig.backend.clear();
    assert_eq!(rig.stats().jobs_waiting, 0);
    assert!(!queued.ticket.is_taken());
    rig.ask(&asked_after);
    drop(step.go_on);
    rig.until("the one after", |stats| stats.jobs_compiled == 1);
    assert_eq!(count(&asked_after.published), 1);
    assert_eq!((count(&first.published), count(&queued.compiled)), (0, 0));
    rig.until("both void", |stats| stats.jobs_stale == 2);
}

#[test]
fn a_clear_makes_void_what_runs() {
    let (rig, step) = stepwise(config());
    let code = code();
    thread::scope(|scope| {
        let waits = scope.spawn(|| rig.compile_wait(&code));
        step.began.recv().unwrap();
        rig.backend.clear();
        step.go_on.send(Ok(())).unwrap();
        assert_eq!(waits.join().unwrap(), Err(Refusal::Cleared));
    });
    assert_eq!((count(&code.compiled), count(&code.published)), (1, 0));
    assert_eq!((rig.stats().jobs_stale, rig.stats().jobs_compiled), (1, 0));
    assert_eq!(code.ticket.quota().attempts, 0, "it does not count against the code");
}

#[test]
fn a_clear_makes_void_what_is_put_off_and_what_is_asked() {
    let quota = QuotaConfig { cooldown_ms: 50, ..QuotaConfig::default() };
    let rig = Rig::easy(BackendConfig { quota, ..config() });
    let code = code();
    rig.compile_wait(&code).unwrap();
    rig.until("idle", |_| !code.ticket.is_taken());
    rig.ask(&code);
    rig.until("put off", |stats| stats.jobs_waiting == 1);
    rig.backend.clear();
    assert_eq!(rig.stats().jobs_waiting, 0);
    assert!(!code.ticket.is_taken());
    // The worker lets go of it after it says that it is idle.
    rig.until("nothing holds it", |_| Arc::strong_count(&code) == 1);
}

#[test]
fn a_running_compiler_notices_a_clear() {
    let (rig, began) = endless(config());
    let code = code();
    rig.ask(&code);
    began.recv().unwrap();
    rig.backend.clear();
    rig.until("void", |stats| stats.jobs_stale == 1 && stats.jobs_cancelled == 1);
}

#[test]
fn a_pause_stops_at_once_and_resuming_goes_on() {
    let (begin, began) = channel();
    let rig = Rig::new(config(), move |code, job| {
        begin.send(()).unwrap();
        while count(&code.noted) == 1 {
            if job.is_cancelled() {
                return Err(Failure::Cancelled);
            }
            thread::yield_now();
        }
        Ok(())
    });
    let (running, queued) = (code(), code());
    running.noted.store(1, Ordering::Relaxed);
    rig.ask(&running);
    began.recv().unwrap();
    rig.ask(&queued);
    rig.until("queued", |stats| stats.jobs_waiting == 1);
    let pause = rig.backend.pause();
    let nested = rig.backend.pause();
    rig.until("put back", |stats| stats.jobs_waiting == 2 && stats.jobs_running == 0);
    assert_eq!(rig.ask(&code()), Requested::Refused(Refusal::Paused));
    assert_eq!(rig.compile_wait(&code()), Err(Refusal::Paused));
    assert_eq!(rig.backend.compile_here(&code(), TIER), Err(Refusal::Paused));
    // However long it lasts, nothing ages.
    rig.advance(1_000_000);
    drop(nested);
    assert!(rig.backend.is_paused());
    assert_eq!((rig.stats().jobs_waiting, rig.stats().jobs_aged), (2, 0));
    running.noted.store(0, Ordering::Relaxed);
    drop(pause);
    assert!(!rig.backend.is_paused());
    rig.until("both", |stats| stats.jobs_compiled == 2);
    assert_eq!((count(&running.published), count(&queued.published)), (1, 1));
}

#[test]
fn a_pause_may_let_jobs_finish() {
    let (rig, step) = stepwise(BackendConfig { pause_cancels: false, ..config() });
    let code = code();
    rig.ask(&code);
    step.began.recv().unwrap();
    let _pause = rig.backend.pause();
    step.go_on.send(Ok(())).unwrap();
    rig.until("finished", |stats| stats.jobs_compiled == 1);
}

#[test]
fn shutdown_cancels_what_runs_and_drops_what_waits() {
    let (rig, began) = endless(BackendConfig { threads: 2, ..config() });
    let all = codes(4);
    thread::scope(|scope| {
        let waits = scope.spawn(|| rig.compile_wait(&all[0]));
        rig.ask(&all[1]);
        began.recv().unwrap();
        began.recv().unwrap();
        rig.ask(&all[2]);
        rig.until("queued", |stats| stats.jobs_waiting == 1);
        assert_eq!(rig.backend.shut_down(LONG), Stopped { joined: 3, detached: 0 });
        assert_eq!(waits.join().unwrap(), Err(Refusal::ShutDown));
    });
    assert_eq!(rig.ask(&all[3]), Requested::Refused(Refusal::ShutDown));
    assert_eq!(rig.compile_wait(&all[3]), Err(Refusal::ShutDown));
    assert_eq!(rig.backend.shut_down(LONG), Stopped::default(), "once is enough");
    drop(began);
    let Rig { backend, work, .. } = rig;
    drop(backend);
    assert_eq!(Arc::strong_count(&work), 1, "no thread holds it");
    assert!(all.iter().all(|code| !code.ticket.is_taken() && Arc::strong_count(code) == 1));
}

#[test]
fn shutdown_says_of_all_that_is_not_done_that_it_is_not() {
    let quota = QuotaConfig { cooldown_ms: 50, ..QuotaConfig::default() };
    let (rig, step) = stepwise(BackendConfig { quota, ..config() });
    let all = codes(3);
    rig.ask(&all[0]);
    step.began.recv().unwrap();
    step.go_on.send(Ok(())).unwrap();
    rig.until("compiled", |stats| stats.jobs_compiled == 1);
    // It was compiled just now: put off. The second runs, the third waits.
    rig.ask(&all[0]);
    rig.until("put off", |stats| stats.jobs_waiting == 1 && stats.events_waiting == 0);
    rig.ask(&all[1]);
    step.began.recv().unwrap();
    rig.ask(&all[2]);
    rig.until("queued", |stats| stats.jobs_waiting == 2);
    assert!(all.iter().all(|code| code.ticket.awaited() == Some(TIER)));
    thread::scope(|scope| {
        let shut_down = scope.spawn(|| rig.backend.shut_down(LONG));
        while !rig.backend.0.control.is_shut_down() {
            thread::yield_now();
        }
        step.go_on.send(Err(Failure::Cancelled)).unwrap();
        assert_eq!(shut_down.join().unwrap().detached, 0);
    });
    let called_off = Note::Dropped(Refusal::ShutDown);
    let notes = rig.work.notes.lock().unwrap();
    assert_eq!(notes.iter().filter(|&note| *note == called_off).count(), 3, "{notes:?}");
    assert_eq!((rig.stats().jobs_failed, rig.stats().quarantined), (0, 0));
    assert!(all.iter().all(|code| code.ticket.awaited().is_none()));
}

#[test]
fn shutdown_does_not_wait_for_ever() {
    let (rig, step) = stepwise(config());
    rig.ask(&code());
    step.began.recv().unwrap();
    let stopped = rig.backend.shut_down(Duration::from_millis(20));
    assert_eq!(stopped, Stopped { joined: 1, detached: 1 });
    assert_eq!(rig.stats().threads_detached, 1);
    drop(step.go_on);
}

#[test]
fn a_paused_back_end_shuts_down() {
    let rig = Rig::easy(config());
    rig.compile_wait(&code()).unwrap();
    let pause = rig.backend.pause();
    assert_eq!(rig.backend.shut_down(LONG), Stopped { joined: 2, detached: 0 });
    drop(pause);
}

#[test]
fn dropped_by_its_own_thread_it_does_not_wait_for_itself() {
    type Held = Arc<Mutex<Option<Backend<Fake>>>>;
    let held: Held = Arc::default();
    let (ended, end) = channel();
    let from_within = held.clone();
    let rig = Rig::new(config(), move |_, _| {
        drop(from_within.lock().unwrap().take());
        ended.send(()).unwrap();
        Ok(())
    });
    let code = code();
    {
        let mut held = held.lock().unwrap();
        rig.ask(&code);
        *held = Some(rig.backend);
    }
    end.recv_timeout(LONG).unwrap();
    assert!(held.lock().unwrap().is_none());
}
