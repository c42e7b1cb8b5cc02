//! How often blocks run of codes that nobody knows, for all these codes together, in a small table of fixed
//! size. From when a block is hot, its code is known, and each of its blocks is looked at (`slot.rs`).
//!
//! **Owns** the counts of one thread. They are a sketch: a block may be forgotten for one that runs more
//! often, and everything fades, so that a block is hot only if it runs often within a short time.
//!
//! **Never** decides anything; counts that get lost or mixed up change no result. They are the only
//! thread-local that frames use: an instruction has no other place to find them, and nothing that is
//! found here is kept across a call (a database may suspend a fiber, which goes on on another thread).

use revm::primitives::B256;
use std::cell::Cell;

/// Counts of sampled blocks; a power of two. 64 KiB.
const SAMPLES: usize = 1 << 14;
/// Additions to a table until all of it is halved.
const HALVE_EVERY: u32 = 1 << 18;
/// One execution of so many is looked at, on average: touching the table for each one cost a twelfth
/// of the interpreter's time.
const SAMPLED: u32 = 8;
/// Fewer executions than this are counted one by one.
const SAMPLES_MIN: u32 = 3;

/// One block's executions, and which block that is.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    tag: u16,
    executions: u16,
}

/// Executions of blocks, by code and pc. Direct-mapped; who loses a place is who runs less often.
#[derive(Debug)]
struct Counts<const N: usize> {
    added: Cell<u32>,
    counts: [Cell<Count>; N],
}

/// The counts of a thread.
#[derive(Debug)]
pub(crate) struct Heat {
    /// Executions that are not looked at until one is.
    unsampled: Cell<u32>,
    random: Cell<u32>,
    hot_from: Cell<HotFrom>,
    /// Samples.
    cold: Counts<SAMPLES>,
}

thread_local! {
    // All zeros and without a destructor: costs a thread that does not use it nothing.
    static HEAT: Heat = const { Heat::new() };
}

/// The number of executions from which a block is hot, and how they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HotFrom {
    executions: u16,
    sampled: bool,
    /// For whom: counts of one engine mean nothing to another.
    seed: u32,
}

impl HotFrom {
    /// Zeros, for the thread-local's sake.
    const NEVER: Self = Self { executions: 0, sampled: false, seed: 0 };

    pub(crate) fn new(executions: u32) -> Self {
        let sampled = executions >= SAMPLES_MIN * SAMPLED;
        let executions = u16::try_from(executions).unwrap_or(u16::MAX).max(1);
        Self { executions, sampled, seed: 0 }
    }

    fn tag(&self, code: CodeTag) -> CodeTag {
        CodeTag(code.0 ^ self.seed as u64)
    }

    /// The same, of an engine's own.
    pub(crate) fn seeded(self, seed: u32) -> Self {
        Self { seed, ..self }
    }
}

/// A code, as far as counting needs to tell it from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CodeTag(u64);

impl CodeTag {
    /// From what the database says the code's hash is. A false one only mixes up counts.
    #[inline]
    pub(crate) fn new(hash: B256) -> Self {
        let bytes = hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self(bytes)
    }
}

/// Says from when on blocks are hot on this thread.
#[inline]
pub(crate) fn set_hot_from(hot_from: HotFrom) {
    HEAT.with(|heat| heat.hot_from.set(hot_from));
}

/// Counts an execution of a block on this thread; whether it is known to be hot. Mostly it is not even
/// asked which block that is.
#[inline]
pub(crate) fn count(block: impl FnOnce() -> (CodeTag, usize)) -> bool {
    HEAT.with(|heat| heat.count(block))
}

impl Heat {
    const fn new() -> Self {
        Self {
            unsampled: Cell::new(0),
            random: Cell::new(0),
            hot_from: Cell::new(HotFrom::NEVER),
            cold: Counts::new(),
        }
    }

    #[inline]
    fn count(&self, block: impl FnOnce() -> (CodeTag, usize)) -> bool {
        match self.unsampled.get().checked_sub(1) {
            None => self.sample(block),
            Some(left) => {
                self.unsampled.set(left);
                false
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn sample(&self, block: impl FnOnce() -> (CodeTag, usize)) -> bool {
        let (code, pc) = block();
        let hot_from = self.hot_from.get();
        let weight = if hot_from.sampled {
            // Not every eighth: loops have periods. An LCG of Numerical Recipes.
            let random = self.random.get().wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            self.random.set(random);
            self.unsampled.set(random >> 28);
            SAMPLED as u16
        } else {
            1
        };
        self.cold.add(hot_from.tag(code), pc, weight) > hot_from.executions.wrapping_sub(1)
    }
}

impl<const N: usize> Counts<N> {
    const fn new() -> Self {
        let counts = [const { Cell::new(Count { tag: 0, executions: 0 }) }; N];
        Self { added: Cell::new(0), counts }
    }

    /// Counts executions of a block; answers how many there were lately.
    #[inline]
    fn add(&self, code: CodeTag, pc: usize, weight: u16) -> u16 {
        self.added.set(self.added.get().wrapping_add(1));
        if self.added.get().is_multiple_of(HALVE_EVERY) {
            self.halve();
        }
        // Fibonacci hashing: the high bits depend on all of the input.
        let mixed = (code.0 ^ pc as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let tag = (mixed >> 32) as u16;
        let place = &self.counts[(mixed >> 48) as usize % N];
        let count = place.get();
        // A majority vote: who runs more often than all others of this place together stays.
        let (tag, executions, known) = if count.tag == tag {
            let executions = count.executions.saturating_add(weight);
            (tag, executions, executions)
        } else if count.executions <= weight {
            (tag, weight, weight)
        } else {
            (count.tag, count.executions - weight, 0)
        };
        place.set(Count { tag, executions });
        known
    }

    #[cold]
    fn halve(&self) {
        for place in &self.counts {
            let Count { tag, executions } = place.get();
            place.set(Count { tag, executions: executions / 2 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(n: u8) -> CodeTag {
        CodeTag::new(B256::repeat_byte(n))
    }

    fn hot_after(heat: &Heat, pc: usize, executions: u32) -> u32 {
        heat.hot_from.set(HotFrom::new(executions));
        (1..).find(|_| heat.count(|| (code(1), pc))).unwrap()
    }

    #[test]
    fn few_executions_are_counted_one_by_one() {
        let heat = Heat::new();
        assert_eq!(hot_after(&heat, 7, 1), 1);
        assert_eq!(hot_after(&heat, 8, 3), 3);
        assert_eq!(hot_after(&heat, 9, 20), 20);
        assert_eq!(hot_after(&heat, 7, 5), 4, "one was counted before");
    }

    #[test]
    fn many_are_sampled() {
        let heat = Heat::new();
        let mut sum = 0;
        for pc in 0..200 {
            let after = hot_after(&heat, pc, 64);
            assert!(after <= 64 * 2, "{after}");
            sum += after;
        }
        assert!((200 * 50..200 * 80).contains(&sum), "{} on average", sum / 200);
    }

    #[test]
    fn threads_count_for_themselves() {
        set_hot_from(HotFrom::new(2));
        assert!(!count(|| (code(9), 1)));
        std::thread::spawn(|| {
            set_hot_from(HotFrom::new(2));
            assert!(!count(|| (code(9), 1)));
        })
        .join()
        .unwrap();
        assert!(count(|| (code(9), 1)));
    }

    #[test]
    fn counts_saturate_and_fade() {
        let counts = Counts::<4096>::new();
        for _ in 0..=u16::MAX {
            counts.add(code(1), 7, 1);
        }
        assert_eq!(counts.add(code(1), 7, 1), u16::MAX);
        counts.halve();
        assert_eq!(counts.add(code(1), 7, 1), u16::MAX / 2 + 1);
    }

    #[test]
    fn frequent_blocks_are_found_among_many() {
        let counts = Counts::<4096>::new();
        let mut random = 1u64;
        for round in 0..200_000usize {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Half a million blocks that run once, and fifty that run often.
            counts.add(code(3), (random >> 40) as usize, 1);
            counts.add(code(4), round % 50, 1);
        }
        let hot = (0..50).filter(|&pc| counts.add(code(4), pc, 1) > 1000).count();
        assert!(hot >= 48, "{hot} of 50");
    }
}
