//! What a seed forces: at each safepoint one of the transitions, some often and dear ones seldom.
//!
//! **Owns** the odds, and the stream of numbers that decide. **Never** looks at anything else, so the same
//! seed decides the same.

use fastrand::Rng;
use kiln_abi::Pc;

/// Programs of a code from which on its program is neither exchanged nor dropped any more: a loop has
/// thousands of safepoints, and each of these compiles.
pub(super) const PROGRAMS_MAX: u32 = 8;

/// What is drawn at a safepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawn {
    /// Compiled code is entered.
    Enter,
    /// A block is interpreted.
    Interpret,
    /// The code is compiled again.
    Swap,
    /// The program is dropped.
    Evict,
    /// The code gets optimised regions.
    Promote,
}

/// A stream of numbers.
#[derive(Clone, Debug)]
pub(super) struct Mix(Rng);

impl Mix {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    /// `code_len` is of the code that runs.
    pub(super) fn at_safepoint(&mut self, code_len: usize) -> Drawn {
        self.0.seed(self.0.get_seed().wrapping_add(code_len as u64));
        match self.0.u8(..64) {
            0..=37 => Drawn::Enter,
            38..=57 => Drawn::Interpret,
            58..=60 => Drawn::Swap,
            61 => Drawn::Evict,
            _ => Drawn::Promote,
        }
    }

    /// Whether a frame that lost its program has one again at this JUMPDEST.
    pub(super) fn resumes_here(&mut self) -> bool {
        self.0.u8(..4) == 0
    }
}

/// Whether the `nth` program of a code lacks the block at `pc`: one of six does.
pub(super) fn leaves_out(seed: u64, nth: u32, pc: Pc) -> bool {
    Rng::with_seed(seed ^ u64::from(nth) << 32 ^ u64::from(pc.0)).u8(..6) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_drawn_and_entering_most() {
        let mut mix = Mix::new(7);
        let drawn: Vec<Drawn> = (0..1000).map(|_| mix.at_safepoint(9)).collect();
        let count = |what| drawn.iter().filter(|drawn| **drawn == what).count();
        assert!(count(Drawn::Enter) > 500);
        for what in [Drawn::Interpret, Drawn::Swap, Drawn::Evict, Drawn::Promote] {
            assert!((5..400).contains(&count(what)), "{what:?}: {}", count(what));
        }
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| {
            let mut mix = Mix::new(seed);
            (0..50).map(|_| mix.at_safepoint(9)).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn some_blocks_are_left_out_and_others_the_next_time() {
        let left = |nth| (1..600).filter(|pc| leaves_out(1, nth, Pc(*pc))).collect::<Vec<_>>();
        assert!((50..200).contains(&left(0).len()));
        assert_ne!(left(0), left(1));
    }
}
