//! Which blocks of a code were run, and how often.
//!
//! **Owns** the marks and counts. **Callers guarantee** that what they mark are leaders; a mark that is none costs a
//! block that is never entered, unless a computed jump finds a JUMPDEST there that is none. **Never** decides anything:
//! all of it is relaxed.

use super::Baked;
use kiln_abi::Pc;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// Marks of blocks that were run, by the pc of their leader.
#[derive(Debug)]
pub(crate) struct Seen {
    marks: Box<[AtomicU64]>,
    baked: Arc<Baked>,
    /// Whether marks were set because the code is hot, and not because it is recorded. Relaxed, as the
    /// others.
    pub(super) counted: AtomicBool,
    /// Marks set since the last compilation. Relaxed, like the marks: only the number counts.
    fresh: AtomicU32,
    /// How often blocks were run, by the pc of their leader; once something counts. Relaxed, and no
    /// single steps: a heuristic.
    counts: OnceLock<Box<[AtomicU32]>>,
}

impl Seen {
    pub(super) fn new(code_len: usize, baked: Arc<Baked>) -> Self {
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
    pub(super) fn mark(&self, pc: usize) -> bool {
        let bit = 1u64 << (pc % 64);
        let Some(word) = self.marks.get(pc / 64) else { return false };
        let fresh = word.load(Ordering::Relaxed) & bit == 0
            && word.fetch_or(bit, Ordering::Relaxed) & bit == 0;
        if fresh {
            self.fresh.fetch_add(1, Ordering::Relaxed);
        }
        fresh
    }

    /// These are compiled, and what else is marked is not.
    pub(super) fn compiled(&self, blocks: impl Iterator<Item = Pc>) {
        let mut marked: u32 =
            self.marks.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum();
        for Pc(pc) in blocks {
            let bit = 1u64 << (pc % 64);
            if let Some(word) = self.marks.get(pc as usize / 64) {
                let before = word.fetch_or(bit, Ordering::Relaxed);
                marked -= u32::from(before & bit != 0).min(marked);
            }
        }
        self.fresh.store(marked, Ordering::Relaxed);
    }

    /// The block at `pc` was run so often.
    pub(super) fn set_count(&self, pc: usize, runs: u32) {
        self.count(pc);
        if let Some(count) = self.counts.get().and_then(|counts| counts.get(pc)) {
            count.store(runs, Ordering::Relaxed);
        }
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
    pub(crate) fn is_counted(&self) -> bool {
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
    pub(super) fn forget(&self) {
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
