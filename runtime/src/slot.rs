//! One code under one configuration: its program, if it has one, and how it came to have it.
//!
//! **Owns** the swap of programs, the counters that decide about compilation, and the marks of a
//! recording run. **Never** compiles.

use crate::{backend::Ticket, observe::trace, policy::State, program::Program, sweep};
use arc_swap::{ArcSwapOption, Guard};
use kiln_abi::Pc;
use kiln_ir::{LOWERING, activated_in};
use revm::bytecode::Bytecode;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// Frame runs until a code that was left alone is looked at again: it may run something else by then.
const ALONE: u32 = 1 << 12;

/// Uses are counted by samples: a shared counter is too dear for each.
pub(crate) const USES_SAMPLED: u32 = 16;

/// A slot's program as one reader sees it: pinned, without having touched its reference count.
pub(crate) type Pinned = Guard<Option<Arc<Program>>>;

/// What is baked into programs, with what follows from it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Baked {
    pub(crate) config: kiln_ir::Config,
    /// By opcode: whether a block ends with it.
    pub(crate) ends_block: [bool; 256],
}

impl Baked {
    pub(crate) fn new(config: kiln_ir::Config) -> Self {
        let ends_block = std::array::from_fn(|opcode| {
            config.replaced.contains(opcode as u8)
                || !config.spec.is_enabled_in(activated_in(opcode as u8))
                || LOWERING[opcode].ends_block()
        });
        Self { config, ends_block }
    }
}

/// Where the engine keeps what it knows about a code.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The code, kept alive so that its address means it.
    pub(crate) bytecode: Bytecode,
    /// What is baked into its program.
    pub(crate) baked: Arc<Baked>,
    /// The program that runs. Readers get an `Arc` of an immutable program: the store pairs with
    /// their load inside of `ArcSwap`.
    program: ArcSwapOption<Program>,
    /// Programs published so far.
    published: AtomicU32,
    frames: AtomicU32,
    /// Executions of blocks that are not compiled, since the last compilation.
    missed: AtomicU32,
    /// How often a program was thrown out.
    evicted: AtomicU32,
    /// Frame runs that nobody is to look at.
    alone: AtomicU32,
    /// Frame runs that found a program, since the last sweep: one of [`USES_SAMPLED`] is counted.
    uses: AtomicU32,
    /// Frames since its program got to its tier, and what else took as long. Relaxed, as all that follows: a
    /// heuristic.
    worked: AtomicU32,
    /// Blocks that are to be counted.
    profile_left: AtomicU32,
    /// How often it was tried in vain to get to the next tier.
    tries: AtomicU32,
    /// The same, aged. Written by the sweep alone.
    score: AtomicU32,
    /// Since a frame of it ran, by the sweeps' account, in milliseconds.
    idle_ms: AtomicU32,
    /// The back end's part: who compiles it, and whether it may be.
    pub(crate) ticket: Ticket,
    /// Not the engine's any more.
    retired: AtomicBool,
    seen: OnceLock<Seen>,
}

impl Slot {
    pub(crate) fn new(bytecode: Bytecode, baked: Arc<Baked>) -> Self {
        Self {
            bytecode,
            baked,
            program: ArcSwapOption::empty(),
            published: AtomicU32::new(0),
            frames: AtomicU32::new(0),
            missed: AtomicU32::new(0),
            evicted: AtomicU32::new(0),
            alone: AtomicU32::new(0),
            uses: AtomicU32::new(0),
            worked: AtomicU32::new(0),
            profile_left: AtomicU32::new(0),
            tries: AtomicU32::new(0),
            score: AtomicU32::new(0),
            idle_ms: AtomicU32::new(0),
            ticket: Ticket::default(),
            retired: AtomicBool::new(false),
            seen: OnceLock::new(),
        }
    }

    /// The program that runs.
    #[inline]
    pub(crate) fn program(&self) -> Option<Arc<Program>> {
        self.program.load_full()
    }

    /// The program that runs, pinned until this is dropped.
    #[inline]
    pub(crate) fn pin(&self) -> Pinned {
        self.program.load()
    }

    /// Puts a program in the place of the present one, or none. Frames that run the present one
    /// leave it at their next safepoint.
    pub(crate) fn publish(&self, program: Option<Arc<Program>>) {
        let some = program.is_some();
        if let Some(new) = &program {
            trace::publishing(new);
            if self.profile_left.load(Ordering::Relaxed) > 0 {
                new.profile(true);
            }
        }
        if let Some(old) = self.program.swap(program) {
            old.supersede();
            trace::superseded(&old);
        }
        if some && self.retired.load(Ordering::Relaxed) {
            return self.publish(None);
        }
        // Release, pairs with the acquire in `published`: who sees the number finds the program.
        self.published.fetch_add(some as u32, Ordering::Release);
    }

    /// The slot is not the engine's any more: it lets go of its program, and gets no other.
    pub(crate) fn retire(&self) {
        // Release, by the swap in `publish`: whoever swaps after it sees that.
        self.retired.store(true, Ordering::Relaxed);
        self.publish(None);
    }

    /// Programs published so far.
    #[inline]
    pub(crate) fn published(&self) -> u32 {
        self.published.load(Ordering::Acquire)
    }

    /// Counts a frame; answers how many came before. Relaxed: a heuristic.
    pub(crate) fn count_frame(&self) -> u32 {
        let before = self.frames.load(Ordering::Relaxed);
        self.frames.store(before.saturating_add(1), Ordering::Relaxed);
        before
    }

    /// Notes that the interpreter came through a block that is not compiled; answers how often it came
    /// through such blocks since the last compilation. Relaxed, and no single step: a heuristic.
    #[inline]
    pub(crate) fn miss(&self, pc: usize) -> u32 {
        let seen = self.recorded();
        if seen.mark(pc) {
            seen.counted.store(true, Ordering::Relaxed);
        }
        let missed = self.missed.load(Ordering::Relaxed).saturating_add(1);
        self.missed.store(missed, Ordering::Relaxed);
        missed
    }

    /// What the policy looks at.
    pub(crate) fn state(&self) -> State {
        State {
            compiled: self.pin().as_ref().map_or(0, |program| program.regions() as u32),
            tier: self.pin().as_ref().map(|program| program.tier()),
            worked: self.worked.load(Ordering::Relaxed),
            tries: self.tries.load(Ordering::Relaxed),
            profiled: self.seen().is_some_and(Seen::is_counted),
            profiling: self.profile_left.load(Ordering::Relaxed) > 0,
            fresh: self.seen().map_or(0, Seen::fresh),
            missed: self.missed.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            runs: self.frames.load(Ordering::Relaxed),
            barred: self.ticket.is_taken() || self.retired.load(Ordering::Relaxed),
        }
    }

    /// Its frames are interpreted for a while, and nobody looks what they run: it would not gain by a
    /// program.
    pub(crate) fn leave_alone(&self) {
        self.settle();
        self.alone.store(ALONE, Ordering::Relaxed);
    }

    /// Whether a frame run that begins is one of those. Relaxed, and no single step: a heuristic.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        let left = self.alone.load(Ordering::Relaxed);
        if left > 0 {
            self.alone.store(left - 1, Ordering::Relaxed);
        }
        left > 0
    }

    /// A compilation begins that takes in all that was noted by now.
    pub(crate) fn settle(&self) {
        self.missed.store(0, Ordering::Relaxed);
        self.frames.store(0, Ordering::Relaxed);
        if let Some(seen) = self.seen() {
            seen.take_fresh();
        }
    }

    /// How often the code would have used a program lately, as far as is known: executions of a block, or
    /// frames.
    pub(crate) fn demand(&self) -> u32 {
        let fresh = self.seen().map_or(0, Seen::fresh).max(1);
        let missed = self.missed.load(Ordering::Relaxed) / fresh;
        missed.max(self.frames.load(Ordering::Relaxed))
    }

    /// A frame runs, the `nth` of its EVM that found a program; whether it is one of the sample. Writes only
    /// what other threads read if it has to. Relaxed: a heuristic.
    #[inline]
    #[must_use]
    pub(crate) fn touch(&self, nth: u64) -> bool {
        if self.idle_ms.load(Ordering::Relaxed) != 0 {
            self.idle_ms.store(0, Ordering::Relaxed);
        }
        let sampled = nth.is_multiple_of(USES_SAMPLED as u64);
        if sampled {
            self.uses.fetch_add(USES_SAMPLED, Ordering::Relaxed);
        }
        sampled
    }

    /// Its program was run in so many frames, or for as long.
    pub(crate) fn work(&self, frames: u32) {
        let worked = self.worked.load(Ordering::Relaxed).saturating_add(frames);
        self.worked.store(worked, Ordering::Relaxed);
    }

    /// Frames are to count so many blocks of the code, or go on with that: a program that came meanwhile may
    /// not know of it.
    pub(crate) fn profile(&self, blocks: u32) {
        if let Some(program) = &*self.pin() {
            let begins = |left: u32| (left == 0).then_some(blocks);
            // Going on is no failure.
            let _ = self.profile_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begins);
            program.profile(true);
        }
    }

    /// A block is about to be counted. Whether that is one too many: then the profile is complete, for who
    /// comes first.
    pub(crate) fn profiled_block(&self) -> Profiled {
        let less = |left: u32| left.checked_sub(1);
        let left = self.profile_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let profiled = match left {
            Err(_) => Profiled::Over,
            Ok(1) => Profiled::Complete,
            Ok(_) => return Profiled::Counts,
        };
        // Also where it was over before: a program that was published at that moment would have its frames
        // come here for ever.
        if let Some(program) = &*self.pin() {
            program.profile(false);
        }
        profiled
    }

    /// A job to get to a higher tier has begun: the next one has to wait, and longer if this one fails.
    pub(crate) fn try_promotion(&self) {
        self.worked.store(0, Ordering::Relaxed);
        self.tries.store(self.tries.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    }

    /// It got to a higher tier.
    pub(crate) fn promoted(&self) {
        self.tries.store(0, Ordering::Relaxed);
    }

    /// A sweep came, so long after the last one.
    pub(crate) fn age(&self, elapsed_ms: u64) {
        let uses = self.uses.swap(0, Ordering::Relaxed);
        let score = sweep::age(self.score.load(Ordering::Relaxed), uses);
        self.score.store(score, Ordering::Relaxed);
        let elapsed_ms = u32::try_from(elapsed_ms).unwrap_or(u32::MAX);
        let idle_ms = self.idle_ms.load(Ordering::Relaxed).saturating_add(elapsed_ms);
        self.idle_ms.store(idle_ms, Ordering::Relaxed);
    }

    /// Uses, aged.
    pub(crate) fn score(&self) -> u32 {
        let uses = self.uses.load(Ordering::Relaxed);
        self.score.load(Ordering::Relaxed).saturating_add(uses)
    }

    /// Since a frame of it ran, in milliseconds, by the sweeps' account.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.idle_ms.load(Ordering::Relaxed) as u64
    }

    /// Lets go of the program, and of the marks it was made from: what becomes hot again is compiled
    /// again, and no more.
    pub(crate) fn evict(&self) {
        self.publish(None);
        self.evicted.fetch_add(1, Ordering::Relaxed);
        self.profile_left.store(0, Ordering::Relaxed);
        self.settle();
        if let Some(seen) = self.seen() {
            seen.forget();
        }
    }

    /// The marks, for a run that is about to make some.
    pub(crate) fn recorded(&self) -> &Seen {
        self.seen.get_or_init(|| Seen::new(self.bytecode.len(), self.baked.clone()))
    }

    /// The marks, if a recording run made any.
    #[inline]
    pub(crate) fn seen(&self) -> Option<&Seen> {
        self.seen.get()
    }
}

/// What a block is to a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profiled {
    /// It counts.
    Counts,
    /// It is the first that does not.
    Complete,
    /// There is nothing to count.
    Over,
}

/// Marks of blocks that were run, by the pc of their leader.
#[derive(Debug)]
pub(crate) struct Seen {
    marks: Box<[AtomicU64]>,
    baked: Arc<Baked>,
    /// Whether marks were set because the code is hot, and not because it is recorded. Relaxed, as the
    /// others.
    counted: AtomicBool,
    /// Marks set since the last compilation. Relaxed, like the marks: only the number counts.
    fresh: AtomicU32,
    /// How often blocks were run, by the pc of their leader; once something counts. Relaxed, and no
    /// single steps: a heuristic.
    counts: OnceLock<Box<[AtomicU32]>>,
}

impl Seen {
    fn new(code_len: usize, baked: Arc<Baked>) -> Self {
        let marks = (0..=code_len / 64).map(|_| AtomicU64::new(0)).collect();
        Self {
            marks,
            baked,
            counted: AtomicBool::new(false),
            fresh: AtomicU32::new(0),
            counts: OnceLock::new(),
        }
    }

    /// The marks and counts of this moment, which stay as they are.
    pub(crate) fn snapshot(&self) -> Self {
        let word = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        let count = |count: &AtomicU32| AtomicU32::new(count.load(Ordering::Relaxed));
        let counts = self.counts.get().map(|counts| counts.iter().map(count).collect::<Box<_>>());
        Self {
            marks: self.marks.iter().map(word).collect(),
            baked: self.baked.clone(),
            counted: AtomicBool::new(self.counted()),
            fresh: AtomicU32::new(self.fresh()),
            counts: counts.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// Notes that the interpreter stands at an instruction; `leads` says whether the one before
    /// ended its block. Answers that of this one, for the next.
    #[inline]
    pub(crate) fn step(&self, pc: usize, opcode: u8, leads: bool) -> bool {
        if leads || opcode == revm::bytecode::opcode::JUMPDEST {
            self.mark(pc);
            self.count(pc);
        }
        self.baked.ends_block[opcode as usize]
    }

    /// Marks the block at `pc`; whether it was not.
    #[inline]
    fn mark(&self, pc: usize) -> bool {
        let bit = 1u64 << (pc % 64);
        let Some(word) = self.marks.get(pc / 64) else { return false };
        let fresh = word.load(Ordering::Relaxed) & bit == 0
            && word.fetch_or(bit, Ordering::Relaxed) & bit == 0;
        if fresh {
            self.fresh.fetch_add(1, Ordering::Relaxed);
        }
        fresh
    }

    /// Counts a run of the block at `pc`.
    fn count(&self, pc: usize) {
        let counts = self
            .counts
            .get_or_init(|| (0..self.marks.len() * 64).map(|_| AtomicU32::new(0)).collect());
        if let Some(count) = counts.get(pc) {
            count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// Whether blocks were counted.
    fn is_counted(&self) -> bool {
        self.counts.get().is_some()
    }

    /// How often the block at `pc` was run, as far as that was counted. If nothing was, all count the same.
    pub(crate) fn runs(&self, pc: Pc) -> u64 {
        match self.counts.get() {
            Some(counts) => {
                counts.get(pc.0 as usize).map_or(0, |count| count.load(Ordering::Relaxed).into())
            }
            None => 1,
        }
    }

    /// How many runs of blocks were counted.
    pub(crate) fn runs_of_all(&self) -> u64 {
        let counts = self.counts.get().map_or(&[][..], |counts| counts);
        counts.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }

    /// The leaders of the blocks that were run, in order.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = Pc> {
        self.marks.iter().enumerate().flat_map(|(index, word)| {
            let mut word = word.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(Pc(index as u32 * 64 + bit))
            })
        })
    }

    /// Forgets all marks. Relaxed: one that is set meanwhile may be lost.
    fn forget(&self) {
        self.marks.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.take_fresh();
    }

    /// Whether marks were set because the code is hot.
    pub(crate) fn counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }

    /// Blocks marked since the last compilation.
    #[inline]
    pub(crate) fn fresh(&self) -> u32 {
        self.fresh.load(Ordering::Relaxed)
    }

    /// A compilation begins that takes in all marks set by now.
    pub(crate) fn take_fresh(&self) {
        self.fresh.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::{OpcodeSet, SpecId};
    use revm::primitives::Bytes;

    #[test]
    fn only_leaders_are_marked() {
        // PUSH1 4; JUMP; STOP; JUMPDEST; STOP
        let code = [0x60, 0x04, 0x56, 0x00, 0x5b, 0x00];
        let config =
            kiln_ir::Config { spec: SpecId::CANCUN, gas: [1; 256], replaced: OpcodeSet::EMPTY };
        let slot = Slot::new(
            Bytecode::new_legacy(Bytes::copy_from_slice(&code)),
            Arc::new(Baked::new(config)),
        );
        let seen = slot.recorded();
        let leads = seen.step(0, 0x60, true);
        let leads = seen.step(2, 0x56, leads);
        assert!(leads);
        // The jump's target is a leader twice over.
        assert!(!seen.step(4, 0x5b, leads));
        assert!(seen.step(5, 0x00, false));
        // Behind the code there is nothing to mark.
        seen.step(1000, 0x5b, true);
        assert_eq!(seen.leaders().collect::<Vec<_>>(), [Pc(0), Pc(4)]);
        assert_eq!(seen.fresh(), 2);
        seen.take_fresh();
        seen.step(4, 0x5b, true);
        assert_eq!(seen.fresh(), 0);
    }

    fn slot() -> Slot {
        let config =
            kiln_ir::Config { spec: SpecId::CANCUN, gas: [0; 256], replaced: OpcodeSet::EMPTY };
        let code = Bytecode::new_legacy(Bytes::from_static(&[0x5b, 0x5b, 0x00]));
        Slot::new(code, Arc::new(Baked::new(config)))
    }

    #[test]
    fn uses_are_sampled_and_fade() {
        let slot = slot();
        assert_eq!((1..=160).filter(|&nth| slot.touch(nth)).count(), 10);
        assert_eq!(slot.score(), 160);
        slot.age(10);
        slot.age(10);
        assert_eq!((slot.score(), slot.idle_ms()), (80, 20));
        assert!(!slot.touch(1));
        assert_eq!((slot.score(), slot.idle_ms()), (80, 0));
    }

    /// A program for the evaluator.
    fn program(slot: &Slot) -> Arc<Program> {
        let (code, config) = (slot.bytecode.original_byte_slice(), &slot.baked.config);
        let limits = kiln_ir::Limits::default();
        let blocks = kiln_ir::Blocks::scan(code, config, &limits).unwrap();
        let mut scratch = kiln_ir::Scratch::default();
        let module = scratch.build(code, &blocks, config, &limits, &|_| true).unwrap();
        Arc::new(Program::evaluated(slot.bytecode.clone(), module, None))
    }

    #[test]
    fn who_is_retired_gets_no_program() {
        let slot = slot();
        slot.publish(Some(program(&slot)));
        slot.retire();
        assert!(slot.program().is_none());
        let late = program(&slot);
        slot.publish(Some(late.clone()));
        assert!(slot.program().is_none() && late.is_superseded(), "made while it was forgotten");
    }

    #[test]
    fn a_profile_ends_once_and_leaves_no_program_behind() {
        let slot = slot();
        slot.publish(Some(program(&slot)));
        let undisturbed = || slot.pin().as_ref().is_some_and(|program| program.is_undisturbed());
        slot.profile(3);
        assert!(!undisturbed() && slot.state().profiling);
        assert_eq!(slot.profiled_block(), Profiled::Counts);
        // The next program goes on with it, and asking again does not begin anew.
        slot.publish(Some(program(&slot)));
        assert!(!undisturbed());
        slot.profile(3);
        assert_eq!(slot.profiled_block(), Profiled::Counts);
        assert_eq!(slot.profiled_block(), Profiled::Complete);
        assert!(undisturbed() && !slot.state().profiling);
        // One that was published while it ended, and was told of it too late.
        slot.pin().as_ref().unwrap().profile(true);
        assert_eq!(slot.profiled_block(), Profiled::Over);
        assert!(undisturbed(), "its frames go on");
    }

    #[test]
    fn a_program_that_missed_it_is_told_again() {
        let slot = slot();
        slot.publish(Some(program(&slot)));
        slot.profile(3);
        slot.pin().as_ref().unwrap().profile(false);
        slot.profile(3);
        assert!(!slot.pin().as_ref().unwrap().is_undisturbed());
        assert_eq!(slot.profiled_block(), Profiled::Counts);
        slot.evict();
        assert!(!slot.state().profiling);
    }

    #[test]
    fn who_is_left_alone_is_looked_at_again() {
        let slot = slot();
        assert!(!slot.is_alone());
        slot.miss(0);
        slot.count_frame();
        slot.leave_alone();
        assert_eq!((slot.state().runs, slot.state().missed), (0, 0));
        assert_eq!((0..=ALONE).filter(|_| slot.is_alone()).count(), ALONE as usize);
        assert!(!slot.is_alone());
    }

    #[test]
    fn what_was_evicted_may_become_hot_again() {
        let slot = slot();
        (0..40).for_each(|nth| assert_eq!(slot.miss(nth % 2), nth as u32 + 1));
        assert_eq!((slot.demand(), slot.state().fresh), (20, 2));
        slot.evict();
        assert_eq!((slot.demand(), slot.state().fresh, slot.state().evicted), (0, 0, 1));
        slot.miss(1);
        assert_eq!((slot.demand(), slot.state().fresh), (1, 1));
        assert_eq!(slot.recorded().leaders().collect::<Vec<_>>(), [Pc(1)]);
    }
}
