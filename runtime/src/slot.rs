//! One code under one configuration: its program, if it has one, and how it came to have it.
//!
//! **Owns** the swap of programs, the counters that decide about compilation, and the marks of a
//! recording run. **Never** compiles.

use crate::program::Program;
use arc_swap::ArcSwapOption;
use kiln_abi::Pc;
use kiln_ir::{LOWERING, activated_in};
use revm::bytecode::Bytecode;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// Where the engine keeps what it knows about a code.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The code, kept alive so that its address means it.
    pub(crate) bytecode: Bytecode,
    /// What is baked into its program.
    pub(crate) baked: Arc<kiln_ir::Config>,
    /// The program that runs. Readers get an `Arc` of an immutable program: the store pairs with
    /// their load inside of `ArcSwap`.
    program: ArcSwapOption<Program>,
    /// Programs published so far.
    published: AtomicU32,
    frames: AtomicU32,
    /// Held by whoever compiles.
    compiling: AtomicBool,
    failed: AtomicBool,
    seen: OnceLock<Seen>,
}

impl Slot {
    pub(crate) fn new(bytecode: Bytecode, baked: Arc<kiln_ir::Config>) -> Self {
        Self {
            bytecode,
            baked,
            program: ArcSwapOption::empty(),
            published: AtomicU32::new(0),
            frames: AtomicU32::new(0),
            compiling: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            seen: OnceLock::new(),
        }
    }

    /// The program that runs.
    #[inline]
    pub(crate) fn program(&self) -> Option<Arc<Program>> {
        self.program.load_full()
    }

    /// Puts a program in the place of the present one, or none. Frames that run the present one
    /// leave it at their next safepoint.
    pub(crate) fn publish(&self, program: Option<Arc<Program>>) {
        // Relaxed: only counts.
        self.published.fetch_add(program.is_some() as u32, Ordering::Relaxed);
        if let Some(old) = self.program.swap(program) {
            old.supersede();
        }
    }

    /// Programs published so far.
    pub(crate) fn published(&self) -> u32 {
        self.published.load(Ordering::Relaxed)
    }

    /// Counts a frame; answers how many came before. Relaxed: a heuristic.
    pub(crate) fn count_frame(&self) -> u32 {
        let before = self.frames.load(Ordering::Relaxed);
        self.frames.store(before.saturating_add(1), Ordering::Relaxed);
        before
    }

    /// Frames that began so far.
    pub(crate) fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Whether a compilation failed. It is not tried again: the same input fails again.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Runs `compile` unless another thread is at it.
    pub(crate) fn exclusively<R>(&self, compile: impl FnOnce() -> R) -> Option<R> {
        // Acquire pairs with the release below: the next one sees what the last one published.
        if self.compiling.swap(true, Ordering::Acquire) {
            return None;
        }
        let result = compile();
        self.compiling.store(false, Ordering::Release);
        Some(result)
    }

    /// The marks, for a run that is about to make some.
    pub(crate) fn recorded(&self) -> &Seen {
        self.seen.get_or_init(|| Seen::new(self.bytecode.len(), &self.baked))
    }

    /// The marks, if a recording run made any.
    #[inline]
    pub(crate) fn seen(&self) -> Option<&Seen> {
        self.seen.get()
    }
}

/// Marks of blocks that were run, by the pc of their leader.
#[derive(Debug)]
pub(crate) struct Seen {
    marks: Box<[AtomicU64]>,
    /// By opcode: whether a block ends with it.
    ends_block: Box<[bool; 256]>,
    /// Marks set since the last compilation. Relaxed, like the marks: only the number counts.
    fresh: AtomicU32,
}

impl Seen {
    fn new(code_len: usize, baked: &kiln_ir::Config) -> Self {
        let ends_block = |opcode: usize| {
            baked.replaced.contains(opcode as u8)
                || !baked.spec.is_enabled_in(activated_in(opcode as u8))
                || LOWERING[opcode].ends_block()
        };
        Self {
            marks: (0..=code_len / 64).map(|_| AtomicU64::new(0)).collect(),
            ends_block: Box::new(std::array::from_fn(ends_block)),
            fresh: AtomicU32::new(0),
        }
    }

    /// Notes that the interpreter stands at an instruction; `leads` says whether the one before
    /// ended its block. Answers that of this one, for the next.
    #[inline]
    pub(crate) fn step(&self, pc: usize, opcode: u8, leads: bool) -> bool {
        if leads || opcode == revm::bytecode::opcode::JUMPDEST {
            self.mark(pc);
        }
        self.ends_block[opcode as usize]
    }

    #[inline]
    fn mark(&self, pc: usize) {
        let bit = 1u64 << (pc % 64);
        if let Some(word) = self.marks.get(pc / 64)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
            self.fresh.fetch_add(1, Ordering::Relaxed);
        }
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
        let slot = Slot::new(Bytecode::new_legacy(Bytes::copy_from_slice(&code)), Arc::new(config));
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

    #[test]
    fn one_compiles_at_a_time() {
        let config =
            kiln_ir::Config { spec: SpecId::CANCUN, gas: [0; 256], replaced: OpcodeSet::EMPTY };
        let slot = Slot::new(Bytecode::new(), Arc::new(config));
        assert_eq!(slot.exclusively(|| slot.exclusively(|| ())), Some(None));
        assert_eq!(slot.exclusively(|| 1), Some(1));
    }
}
