//! What to compile, and where: a pure function from what is known about a code to what is done.
//!
//! **Owns** the rule. **Callers guarantee** nothing. **Never** looks at a clock, a lock or a thread.
//!
//! The rule is that of renting or buying (Karlin et al., *Competitive snoopy caching*, 1988):
//! interpreting a block costs a little more each time than running it compiled, compiling costs once;
//! what is compiled when both sums are equal never costs more than twice the best choice that could
//! have been made by who knows the future. Both are counted in block executions: compiling a block
//! costs as much as interpretation loses in [`Policy::hot_executions`] executions. It is a heuristic
//! here, without that bound: executions are sampled, and a block that became hot between compiled ones,
//! which takes fewer, is credited with as many as any other.

use crate::{
    config::{Compile, Config},
    heat::HotFrom,
};

/// Nanoseconds to compile a block of the mean length, 11 instructions, with cold caches. Measured:
/// `cargo bench -p kiln-benches --bench blocks`.
const BLOCK_COMPILE_NS: u64 = 1_500;

/// What an execution in the interpreter loses between compiled blocks, against one in a frame without a
/// program: compiled code is left and entered again for it.
const MISS_WEIGHT: u64 = 2;

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
    /// With [`Compile::All`], frames of a code before it is compiled.
    pub(crate) warm_frames: u32,
    /// Whether there are threads that compile.
    pub(crate) background: bool,
    /// Time to compile up to which it is done where it was asked for.
    pub(crate) inline_compile_ns: u64,
    pub(crate) job: u64,
    pub(crate) mw: u64,
}

pub(crate) fn knob(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|x| x.parse().ok()).unwrap_or(default)
}

/// What is known about a code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether it has a program.
    pub(crate) compiled: bool,
    /// Blocks of that which would be compiled again with those that are not in it.
    pub(crate) again: u32,
    /// Hot blocks that are not in its program.
    pub(crate) fresh: u32,
    /// Executions of these that the interpreter did.
    pub(crate) missed: u32,
    /// It was asked for already, or may not be compiled at the moment.
    pub(crate) barred: bool,
}

/// What happened to a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A frame began without a program; so many did before.
    Frame(u32),
    /// The interpreter came through a hot block that is not compiled.
    HotBlock,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Compiled by who noticed.
    CompileHere,
    /// Compiled by a thread of its own, soon.
    Request,
}

impl Policy {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            compile: if config.force.promote { Compile::All } else { config.compile },
            hot_executions: config.hot_executions,
            warm_frames: if config.force.promote { 0 } else { config.warm_frames },
            background: config.compile_threads > 0 && !config.force.promote,
            inline_compile_ns: config.inline_compile_ns as u64,
            job: knob("X_JOB", 0),
            mw: knob("X_MW", MISS_WEIGHT),
        }
    }

    /// Executions from which a block counts as hot; none if whole codes are compiled.
    pub(crate) fn hot_from(&self) -> Option<HotFrom> {
        match self.compile {
            Compile::All => None,
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
            (Compile::Seen, Event::HotBlock) => self.hot_block(state),
            _ => Action::Nothing,
        }
    }

    fn hot_block(&self, state: &State) -> Action {
        let blocks = state.again as u64 + state.fresh as u64;
        let weight = if state.compiled { self.mw } else { 1 };
        if state.fresh == 0
            || state.missed as u64 * weight < (self.job + blocks) * self.hot_executions as u64
        {
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

    const SEEN: Policy = Policy {
        compile: Compile::Seen,
        hot_executions: 20,
        warm_frames: 0,
        background: true,
        inline_compile_ns: 2 * BLOCK_COMPILE_NS,
    };

    fn hot(policy: Policy, again: u32, fresh: u32, missed: u32) -> Action {
        let state = State { compiled: again > 0, again, fresh, missed, barred: false };
        policy.decide(&state, Event::HotBlock)
    }

    #[test]
    fn blocks_are_compiled_when_interpreting_them_has_cost_as_much() {
        assert_eq!(hot(SEEN, 0, 5, 99), Action::Nothing);
        assert_eq!(hot(SEEN, 0, 5, 100), Action::Request);
        // What is there is compiled again with them.
        assert_eq!(hot(SEEN, 5, 5, 99), Action::Nothing);
        assert_eq!(hot(SEEN, 5, 5, 100), Action::Request);
        assert_eq!(hot(SEEN, 5, 0, 200), Action::Nothing, "it would be the same program");
    }

    #[test]
    fn the_sum_of_all_compilations_is_bounded() {
        // Blocks become hot one by one, each at once, and are compiled when it pays.
        let (mut compiled, mut fresh, mut missed) = (0u32, 0u32, 0u32);
        let mut work = 0u64;
        let mut executions = 0u64;
        for _ in 0..1_000 {
            fresh += 1;
            missed += SEEN.hot_executions;
            executions += SEEN.hot_executions as u64;
            if hot(SEEN, compiled, fresh, missed) != Action::Nothing {
                work += (compiled + fresh) as u64;
                (compiled, fresh, missed) = (compiled + fresh, 0, 0);
            }
        }
        let lost = executions * MISS_WEIGHT;
        assert!(work * SEEN.hot_executions as u64 <= lost, "never more than what was lost");
    }

    #[test]
    fn code_that_only_accesses_storage_is_left_alone() {
        assert!(gains(11, 1), "a block of mean length");
        assert!(gains(1000, 290));
        assert!(!gains(3, 1), "SLOAD, POP and a constant");
        assert!(gains(0, 0));
    }

    #[test]
    fn little_is_compiled_where_it_is_noticed() {
        assert_eq!(hot(SEEN, 0, 2, 40), Action::CompileHere);
        assert_eq!(hot(SEEN, 0, 3, 60), Action::Request);
        assert_eq!(hot(Policy { background: false, ..SEEN }, 0, 3, 60), Action::CompileHere);
    }

    #[test]
    fn what_is_barred_stays_interpreted() {
        let state = State { fresh: 1, missed: 1000, barred: true, ..State::default() };
        assert_eq!(SEEN.decide(&state, Event::HotBlock), Action::Nothing);
        assert_eq!(SEEN.decide(&state, Event::Frame(1000)), Action::Nothing);
    }

    #[test]
    fn whole_codes_are_compiled_by_frames() {
        let all = Policy { compile: Compile::All, warm_frames: 3, ..SEEN };
        let at = |policy: Policy, n| policy.decide(&State::default(), Event::Frame(n));
        assert_eq!(at(all, 2), Action::Nothing);
        assert_eq!(at(all, 3), Action::Request);
        assert_eq!(at(Policy { background: false, ..all }, 3), Action::CompileHere);
        assert_eq!(hot(all, 0, 1, 1000), Action::Nothing);
        assert_eq!(at(SEEN, 1000), Action::Nothing);
    }
}
