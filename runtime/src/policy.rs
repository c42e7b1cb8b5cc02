//! What to compile, and where: a pure function from what is known about a code to what is done.
//!
//! **Owns** the rule. **Callers guarantee** nothing. **Never** looks at a clock, a lock or a thread.
//!
//! Two steps. A code becomes *known* when one of its blocks was executed [`Policy::hot_executions`] times
//! (`heat.rs`); from then on each execution of a block that is not compiled is noted, which tells what the code
//! runs. What it runs is compiled as a whole: compiled code that is left again for every few blocks gains
//! little, and blocks that are hot seldom come alone.
//!
//! When, is the question of renting or buying (Karlin et al., *Competitive snoopy caching*, 1988):
//! interpreting a block costs a little more each time than running it compiled, compiling costs once; who buys
//! when the sum of the rents is the price never pays more than twice the best that could have been done by who
//! knows the future. Compiling a block costs about what interpretation loses in `hot_executions` executions. A
//! code that is known has paid that already, so it is compiled as soon as it is seen what it runs; one that has a
//! program, when its other blocks have paid for compiling it again.

use crate::{
    config::{Compile, Config},
    heat::HotFrom,
    hooks::Tier,
};

/// Nanoseconds to compile a block of the mean length, 11 instructions, with cold caches. Measured:
/// `cargo bench -p kiln-benches --bench blocks`.
const BLOCK_COMPILE_NS: u64 = 1_500;

/// What an execution in the interpreter loses between compiled blocks, against one in a frame without a
/// program: compiled code is left and entered again for it.
const MISS_WEIGHT: u64 = 2;

/// Executions of each block, on average, until it is seen what a known code runs.
const SEEN: u32 = 4;
/// What a compilation costs besides its blocks, in blocks.
const JOB_BLOCKS: u32 = 8;
/// Blocks that a frame runs between its start or a call and its next call or its end, from which it gains by
/// being compiled: entering compiled code and leaving it costs what some ten instructions do in the
/// interpreter, and with cold caches several times that.
const BLOCKS_OF_RUN: u32 = 4;
/// From so many runs on their mean counts.
const RUNS_MIN: u32 = 64;
/// Each time a code's program is thrown out, its next one has to pay twice as much, up to 2 to the power of
/// this: codes that do not all fit are not to throw out each other again and again.
const EVICTIONS_MAX: u32 = 6;

/// The same of a code that does not get to the next tier.
const TRIES_MAX: u32 = 10;

/// What an instruction costs in the interpreter, what compiling it saves, and what an access to storage
/// costs either way, in nanoseconds. Measured over mainnet blocks.
const INSTRUCTION_NS: usize = 7;
const SAVED_NS: usize = 4;
const STORAGE_NS: usize = 86;

/// Whether code gains by being compiled at least an eighth of the time it takes: not where nearly all of
/// that is accesses to storage.
pub(crate) fn gains(instructions: usize, storage_accesses: usize) -> bool {
    let time = instructions * INSTRUCTION_NS + storage_accesses * STORAGE_NS;
    instructions * SAVED_NS * 8 >= time
}

/// The options that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) compile: Compile,
    /// Executions of a block after which it was worth compiling.
    pub(crate) hot_executions: u32,
    /// Executions of blocks that are not compiled between two decisions about their code.
    pub(crate) decides_every: u32,
    /// With [`Compile::All`], frames of a code before it is compiled.
    pub(crate) warm_frames: u32,
    /// Whether there are threads that compile.
    pub(crate) background: bool,
    /// Time to compile up to which it is done where it was asked for.
    pub(crate) inline_compile_ns: u64,
    /// The best there is.
    pub(crate) top_tier: Tier,
    /// Frames of a program before it is worth optimised regions.
    pub(crate) optimise_frames: u32,
    /// Frames with these before it is worth those of tier 1.
    pub(crate) tier1_frames: u32,
}

/// What is known about a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Blocks in its program; 0 without one.
    pub(crate) compiled: u32,
    /// Blocks that were executed and are not in its program.
    pub(crate) fresh: u32,
    /// Executions of these.
    pub(crate) missed: u32,
    /// The tier of its program.
    pub(crate) tier: Option<Tier>,
    /// Frames since it got there, and what took as long.
    pub(crate) worked: u32,
    /// How often it was tried in vain to get to the next tier.
    pub(crate) tries: u32,
    /// Whether its blocks were counted.
    pub(crate) profiled: bool,
    /// Whether that is going on.
    pub(crate) profiling: bool,
    /// How often a program of it was thrown out.
    pub(crate) evicted: u32,
    /// Whether the store has a program of it.
    pub(crate) stored: bool,
    /// Frame runs without a program in which these were counted.
    pub(crate) runs: u32,
    /// It was asked for already, or may not be compiled at the moment.
    pub(crate) barred: bool,
}

/// What happened to a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A frame began without a program; so many did before.
    Frame(u32),
    /// The interpreter came through a block of a known code that is not compiled.
    Missed,
    /// Its program was run for a while, or a profile of it is complete.
    Worked,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Compiled by who noticed.
    CompileHere,
    /// Compiled by a thread of its own, soon.
    Request,
    /// Interpreted, without anybody looking.
    LeaveAlone,
    /// Interpreted for a while, while its blocks are counted.
    Profile,
    /// Compiled for this tier, soon.
    Promote(Tier),
}

impl Policy {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            compile: if config.force.promote { Compile::All } else { config.compile },
            hot_executions: config.hot_executions,
            decides_every: config.hot_executions.clamp(1, 8),
            warm_frames: if config.force.promote { 0 } else { config.warm_frames },
            background: config.compile_threads > 0 && !config.force.promote,
            inline_compile_ns: config.inline_compile_ns as u64,
            top_tier: config.top_tier,
            optimise_frames: config.optimise_frames,
            tier1_frames: config.tier1_frames,
        }
    }

    /// Executions from which a block counts as hot; none if whole codes are compiled.
    pub(crate) fn hot_from(&self) -> Option<HotFrom> {
        match self.compile {
            Compile::All => None,
            // Nobody is to find out what is hot; but each frame of a code without a slot goes the short way.
            Compile::Stored => Some(HotFrom::new(u32::MAX)),
            Compile::Seen => Some(HotFrom::new(self.hot_executions)),
        }
    }

    /// The decision.
    pub(crate) fn decide(&self, state: &State, event: Event) -> Action {
        if state.barred {
            return Action::Nothing;
        }
        match (self.compile, event) {
            (Compile::All, Event::Frame(before)) if before >= self.warm_frames => {
                if self.background { Action::Request } else { Action::CompileHere }
            }
            (_, Event::Missed) if state.stored && state.compiled == 0 => self.missed_stored(state),
            (Compile::Seen, Event::Missed) => self.missed(state),
            (Compile::All | Compile::Seen, Event::Worked) => self.worked(state),
            _ => Action::Nothing,
        }
    }

    /// Compiling for the next tier costs about what the present one loses in so many frames.
    fn worked(&self, state: &State) -> Action {
        let (next, price) = match state.tier {
            Some(Tier::Baseline) => (Tier::Optimised, self.optimise_frames),
            Some(Tier::Optimised) => (Tier::Tier1, self.tier1_frames),
            None | Some(Tier::Tier1) => return Action::Nothing,
        };
        let price = u64::from(price) << state.tries.min(TRIES_MAX);
        if next > self.top_tier || u64::from(state.worked) < price {
            Action::Nothing
        } else if state.profiling || !state.profiled {
            Action::Profile
        } else {
            Action::Promote(next)
        }
    }

    /// A program that was thrown out, or did not come when the code was first seen, is loaded when its absence has cost
    /// what that takes; and later each time it was thrown out.
    fn missed_stored(&self, state: &State) -> Action {
        let executions = SEEN.min(self.hot_executions);
        let price = u64::from(JOB_BLOCKS * executions) << state.evicted.min(EVICTIONS_MAX);
        match u64::from(state.missed) < price {
            true => Action::Nothing,
            false if self.background => Action::Request,
            false => Action::CompileHere,
        }
    }

    fn missed(&self, state: &State) -> Action {
        let few = state.missed < state.runs.saturating_mul(BLOCKS_OF_RUN);
        if state.compiled == 0 && state.runs >= RUNS_MIN && few {
            return Action::LeaveAlone;
        }
        let blocks = state.compiled as u64 + state.fresh as u64;
        // Tests that want everything compiled at once give small numbers.
        let job = JOB_BLOCKS.min(self.hot_executions - 1) as u64;
        let (executions, weight) = match state.compiled {
            0 => (SEEN.min(self.hot_executions), 1),
            _ => (self.hot_executions, MISS_WEIGHT),
        };
        let price = ((job + blocks) * executions as u64) << state.evicted.min(EVICTIONS_MAX);
        if state.fresh == 0 || state.missed as u64 * weight < price {
            return Action::Nothing;
        }
        if !self.background || blocks * BLOCK_COMPILE_NS <= self.inline_compile_ns {
            Action::CompileHere
        } else {
            Action::Request
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: Policy = Policy {
        compile: Compile::Seen,
        hot_executions: 20,
        decides_every: 8,
        warm_frames: 0,
        background: true,
        inline_compile_ns: 2 * BLOCK_COMPILE_NS,
        top_tier: Tier::Tier1,
        optimise_frames: 100,
        tier1_frames: 1000,
    };

    fn missed(policy: Policy, compiled: u32, fresh: u32, missed: u32) -> Action {
        let state = State { compiled, fresh, missed, ..State::default() };
        policy.decide(&state, Event::Missed)
    }

    #[test]
    fn a_known_code_is_compiled_when_it_is_seen_what_it_runs() {
        assert_eq!(missed(SOME, 0, 5, 51), Action::Nothing);
        assert_eq!(missed(SOME, 0, 5, 52), Action::Request);
        assert_eq!(missed(SOME, 0, 6, 52), Action::Nothing, "there is more of it");
    }

    #[test]
    fn what_is_not_compiled_pays_for_compiling_all_again() {
        assert_eq!(missed(SOME, 7, 5, 199), Action::Nothing);
        assert_eq!(missed(SOME, 7, 5, 200), Action::Request);
        assert_eq!(missed(SOME, 7, 0, 2000), Action::Nothing, "it would be the same program");
    }

    #[test]
    fn what_is_stored_is_loaded_for_less_than_compiling_it_costs() {
        let missed = |policy: Policy, evicted, missed| {
            let state = State { fresh: 500, missed, evicted, stored: true, ..State::default() };
            policy.decide(&state, Event::Missed)
        };
        assert_eq!((missed(SOME, 0, 31), missed(SOME, 0, 32)), (Action::Nothing, Action::Request));
        assert_eq!((missed(SOME, 1, 63), missed(SOME, 1, 64)), (Action::Nothing, Action::Request));
        let here = Policy { background: false, ..SOME };
        assert_eq!(missed(here, 0, 32), Action::CompileHere);
        let all = Policy { compile: Compile::All, ..SOME };
        assert_eq!(missed(all, 0, 32), Action::Request);
    }

    #[test]
    fn with_what_is_stored_alone_nothing_is_compiled() {
        let stored = Policy { compile: Compile::Stored, ..SOME };
        let state = State { fresh: 5, missed: 10_000, runs: 3, ..State::default() };
        assert_eq!(stored.decide(&state, Event::Missed), Action::Nothing);
        assert_eq!(stored.decide(&state, Event::Frame(10_000)), Action::Nothing);
        let state = State { stored: true, ..state };
        assert_eq!(stored.decide(&state, Event::Missed), Action::Request);
        let state = State { compiled: 5, worked: 10_000, profiled: true, ..state };
        let state = State { tier: Some(Tier::Baseline), ..state };
        assert_eq!(
            stored.decide(&state, Event::Missed),
            Action::Nothing,
            "its blocks are what there is"
        );
        assert_eq!(stored.decide(&state, Event::Worked), Action::Nothing);
        assert!(stored.hot_from().is_some(), "who is not known has no slot");
    }

    #[test]
    fn who_was_thrown_out_pays_more() {
        let evicted = |evicted, missed| {
            let state = State { fresh: 5, missed, evicted, ..State::default() };
            SOME.decide(&state, Event::Missed)
        };
        assert_eq!((evicted(1, 103), evicted(1, 104)), (Action::Nothing, Action::Request));
        assert_eq!(evicted(100, 52 << 6), Action::Request, "that has an end");
    }

    #[test]
    fn the_sum_of_compilations_is_bounded() {
        // Blocks come one by one, each is executed now and then, and they are compiled when it pays.
        let (mut compiled, mut fresh, mut seen) = (10u32, 0u32, 0u32);
        let (mut work, mut executions) = (0u64, 0u64);
        for nth in 0..10_000 {
            fresh += u32::from(nth % 40 == 0);
            (seen, executions) = (seen + 1, executions + 1);
            if missed(SOME, compiled, fresh, seen) != Action::Nothing {
                work += (compiled + fresh) as u64;
                (compiled, fresh, seen) = (compiled + fresh, 0, 0);
            }
        }
        let paid = executions * MISS_WEIGHT;
        assert!(work > 0 && work * SOME.hot_executions as u64 <= paid, "never more than was lost");
    }

    #[test]
    fn what_runs_next_to_nothing_is_left_alone() {
        let runs = |runs, missed| {
            let state = State { fresh: 2, missed, runs, ..State::default() };
            SOME.decide(&state, Event::Missed)
        };
        assert_eq!(runs(64, 255), Action::LeaveAlone);
        assert_eq!(runs(63, 39), Action::Nothing, "who knows yet");
        assert_ne!(runs(64, 256), Action::LeaveAlone);
    }

    #[test]
    fn small_numbers_compile_at_once() {
        let eager = Policy { hot_executions: 1, ..SOME };
        assert_ne!(missed(eager, 0, 1, 1), Action::Nothing);
        assert_ne!(missed(eager, 1, 1, 1), Action::Nothing);
    }

    #[test]
    fn code_that_only_accesses_storage_is_left_alone() {
        assert!(gains(11, 1), "a block of mean length");
        assert!(gains(1000, 290));
        assert!(!gains(3, 1), "SLOAD, POP and a constant");
        assert!(gains(0, 0));
    }

    fn worked(tier: Tier, worked: u32, profiled: bool) -> Action {
        let state = State { tier: Some(tier), worked, profiled, ..State::default() };
        SOME.decide(&state, Event::Worked)
    }

    #[test]
    fn what_is_run_is_profiled_and_then_promoted_one_tier_at_a_time() {
        assert_eq!(worked(Tier::Baseline, 99, true), Action::Nothing);
        assert_eq!(worked(Tier::Baseline, 100, false), Action::Profile);
        assert_eq!(worked(Tier::Baseline, 100, true), Action::Promote(Tier::Optimised));
        assert_eq!(worked(Tier::Optimised, 999, true), Action::Nothing);
        assert_eq!(worked(Tier::Optimised, 1000, true), Action::Promote(Tier::Tier1));
        assert_eq!(worked(Tier::Tier1, u32::MAX, true), Action::Nothing);
    }

    #[test]
    fn half_a_profile_promotes_nobody() {
        let state = State { worked: 100, profiled: true, profiling: true, ..State::default() };
        let state = State { tier: Some(Tier::Baseline), ..state };
        assert_eq!(SOME.decide(&state, Event::Worked), Action::Profile);
    }

    #[test]
    fn there_may_be_no_higher_tier() {
        let state = State { worked: 5000, profiled: true, ..State::default() };
        let at = |top_tier, tier| {
            let policy = Policy { top_tier, ..SOME };
            policy.decide(&State { tier, ..state }, Event::Worked)
        };
        assert_eq!(at(Tier::Baseline, Some(Tier::Baseline)), Action::Nothing);
        assert_eq!(at(Tier::Optimised, Some(Tier::Optimised)), Action::Nothing);
        assert_eq!(at(Tier::Tier1, None), Action::Nothing);
    }

    #[test]
    fn who_is_not_promoted_waits_longer() {
        let tries = |tries, worked| {
            let state = State {
                tier: Some(Tier::Baseline),
                worked,
                tries,
                profiled: true,
                ..State::default()
            };
            SOME.decide(&state, Event::Worked)
        };
        assert_eq!(tries(2, 399), Action::Nothing);
        assert_eq!(tries(2, 400), Action::Promote(Tier::Optimised));
        assert_eq!(tries(u32::MAX, 100 << TRIES_MAX), Action::Promote(Tier::Optimised));
    }

    #[test]
    fn little_is_compiled_where_it_is_noticed() {
        assert_eq!(missed(SOME, 0, 2, 40), Action::CompileHere);
        assert_eq!(missed(SOME, 0, 3, 60), Action::Request);
        assert_eq!(missed(Policy { background: false, ..SOME }, 0, 3, 60), Action::CompileHere);
    }

    #[test]
    fn what_is_barred_stays_interpreted() {
        let state = State { fresh: 1, missed: 1000, barred: true, ..State::default() };
        assert_eq!(SOME.decide(&state, Event::Missed), Action::Nothing);
        assert_eq!(SOME.decide(&state, Event::Frame(1000)), Action::Nothing);
    }

    #[test]
    fn whole_codes_are_compiled_by_frames() {
        let all = Policy { compile: Compile::All, warm_frames: 3, ..SOME };
        let at = |policy: Policy, n| policy.decide(&State::default(), Event::Frame(n));
        assert_eq!(at(all, 2), Action::Nothing);
        assert_eq!(at(all, 3), Action::Request);
        assert_eq!(at(Policy { background: false, ..all }, 3), Action::CompileHere);
        assert_eq!(missed(all, 0, 1, 1000), Action::Nothing);
        assert_eq!(at(SOME, 1000), Action::Nothing);
    }
}
