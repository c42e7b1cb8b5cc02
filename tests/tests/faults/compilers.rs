//! Compilers that fail: in every phase, on the calling thread and on a compile thread.

use crate::support::{
    Gate, Opens, case, code, config, engine, exact, exact_until, is_native, phases, runs_compiled,
};
use kiln_runtime::{Config, Engine, Fault, Phase, PhaseStart, Stats};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A compiler that goes wrong in one phase of one code, and not elsewhere. Returns the engine and how
/// often it went wrong.
fn broken(
    config: Config,
    phase: Phase,
    fault: impl Fn(&PhaseStart<'_>) -> Fault + Send + Sync + 'static,
) -> (Engine, Arc<AtomicUsize>) {
    let times = Arc::new(AtomicUsize::new(0));
    let (counted, bad) = (times.clone(), code(&case(1)).to_vec());
    let engine = engine(config, move |start| {
        if start.phase != phase || start.code != bad {
            return Fault::None;
        }
        // Relaxed: a count that is read when the counters of the engine say that it is over.
        counted.fetch_add(1, Ordering::Relaxed);
        fault(start)
    });
    (engine, times)
}

/// Both ways to compile, with few attempts close to each other.
fn both_threads() -> [Config; 2] {
    let config = Config { attempts_max: 2, backoff_ms_max: 1, ..config() };
    [Config { compile_threads: 0, ..config.clone() }, config]
}

/// Fails until it is in quarantine, is not tried again, and costs no other code anything.
fn fails_into_quarantine(
    name: &str,
    fault: impl Fn(&PhaseStart<'_>) -> Fault + Clone + Send + Sync + 'static,
    phases: &[Phase],
    counted: fn(&Stats) -> u64,
) {
    for &phase in phases {
        for config in both_threads() {
            let name = format!("{name}, {phase:?}, {} threads", config.compile_threads);
            let (engine, times) = broken(config, phase, fault.clone());
            exact_until(&engine, &case(1), |stats| stats.quarantined == 1);
            let stats = engine.stats();
            assert_eq!((counted(&stats), stats.jobs_failed, stats.programs), (2, 2, 0), "{name}");
            exact_until(&engine, &case(2), |stats| stats.programs == 1);
            assert!(runs_compiled(&engine, &case(2)), "{name}");
            exact(&engine, &case(1));
            assert!(!runs_compiled(&engine, &case(1)), "{name}");
            assert_eq!(times.load(Ordering::Relaxed), 2, "{name}");
        }
    }
}

#[test]
fn a_compiler_that_panics() {
    let fault = |_: &PhaseStart<'_>| panic!("a fault that a test asked for");
    fails_into_quarantine("panics", fault, phases(), |stats| stats.jobs_panicked);
}

#[test]
fn a_compiler_that_returns_an_error() {
    let fault = |_: &PhaseStart<'_>| Fault::Error("a fault that a test asked for".to_owned());
    fails_into_quarantine("fails", fault, phases(), |stats| stats.compile_errors);
}

#[test]
fn code_over_the_cap() {
    if is_native() {
        let fault = |_: &PhaseStart<'_>| Fault::Output(1 << 24);
        fails_into_quarantine("output", fault, &[Phase::Codegen], |stats| stats.compile_errors);
    }
}

/// It is stopped at its deadline, if it looks whether it is to stop.
#[test]
fn a_compiler_without_end() {
    let fault = |start: &PhaseStart<'_>| {
        while !start.cancelled() {
            std::thread::yield_now();
        }
        Fault::None
    };
    over_the_deadline(fault);
}

/// The same for one that also takes memory all the time.
#[test]
fn a_compiler_that_allocates_without_end() {
    let fault = |start: &PhaseStart<'_>| {
        let mut taken = Vec::new();
        while !start.cancelled() {
            // The machine's memory is not what is tested.
            if taken.len() < 64 {
                taken.push(vec![1u8; 1 << 20]);
            }
        }
        Fault::None
    };
    over_the_deadline(fault);
}

fn over_the_deadline(fault: impl Fn(&PhaseStart<'_>) -> Fault + Clone + Send + Sync + 'static) {
    for &phase in phases() {
        for config in both_threads() {
            let config = Config { compile_deadline_ms: 5, ..config };
            let (engine, _) = broken(config, phase, fault.clone());
            exact_until(&engine, &case(1), |stats| stats.quarantined == 1);
            let stats = engine.stats();
            assert_eq!((stats.jobs_cancelled, stats.jobs_failed), (2, 2), "{phase:?}");
            assert_eq!((stats.programs, stats.workers_abandoned), (0, 0), "{phase:?}");
            exact_until(&engine, &case(2), |stats| stats.programs == 1);
            assert!(runs_compiled(&engine, &case(2)), "{phase:?}");
        }
    }
}

/// It is given up, another thread takes its place, and what it makes in the end is not used.
#[test]
fn a_compiler_that_never_returns() {
    for &phase in phases() {
        let gate = Gate::default();
        let _opens = Opens(&gate);
        let config = Config { compile_deadline_ms: 5, compile_grace_ms: 5, ..config() };
        let inside = gate.clone();
        let (engine, _) = broken(config, phase, move |_| {
            inside.pass();
            Fault::None
        });
        let before = engine.code_bytes_used();
        exact_until(&engine, &case(1), |stats| stats.workers_abandoned == 1);
        let stats = engine.stats();
        assert_eq!((stats.quarantined, stats.programs), (1, 0), "{phase:?}");
        exact_until(&engine, &case(2), |stats| stats.jobs_compiled == 1);
        assert!(runs_compiled(&engine, &case(2)), "{phase:?}");
        // It comes back after all.
        gate.open();
        exact_until(&engine, &case(1), |_| true);
        assert!(!runs_compiled(&engine, &case(1)), "{phase:?}");
        engine.clear();
        crate::support::until_freed(&engine, before);
    }
}

/// Given up too often, nothing is compiled any more, and all that waits is let go.
#[test]
fn compilers_that_never_return() {
    let gate = Gate::default();
    let _opens = Opens(&gate);
    let config = Config { compile_deadline_ms: 5, compile_grace_ms: 5, ..config() };
    let inside = gate.clone();
    let engine = engine(config, move |_| {
        inside.pass();
        Fault::None
    });
    let mut number = 0;
    let given_up = loop {
        number += 1;
        assert!(number < 1000, "it goes on for ever: {:?}", engine.stats());
        let before = engine.stats().workers_abandoned;
        let mut tries = 0;
        exact_until(&engine, &case(number), |stats| {
            tries += 1;
            stats.workers_abandoned > before || tries > 200
        });
        if engine.stats().workers_abandoned == before {
            break before;
        }
    };
    assert!(given_up > 0);
    exact(&engine, &case(number));
    let stats = engine.stats();
    assert_eq!((stats.jobs_waiting, stats.events_waiting, stats.programs), (0, 0, 0));
}
