//! One code under one configuration: its program, if it has one, and how it came to have it.
//!
//! **Owns** the swap of programs, the counters that decide about compilation, and the marks of a
//! recording run. **Never** compiles.

use crate::program::Program;
use arc_swap::ArcSwapOption;
use kiln_abi::Pc;
use kiln_ir::Blocks;
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
    pub(crate) program: ArcSwapOption<Program>,
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
            frames: AtomicU32::new(0),
            compiling: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            seen: OnceLock::new(),
        }
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

    /// The marks; made from the blocks that `scan` finds when it is first asked for.
    pub(crate) fn seen_or_scan(&self, scan: impl FnOnce() -> Option<Blocks>) -> &Seen {
        self.seen.get_or_init(|| Seen::new(&scan().unwrap_or_default(), self.bytecode.len()))
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
    leaders: Box<[u64]>,
    marks: Box<[AtomicU64]>,
    /// Marks set since the last compilation. Relaxed, like the marks: only the number counts.
    fresh: AtomicU32,
}

impl Seen {
    fn new(blocks: &Blocks, code_len: usize) -> Self {
        let mut leaders = vec![0u64; code_len / 64 + 1].into_boxed_slice();
        for block in &blocks.blocks {
            let pc = block.start.0 as usize;
            leaders[pc / 64] |= 1 << (pc % 64);
        }
        let marks = leaders.iter().map(|_| AtomicU64::new(0)).collect();
        Self { leaders, marks, fresh: AtomicU32::new(0) }
    }

    /// Marks the block at `pc`, if one begins there.
    #[inline]
    pub(crate) fn mark(&self, pc: usize) {
        let (word, bit) = (pc / 64, 1u64 << (pc % 64));
        if let Some(&leaders) = self.leaders.get(word)
            && leaders & bit != 0
            && self.marks[word].load(Ordering::Relaxed) & bit == 0
        {
            self.marks[word].fetch_or(bit, Ordering::Relaxed);
            self.fresh.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the block at `pc` was run.
    pub(crate) fn contains(&self, pc: Pc) -> bool {
        let pc = pc.0 as usize;
        self.marks
            .get(pc / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (pc % 64) & 1 != 0)
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
    use kiln_ir::{Limits, OpcodeSet, SpecId};
    use revm::primitives::Bytes;

    #[test]
    fn only_leaders_are_marked() {
        // PUSH1 4; JUMP; STOP; JUMPDEST; STOP
        let code = [0x60, 0x04, 0x56, 0x00, 0x5b, 0x00];
        let config =
            kiln_ir::Config { spec: SpecId::CANCUN, gas: [1; 256], replaced: OpcodeSet::EMPTY };
        let blocks = Blocks::scan(&code, &config, &Limits::default()).unwrap();
        let slot = Slot::new(Bytecode::new_legacy(Bytes::copy_from_slice(&code)), Arc::new(config));
        let seen = slot.seen_or_scan(|| Some(blocks));
        for pc in [0, 2, 4, 5, 1000] {
            seen.mark(pc);
        }
        let marked: Vec<_> = (0..10).filter(|&pc| seen.contains(Pc(pc))).collect();
        assert_eq!(marked, [0, 4]);
        assert_eq!(seen.fresh(), 2);
        seen.take_fresh();
        seen.mark(4);
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
