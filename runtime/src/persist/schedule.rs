//! What the store's thread does next: a pure function from what is known and the time.
//!
//! **Owns** the rule. **Callers guarantee** that `now_ms` never goes back. **Never** looks at a clock, a lock or a file.

/// Programs wait so long for being saved: one that was just compiled may soon be compiled again.
const SAVE_DELAY_MS: u64 = 200;
/// Between two looks at whether anything is executed, at most and at least.
const LOOK_MS_MAX: u64 = 1000;
const LOOK_MS_MIN: u64 = 5;

/// The options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// Whether anything is written before the end.
    pub(crate) writes: bool,
    /// Until the first snapshot; 0: none for that.
    pub(crate) first_ms: u64,
    /// Between snapshots; 0: none for that.
    pub(crate) interval_ms: u64,
    /// Without execution, until a snapshot; 0: never.
    pub(crate) idle_ms: u64,
}

/// What is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The engine is shut down.
    pub(crate) ends: bool,
    /// Somebody waits for all to be written.
    pub(crate) flush: bool,
    /// Programs are to be loaded before they are asked for.
    pub(crate) preload: bool,
    /// Requests of an earlier session are to be asked for again.
    pub(crate) resume: bool,
    /// Since when a program waits for being saved.
    pub(crate) waits_since_ms: Option<u64>,
    /// So many wait that others may find no place.
    pub(crate) crowded: bool,
    /// When the engine was made.
    pub(crate) made_ms: u64,
    /// When something was executed, as far as is known.
    pub(crate) ran_ms: u64,
    /// The last snapshot.
    pub(crate) snapshot_ms: Option<u64>,
    /// Something happened since.
    pub(crate) stale: bool,
    /// Something was written since the store was tidied up, or it never was.
    pub(crate) untidy: bool,
    /// Nothing more can be written.
    pub(crate) off: bool,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// What is left is written, and that is all.
    End,
    /// All programs are saved that are not.
    Flush,
    /// One program is loaded.
    Preload,
    /// Requests are asked for again.
    Resume,
    /// Some of the programs that wait are saved.
    Save,
    /// What is known about codes is written down.
    Snapshot,
    /// The store is tidied up, until something is executed.
    Tidy,
    /// Nothing, until this time, or somebody wakes the thread.
    Sleep(u64),
    /// Nothing, until somebody wakes the thread.
    Park,
}

impl Schedule {
    /// The decision.
    pub(crate) fn next(&self, state: &State, now_ms: u64) -> Action {
        let writes = self.writes && !state.off;
        if state.ends {
            return Action::End;
        } else if state.flush {
            return Action::Flush;
        } else if state.preload {
            return Action::Preload;
        } else if state.resume {
            return Action::Resume;
        } else if !writes {
            return Action::Park;
        }
        let save_ms = state.waits_since_ms.map(|since_ms| since_ms + SAVE_DELAY_MS);
        if state.crowded || save_ms.is_some_and(|save_ms| now_ms >= save_ms) {
            return Action::Save;
        }
        let idle = self.idle_ms != 0 && now_ms >= state.ran_ms.saturating_add(self.idle_ms);
        let snapshot_ms = self.snapshot_ms(state);
        if state.stale && (idle || snapshot_ms.is_some_and(|due_ms| now_ms >= due_ms)) {
            return Action::Snapshot;
        }
        if state.untidy && idle {
            return Action::Tidy;
        }
        // What is due and has no reason waits for one: somebody has to look.
        let is_due = |due_ms: u64| due_ms <= now_ms;
        let snapshot_ms =
            snapshot_ms.map(|due_ms| if is_due(due_ms) { now_ms + LOOK_MS_MAX } else { due_ms });
        let look_ms = (self.idle_ms != 0)
            .then(|| now_ms + (self.idle_ms / 4).clamp(LOOK_MS_MIN, LOOK_MS_MAX));
        match [save_ms, snapshot_ms, look_ms].into_iter().flatten().min() {
            Some(until_ms) => Action::Sleep(until_ms),
            None => Action::Park,
        }
    }

    /// When the next snapshot is due by the clock.
    fn snapshot_ms(&self, state: &State) -> Option<u64> {
        let (since_ms, after_ms) = match state.snapshot_ms {
            None => (state.made_ms, self.first_ms),
            Some(last_ms) => (last_ms, self.interval_ms),
        };
        // Without a first one there is one after an interval.
        let after_ms = if after_ms == 0 { self.interval_ms } else { after_ms };
        (after_ms != 0).then(|| since_ms.saturating_add(after_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Schedule =
        Schedule { writes: true, first_ms: 1000, interval_ms: 5000, idle_ms: 400 };

    /// Made at 100, and busy.
    fn busy(now_ms: u64) -> State {
        State { made_ms: 100, ran_ms: now_ms, stale: true, ..State::default() }
    }

    #[test]
    fn who_waits_comes_first() {
        let all = State {
            ends: true,
            flush: true,
            preload: true,
            resume: true,
            waits_since_ms: Some(0),
            ..busy(0)
        };
        assert_eq!(SOME.next(&all, 10_000), Action::End);
        let all = State { ends: false, ..all };
        assert_eq!(SOME.next(&all, 10_000), Action::Flush);
        let all = State { flush: false, ..all };
        assert_eq!(SOME.next(&all, 10_000), Action::Preload);
        let all = State { preload: false, ..all };
        assert_eq!(SOME.next(&all, 10_000), Action::Resume);
        let all = State { resume: false, ..all };
        assert_eq!(SOME.next(&all, 10_000), Action::Save);
    }

    #[test]
    fn programs_are_saved_after_a_while_or_when_there_are_many() {
        let waits = State { waits_since_ms: Some(500), ..busy(600) };
        assert_eq!(SOME.next(&waits, 600), Action::Sleep(700));
        assert_eq!(SOME.next(&waits, 700), Action::Save);
        assert_eq!(SOME.next(&State { crowded: true, ..waits }, 501), Action::Save);
    }

    #[test]
    fn snapshots_come_after_a_while_and_then_at_an_interval() {
        assert_eq!(SOME.next(&busy(1000), 1000), Action::Sleep(1100));
        assert_eq!(SOME.next(&busy(1100), 1100), Action::Snapshot);
        let again = |now_ms| SOME.next(&State { snapshot_ms: Some(1100), ..busy(now_ms) }, now_ms);
        assert_eq!(again(1101), Action::Sleep(1201));
        assert_eq!(again(6100), Action::Snapshot);
        let unchanged = State { stale: false, snapshot_ms: Some(1100), ..busy(7000) };
        assert_eq!(SOME.next(&unchanged, 7000), Action::Sleep(7100), "nothing happened");
    }

    #[test]
    fn either_time_may_be_never() {
        let no_first = Schedule { first_ms: 0, ..SOME };
        assert_eq!(no_first.next(&busy(1100), 1100), Action::Sleep(1200));
        assert_eq!(no_first.next(&busy(5100), 5100), Action::Snapshot);
        let once = Schedule { interval_ms: 0, idle_ms: 0, ..SOME };
        assert_eq!(once.next(&busy(100), 100), Action::Sleep(1100));
        assert_eq!(once.next(&busy(1100), 1100), Action::Snapshot);
        let done = State { snapshot_ms: Some(1100), ..busy(9000) };
        assert_eq!(once.next(&done, 9000), Action::Park);
    }

    #[test]
    fn while_nothing_is_executed_it_is_written_and_tidied() {
        let state = State { ran_ms: 200, untidy: true, ..busy(0) };
        assert_eq!(SOME.next(&state, 599), Action::Sleep(699));
        assert_eq!(SOME.next(&state, 600), Action::Snapshot);
        let state = State { stale: false, snapshot_ms: Some(600), ..state };
        assert_eq!(SOME.next(&state, 600), Action::Tidy);
        let state = State { untidy: false, ..state };
        assert_eq!(SOME.next(&state, 600), Action::Sleep(700));
        let never = Schedule { idle_ms: 0, ..SOME };
        let state = State { untidy: true, ..state };
        assert_eq!(never.next(&state, 700), Action::Sleep(5600));
    }

    #[test]
    fn what_may_not_write_parks() {
        let waits = State { waits_since_ms: Some(0), untidy: true, crowded: true, ..busy(0) };
        let reader = Schedule { writes: false, ..SOME };
        assert_eq!(reader.next(&waits, 9000), Action::Park);
        assert_eq!(SOME.next(&State { off: true, ..waits }, 9000), Action::Park);
        let preloads = State { preload: true, off: true, ..waits };
        assert_eq!(SOME.next(&preloads, 9000), Action::Preload);
    }
}
