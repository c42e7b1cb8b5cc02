//! The state machine of a subject, by itself. All interleavings: `tests/loom`.

use crate::backend::phase::{Asked, Meanwhile, Phase};

#[test]
fn one_request_makes_one_job() {
    let phase = Phase::new();
    assert_eq!(phase.ask(), Asked::New);
    assert_eq!(phase.ask(), Asked::Known);
    assert!(phase.queue_asked());
    assert!(!phase.queue_asked() && !phase.queue() && !phase.begin_here());
    assert!(phase.begin() && !phase.begin());
    assert_eq!(phase.finish(false), Meanwhile::default());
    assert!(!phase.is_taken());
}

#[test]
fn what_happens_while_it_runs_is_told() {
    let phase = Phase::new();
    assert!(!phase.wait(), "nothing to wait for");
    assert!(phase.queue() && phase.wait() && phase.begin());
    assert_eq!(phase.ask(), Asked::Known);
    assert_eq!(phase.finish(false), Meanwhile { again: true, waited: true });
    assert!(phase.begin_here());
    assert_eq!(phase.finish(false), Meanwhile::default(), "flags do not outlive their job");
}

#[test]
fn a_job_put_back_keeps_who_waits() {
    let phase = Phase::new();
    assert!(phase.queue() && phase.begin() && phase.wait());
    assert_eq!(phase.ask(), Asked::Known);
    phase.requeue();
    assert!(phase.begin());
    assert_eq!(phase.finish(false), Meanwhile { again: false, waited: true });
}

#[test]
fn what_is_dropped_may_be_asked_for_again() {
    let phase = Phase::new();
    assert_eq!(phase.ask(), Asked::New);
    assert!(phase.give_up() && !phase.give_up());
    assert!(phase.queue());
    assert!(!phase.give_up());
    assert!(!phase.drop_queued(), "nobody waited");
    assert_eq!(phase.ask(), Asked::New);
}

#[test]
fn barred_is_for_good() {
    let phase = Phase::new();
    assert!(phase.begin_here());
    assert_eq!(phase.ask(), Asked::Known);
    phase.finish(true);
    assert!(phase.is_barred() && phase.is_taken());
    assert_eq!(phase.ask(), Asked::Barred);
    assert!(!phase.queue() && !phase.begin_here() && !phase.wait() && !phase.give_up());
}

#[test]
fn nobody_asks_for_what_was_barred_before() {
    let phase = Phase::new();
    phase.bar();
    assert!(phase.is_barred() && phase.is_taken());
    assert_eq!(phase.ask(), Asked::Barred);
    assert!(!phase.queue() && !phase.begin_here());
    let asked = Phase::new();
    assert_eq!(asked.ask(), Asked::New);
    asked.bar();
    assert!(!asked.is_barred(), "too late");
}
