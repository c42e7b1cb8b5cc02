//! One code under one configuration: its program, if it has one, and how it came to have it.
//!
//! **Owns** the swap of programs, the counters that decide about compilation, and the marks of a
//! recording run. **Never** compiles.

mod seen;

pub(crate) use seen::Seen;

use crate::{
    backend::Ticket, observe::trace, persist::Digest, policy::State, program::Program, sweep,
};
use arc_swap::{ArcSwapOption, Guard};
use kiln_abi::Pc;
use kiln_ir::{LOWERING, activated_in};
use revm::{bytecode::Bytecode, primitives::B256};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, Ordering},
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
    /// Of it: what it is called in the store.
    pub(crate) digest: Digest,
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
        Self { digest: Digest::of_config(&config), config, ends_block }
    }
}

/// Where the engine keeps what it knows about a code.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The code, kept alive so that its address means it.
    pub(crate) bytecode: Bytecode,
    /// What the database says its hash is.
    pub(crate) hash: B256,
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
    /// Frame runs of earlier sweeps that found a program, and what the store remembers of them. Written by the sweep
    /// alone, once others may see the slot.
    used: AtomicU32,
    /// Not the engine's any more.
    retired: AtomicBool,
    /// The store has a program of it. Relaxed: a hint.
    stored: AtomicBool,
    /// It was asked for because the store has it, and not because anything is known of what it runs. Relaxed: ordered by
    /// the ticket's phase.
    fetched: AtomicBool,
    /// It waits for being saved. Release and acquire: who takes it out of the queue sees the program it waits for.
    unsaved: AtomicBool,
    seen: OnceLock<Seen>,
}

impl Slot {
    pub(crate) fn new(bytecode: Bytecode, hash: B256, baked: Arc<Baked>) -> Self {
        Self {
            bytecode,
            hash,
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
            used: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            stored: AtomicBool::new(false),
            fetched: AtomicBool::new(false),
            unsaved: AtomicBool::new(false),
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
            stored: self.is_stored(),
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
        let used = self.used.load(Ordering::Relaxed).saturating_add(uses);
        self.used.store(used, Ordering::Relaxed);
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

    /// Frame runs that found a program, all told.
    pub(crate) fn uses_of_all(&self) -> u32 {
        self.used.load(Ordering::Relaxed).saturating_add(self.uses.load(Ordering::Relaxed))
    }

    /// Whether the store has a program of it, as far as is known.
    pub(crate) fn is_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed)
    }

    /// The store has a program of it, or none.
    pub(crate) fn set_stored(&self, stored: bool) {
        self.stored.store(stored, Ordering::Relaxed);
    }

    /// It is asked for because the store has it.
    pub(crate) fn begin_fetch(&self) {
        self.fetched.store(true, Ordering::Relaxed);
    }

    /// Its job has begun. Whether it was asked for because the store has it.
    pub(crate) fn end_fetch(&self) -> bool {
        self.fetched.load(Ordering::Relaxed) && self.fetched.swap(false, Ordering::Relaxed)
    }

    /// Its program is to be saved. False if it waits for that already.
    pub(crate) fn await_saving(&self) -> bool {
        !self.unsaved.swap(true, Ordering::AcqRel)
    }

    /// It waits no more: a program that comes from now on has it wait again.
    pub(crate) fn begin_saving(&self) {
        self.unsaved.swap(false, Ordering::AcqRel);
    }

    /// Whether it is the engine's no more.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// What is remembered of the code from an earlier session: leaders of blocks that were run, how often each was if
    /// that was counted, and how often a program of it was used. For a slot that nobody else sees yet.
    pub(crate) fn restore(&self, leaders: &[u32], counts: &[u32], uses: u32) {
        let seen = self.recorded();
        for (nth, &pc) in leaders.iter().enumerate().filter(|&(_, &pc)| self.may_lead(pc)) {
            seen.mark(pc as usize);
            if let Some(&count) = counts.get(nth) {
                seen.set_count(pc as usize, count);
            }
        }
        seen.counted.store(true, Ordering::Relaxed);
        self.used.store(uses, Ordering::Relaxed);
    }

    /// Whether a block may begin there, as far as it matters: compiled code is entered at any instruction that the
    /// interpreter stands at, but a computed jump must not find a JUMPDEST that is none.
    fn may_lead(&self, pc: u32) -> bool {
        let code = self.bytecode.original_byte_slice();
        let table = self.bytecode.legacy_jump_table();
        code.get(pc as usize).is_some_and(|&opcode| {
            opcode != revm::bytecode::opcode::JUMPDEST
                || table.is_some_and(|table| table.is_valid(pc as usize))
        })
    }

    /// A program with these blocks was loaded: they are marked, so that a later compilation has them, too, and others
    /// that were run are still to be compiled.
    pub(crate) fn loaded(&self, blocks: impl Iterator<Item = Pc>) {
        self.missed.store(0, Ordering::Relaxed);
        self.frames.store(0, Ordering::Relaxed);
        self.recorded().compiled(blocks);
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
            B256::ZERO,
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
        Slot::new(code, B256::ZERO, Arc::new(Baked::new(config)))
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
    fn what_is_remembered_is_marked_and_counts() {
        // PUSH1 0x5b; JUMPDEST; JUMPI; STOP
        let code = Bytecode::new_legacy(Bytes::from_static(&[0x60, 0x5b, 0x5b, 0x57, 0x00]));
        let slot = Slot::new(code, B256::ZERO, slot().baked);
        slot.restore(&[0, 1, 2, 4, 5, 1000], &[7, 8, 9], 40);
        let seen = slot.seen().unwrap();
        // What a PUSH has in it is no JUMPDEST, and behind the code there is nothing.
        assert_eq!(seen.leaders().collect::<Vec<_>>(), [Pc(0), Pc(2), Pc(4)]);
        assert_eq!((seen.runs(Pc(0)), seen.runs(Pc(2)), seen.runs(Pc(4))), (7, 9, 0));
        assert_eq!((seen.fresh(), slot.uses_of_all()), (3, 40));
        assert!(slot.state().profiled && seen.counted());
        slot.miss(4);
        slot.loaded([Pc(0), Pc(2), Pc(3)].into_iter());
        assert_eq!(
            (seen.fresh(), slot.state().missed),
            (1, 0),
            "one that the program does not have"
        );
        assert_eq!(seen.leaders().count(), 4);
    }

    #[test]
    fn a_slot_waits_for_being_saved_once() {
        let slot = slot();
        assert!(slot.await_saving() && !slot.await_saving());
        slot.begin_saving();
        assert!(slot.await_saving());
    }

    #[test]
    fn uses_add_up() {
        let slot = slot();
        assert!(slot.touch(0));
        slot.age(10);
        assert!(slot.touch(0));
        (0..9).for_each(|_| slot.age(10));
        assert_eq!((slot.score(), slot.uses_of_all()), (0, 2 * USES_SAMPLED));
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
