//! Every interleaving of the lock-free parts of the back end: `runtime/src/backend/{phase,wake}.rs`,
//! compiled here with loom's atomics in place of the standard library's. So an ordinary build knows
//! nothing of loom, and no special flags are needed.
#![cfg(test)]
#![allow(dead_code, unreachable_pub)]

/// What the parts synchronise with.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
}

#[path = "../../../runtime/src/backend/phase.rs"]
mod phase;
#[path = "../../../runtime/src/backend/wake.rs"]
mod wake;

use loom::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};
use phase::{Asked, Phase};
use wake::Wake;

/// A queue, as far as waking is concerned, and a thread that parks: with a token, as the standard
/// library's do. (Loom's own `park` may be woken by what `join` waits for, and the other way round.)
struct Inbox {
    work: AtomicU32,
    wake: Wake,
    token: Mutex<bool>,
    unparked: Condvar,
}

impl Inbox {
    fn park(&self) {
        let mut token = self.token.lock().unwrap();
        while !std::mem::take(&mut *token) {
            token = self.unparked.wait(token).unwrap();
        }
    }

    fn unpark(&self) {
        *self.token.lock().unwrap() = true;
        self.unparked.notify_one();
    }
}

/// Producers and a consumer that parks: loom reports a consumer that nobody wakes as a deadlock.
fn wake(producers: u32) {
    let inbox = Arc::new(Inbox {
        work: AtomicU32::new(0),
        wake: Wake::new(),
        token: Mutex::new(false),
        unparked: Condvar::new(),
    });
    let threads: Vec<_> = (0..producers)
        .map(|_| {
            let inbox = inbox.clone();
            thread::spawn(move || {
                inbox.work.fetch_add(1, Ordering::Release);
                if inbox.wake.is_due() {
                    inbox.unpark();
                }
            })
        })
        .collect();
    let mut done = 0;
    while done < producers {
        done += inbox.work.swap(0, Ordering::Acquire);
        let idle = || inbox.work.load(Ordering::Relaxed) == 0;
        if done < producers && inbox.wake.may_park(idle) {
            inbox.park();
            inbox.wake.woke();
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn no_wake_up_is_lost() {
    loom::model(|| wake(1));
}

#[test]
fn no_wake_up_of_two_is_lost() {
    let mut model = loom::model::Builder::new();
    // All interleavings would take hours.
    model.preemption_bound = Some(2);
    model.check(|| wake(2));
}

/// Of two that ask at the same time, one passes the request on; a command may be faster than both.
/// There is one job, and it sees what either noted before it asked, or is followed by one that does.
#[test]
fn a_request_is_never_lost_and_never_doubled() {
    loom::model(|| {
        let phase = Arc::new(Phase::new());
        let notes = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let running = Arc::new(AtomicBool::new(false));
        let asker = {
            let (phase, notes) = (phase.clone(), notes.clone());
            thread::spawn(move || {
                notes[0].store(1, Ordering::Relaxed);
                phase.ask() == Asked::New
            })
        };
        let compile = |phase: &Phase| {
            assert!(!running.swap(true, Ordering::Relaxed), "one at a time");
            let seen = [0, 1].map(|note: usize| notes[note].load(Ordering::Relaxed));
            running.store(false, Ordering::Relaxed);
            (seen, phase.finish(false).again)
        };
        notes[1].store(1, Ordering::Relaxed);
        let mut asked = phase.ask() == Asked::New;
        let mut seen = [0, 0];
        // The backend, as far as it gets before the other one has asked.
        if asked && phase.queue_asked() {
            assert!(phase.begin());
            let (now, again) = compile(&phase);
            seen = now;
            asked = again && phase.ask() == Asked::New;
        } else {
            asked = false;
        }
        // And with what is left to do when it has.
        asked |= asker.join().unwrap();
        while asked {
            assert!(phase.queue_asked() && phase.begin());
            let (now, again) = compile(&phase);
            seen = now;
            asked = again && phase.ask() == Asked::New;
        }
        assert_eq!(seen, [1, 1]);
        assert!(!phase.is_taken());
    });
}

/// A job is run by one of those who may: the caller, a command, or the backend for an event.
#[test]
fn one_of_three_runs_it() {
    loom::model(|| {
        let phase = Arc::new(Phase::new());
        assert_eq!(phase.ask(), Asked::New);
        let runs = Arc::new(AtomicU32::new(0));
        let here = {
            let (phase, runs) = (phase.clone(), runs.clone());
            thread::spawn(move || {
                if phase.begin_here() {
                    assert_eq!(runs.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
                    runs.fetch_sub(1, Ordering::Relaxed);
                    phase.finish(true);
                }
            })
        };
        if phase.queue_asked() {
            assert!(phase.begin(), "nobody else begins what is queued");
            assert_eq!(runs.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
            runs.fetch_sub(1, Ordering::Relaxed);
            phase.finish(true);
        }
        here.join().unwrap();
        assert!(phase.is_barred(), "one did");
        assert_eq!(phase.ask(), Asked::Barred);
    });
}

/// Who waits for a job is told of its end: either the flag is set before it ends, or there is nothing to
/// wait for any more.
#[test]
fn who_waits_is_noticed() {
    loom::model(|| {
        let phase = Arc::new(Phase::new());
        assert!(phase.queue() && phase.begin());
        let worker = {
            let phase = phase.clone();
            thread::spawn(move || phase.finish(false).waited)
        };
        let waits = phase.wait();
        assert_eq!(worker.join().unwrap(), waits);
    });
}
