//! Clears, pauses and shutdown while a code is compiled, in every phase.

use crate::support::{
    Gate, Opens, case, config, engine, exact, exact_until, phases, runs_compiled, until,
    until_freed,
};
use kiln_runtime::{Config, Engine, Fault, Phase};
use std::time::Duration;

/// An engine whose compiler stops at a gate in one phase.
fn gated(config: Config, phase: Phase, gate: &Gate) -> Engine {
    let gate = gate.clone();
    engine(config, move |start| {
        if start.phase == phase {
            gate.pass();
        }
        Fault::None
    })
}

/// What was begun before a clear is dropped, and the code may come back after it.
#[test]
fn a_clear_in_every_phase() {
    for &phase in phases() {
        let gate = Gate::default();
        let _opens = Opens(&gate);
        let engine = gated(config(), phase, &gate);
        let before = engine.code_bytes_used();
        exact(&engine, &case(1));
        gate.reached();
        engine.clear();
        exact(&engine, &case(1));
        gate.open();
        until(&engine, |stats| stats.jobs_stale == 1);
        exact_until(&engine, &case(1), |stats| stats.jobs_compiled == 1);
        assert!(runs_compiled(&engine, &case(1)), "{phase:?}");
        engine.clear();
        until_freed(&engine, before);
    }
}

/// A pause stops what is being compiled; after it, it is compiled.
#[test]
fn a_pause_in_every_phase() {
    for &phase in phases() {
        let gate = Gate::default();
        let _opens = Opens(&gate);
        let engine = gated(config(), phase, &gate);
        exact(&engine, &case(1));
        gate.reached();
        let outer = engine.pause();
        let inner = engine.pause();
        gate.open();
        until(&engine, |stats| stats.jobs_cancelled + stats.jobs_compiled == 1);
        let programs = engine.stats().programs;
        for _ in 0..10 {
            exact(&engine, &case(2));
        }
        drop(inner);
        exact(&engine, &case(2));
        assert_eq!(engine.stats().programs, programs, "{phase:?}: paused");
        drop(outer);
        exact_until(&engine, &case(1), |stats| stats.jobs_compiled >= 1);
        exact_until(&engine, &case(2), |stats| stats.jobs_compiled == 2);
        assert!(runs_compiled(&engine, &case(2)), "{phase:?}");
    }
}

/// A compiler that looks whether it is to stop ends with the engine.
#[test]
fn shutdown_in_every_phase() {
    for &phase in phases() {
        let reached = Gate::default();
        reached.open();
        let inside = reached.clone();
        let engine = engine(Config { compile_deadline_ms: 1 << 30, ..config() }, move |start| {
            if start.phase == phase {
                inside.pass();
                while !start.cancelled() {
                    std::thread::yield_now();
                }
            }
            Fault::None
        });
        exact(&engine, &case(1));
        reached.reached();
        let stopped = engine.shutdown(Duration::from_secs(60));
        assert_eq!(stopped.detached, 0, "{phase:?}");
        let stats = engine.stats();
        assert_eq!((stats.jobs_cancelled, stats.programs), (1, 0), "{phase:?}");
        // It goes on in the interpreter, and asks for nothing any more.
        exact(&engine, &case(1));
        exact(&engine, &case(2));
        assert_eq!(engine.stats().programs, 0, "{phase:?}");
    }
}

/// One that does not return is left behind.
#[test]
fn shutdown_in_every_phase_of_a_compiler_that_does_not_return() {
    for &phase in phases() {
        let gate = Gate::default();
        let _opens = Opens(&gate);
        let engine = gated(config(), phase, &gate);
        let before = engine.code_bytes_used();
        exact(&engine, &case(1));
        gate.reached();
        let stopped = engine.shutdown(Duration::from_millis(20));
        assert_eq!((stopped.detached, engine.stats().threads_detached), (1, 1), "{phase:?}");
        exact(&engine, &case(1));
        gate.open();
        until_freed(&engine, before);
        exact(&engine, &case(1));
        assert!(!runs_compiled(&engine, &case(1)), "{phase:?}");
    }
}

/// The last engine is dropped while a compile thread is at work, on this thread or on that one.
#[test]
fn drop_in_every_phase() {
    for &phase in phases() {
        let gate = Gate::default();
        let _opens = Opens(&gate);
        let engine = gated(Config { shutdown_ms: 10, ..config() }, phase, &gate);
        exact(&engine, &case(1));
        gate.reached();
        drop(engine);
        gate.open();
    }
}
