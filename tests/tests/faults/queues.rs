//! Queues that are full, and events that do not end.

use crate::support::{Gate, Opens, case, config, engine, exact, exact_until, runs_compiled};
use kiln_runtime::{Config, Fault, Phase};

/// What does not fit is dropped and counted, and may ask again.
#[test]
fn a_full_job_queue() {
    let gate = Gate::default();
    let _opens = Opens(&gate);
    let inside = gate.clone();
    let config = Config { job_queue_len: 2, ..config() };
    let engine = engine(config, move |start| {
        if start.phase == Phase::Analyse {
            inside.pass();
        }
        Fault::None
    });
    exact(&engine, &case(0));
    gate.reached();
    // One is being compiled, two wait.
    let mut number = 0;
    exact_until(&engine, &case(1), |stats| stats.jobs_waiting == 1);
    exact_until(&engine, &case(2), |stats| {
        number += 1;
        exact(&engine, &case(2 + number));
        assert!(stats.jobs_waiting <= 2, "{stats:?}");
        stats.jobs_dropped >= 3
    });
    gate.open();
    let last = case(2 + number);
    let mut compiled = false;
    exact_until(&engine, &last, |_| {
        compiled = compiled || runs_compiled(&engine, &last);
        compiled
    });
}

/// Four threads run one new code after the other, faster than anybody can look at them.
#[test]
fn a_flood_of_events() {
    const EACH: u32 = 400;
    let config = Config { event_queue_len: 4, drain_max: 1, job_queue_len: 4, ..config() };
    let engine = engine(config, |_| Fault::None);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..EACH {
                    exact(engine, &case(thread * EACH + number));
                    let stats = engine.stats();
                    assert!(stats.events_waiting <= 4 && stats.jobs_waiting <= 8, "{stats:?}");
                }
            });
        }
    });
    crate::support::until(&engine, |stats| {
        stats.events_waiting == 0 && stats.jobs_waiting == 0 && stats.jobs_running == 0
    });
    let stats = engine.stats();
    let dropped = stats.events_dropped + stats.jobs_dropped;
    assert!(dropped > 0, "no flood: {stats:?}");
    // Each code asked once, and was compiled or dropped.
    assert_eq!(stats.programs + dropped, 4 * EACH as u64, "{stats:?}");
    // What was dropped asks again.
    let mut compiled = 0;
    for number in 0..4 * EACH {
        exact_until(&engine, &case(number), |stats| {
            let done = stats.programs > compiled || runs_compiled(&engine, &case(number));
            compiled = stats.programs;
            done
        });
    }
}
