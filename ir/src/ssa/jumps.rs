//! Jump resolution: where computed jumps go.
//!
//! **Owns** an abstract interpretation of the whole program: for each block, what may lie on the stack
//! where it begins, as sets of jump destinations by depth from the top. Internal calls push a return
//! address and jump; the functions jump back to it.
//!
//! **Callers guarantee** summaries of all blocks of a scan.
//!
//! **Never** proves anything: a frame may stand at a leader with another stack than those found here
//! (behind a jump that was not resolved). The targets are predictions, complete only for what is
//! reached through resolved jumps. They are taken from a fixed point only: a block that was visited
//! [`VISITS_MAX`] times knows nothing of its stack any more, so there always is one, after at most
//! [`VISITS_MAX`] visits to each block.

use super::summary::{Abs, Flow, Summaries};
use crate::{
    code::Blocks,
    config::{Bounds, BuildError},
};
use kiln_abi::Pc;

/// Destinations of a word that are told apart; a word with more may be anything.
const SET_MAX: usize = 4;
/// Words from the top down that are followed.
const DEPTH_MAX: usize = 32;
/// Words that are followed in all blocks together, for each block; behind that, stacks are unknown.
const WORDS_RATIO: usize = 16;
/// Visits of a block after which its stack is unknown.
const VISITS_MAX: u8 = 16;

/// What a word may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Any,
    /// One of the first `len`, which ascend.
    Of {
        len: u8,
        pcs: [u32; SET_MAX],
    },
}

impl Set {
    const fn one(pc: Pc) -> Self {
        let mut pcs = [0; SET_MAX];
        pcs[0] = pc.0;
        Self::Of { len: 1, pcs }
    }

    fn pcs(&self) -> Option<&[u32]> {
        match self {
            Self::Any => None,
            Self::Of { len, pcs } => Some(&pcs[..usize::from(*len)]),
        }
    }

    /// The words of either.
    fn join(&self, other: &Self) -> Self {
        let (Some(a), Some(b)) = (self.pcs(), other.pcs()) else { return Self::Any };
        let mut pcs = [0; SET_MAX];
        pcs[..a.len()].copy_from_slice(a);
        let mut len = a.len();
        for &pc in b {
            if let Err(at) = pcs[..len].binary_search(&pc) {
                if len == SET_MAX {
                    return Self::Any;
                }
                pcs.copy_within(at..len, at + 1);
                pcs[at] = pc;
                len += 1;
            }
        }
        Self::Of { len: len as u8, pcs }
    }
}

/// What may lie on the stack where a block begins, from the top down; anything below.
#[derive(Clone, Debug, Default)]
struct Entry {
    words: Vec<Set>,
    visits: u8,
    reached: bool,
    queued: bool,
}

/// Where the jumps of a program go.
#[derive(Clone, Debug, Default)]
pub struct Jumps {
    /// By block: a range in `pcs`, or none.
    targets: Vec<Option<(u32, u32)>>,
    pcs: Vec<Pc>,
    visits: usize,
}

impl Jumps {
    pub(super) fn resolve(
        blocks: &Blocks,
        summaries: &Summaries,
        bounds: Bounds<'_>,
    ) -> Result<Self, BuildError> {
        let mut resolver = Resolver {
            blocks,
            summaries,
            entries: vec![Entry::default(); summaries.len()],
            queue: Vec::new(),
            visits: 0,
            words_left: WORDS_RATIO * (summaries.len() + DEPTH_MAX),
        };
        resolver.run(bounds)?;
        Ok(resolver.finish())
    }

    /// The possible destinations of the block's JUMP or JUMPI, by its index in [`Blocks::blocks`]: in
    /// ascending order, at most four. None if it is not resolved, never reached, or does not jump.
    pub fn targets(&self, block: usize) -> Option<&[Pc]> {
        let (start, end) = (*self.targets.get(block)?)?;
        Some(&self.pcs[start as usize..end as usize])
    }

    /// How often a block was visited, all blocks together: the work done.
    pub fn visits(&self) -> usize {
        self.visits
    }
}

struct Resolver<'a> {
    blocks: &'a Blocks,
    summaries: &'a Summaries,
    entries: Vec<Entry>,
    queue: Vec<usize>,
    visits: usize,
    words_left: usize,
}

impl Resolver<'_> {
    fn run(&mut self, bounds: Bounds<'_>) -> Result<(), BuildError> {
        let mut exit = Vec::with_capacity(DEPTH_MAX);
        // From pc 0; then, with an unknown stack, from each JUMPDEST that was not reached: some jump
        // that is not resolved goes there, if any does.
        for start in 0..self.summaries.len() {
            let block = &self.blocks.blocks[start];
            if self.entries[start].reached || (start != 0 && !block.is_jumpdest) {
                continue;
            }
            self.reach(start, &[]);
            while let Some(block) = self.queue.pop() {
                bounds.check()?;
                self.visits += 1;
                self.entries[block].queued = false;
                self.exit_stack(block, &mut exit);
                self.successors(block, &exit);
            }
        }
        Ok(())
    }

    /// What the words are behind a block, from the top down.
    fn exit_stack(&self, block: usize, exit: &mut Vec<Set>) {
        let summary = self.summaries.get(block);
        let entry = &self.entries[block].words;
        let before = |position: i16| entry.get((-1 - position) as usize).copied();
        let resolve = |word: Abs| match word {
            Abs::Dest(pc) => Set::one(pc),
            Abs::In(position) | Abs::Masked(position) => before(position).unwrap_or(Set::Any),
            Abs::Mask | Abs::Any => Set::Any,
        };
        exit.clear();
        let mut words = self.summaries.words(block).iter().rev().peekable();
        for position in (0..DEPTH_MAX as i16).map(|depth| summary.height - 1 - depth) {
            let word = match words.next_if(|(at, _)| *at == position) {
                Some(&(_, word)) => word,
                None if -position > entry.len() as i16 && words.peek().is_none() => break,
                None => Abs::In(position),
            };
            exit.push(resolve(word));
        }
        while exit.last() == Some(&Set::Any) {
            exit.pop();
        }
    }

    fn destinations(&self, block: usize, word: Abs) -> Set {
        match word {
            Abs::Dest(pc) => Set::one(pc),
            Abs::In(position) | Abs::Masked(position) => {
                let entry = &self.entries[block].words;
                entry.get((-1 - position) as usize).copied().unwrap_or(Set::Any)
            }
            Abs::Mask | Abs::Any => Set::Any,
        }
    }

    fn successors(&mut self, block: usize, exit: &[Set]) {
        let summary = self.summaries.get(block);
        if summary.never_runs() {
            return;
        }
        if let Flow::Jump(word) | Flow::Branch(word) = summary.flow {
            let set = self.destinations(block, word);
            for &pc in set.pcs().unwrap_or(&[]) {
                self.reach_pc(Pc(pc), exit);
            }
        }
        if matches!(summary.flow, Flow::Next | Flow::Branch(_) | Flow::Suspend) {
            self.reach_pc(self.blocks.blocks[block].end, exit);
        }
    }

    fn reach_pc(&mut self, pc: Pc, exit: &[Set]) {
        if let Ok(block) = self.blocks.blocks.binary_search_by_key(&pc, |block| block.start) {
            self.reach(block, exit);
        }
    }

    /// Adds a stack to those that a block may begin with.
    fn reach(&mut self, block: usize, stack: &[Set]) {
        let entry = &mut self.entries[block];
        let mut changed = !entry.reached;
        if !entry.reached {
            entry.reached = true;
            if let Some(left) = self.words_left.checked_sub(stack.len()) {
                self.words_left = left;
                entry.words.extend_from_slice(stack);
            }
        } else {
            if entry.words.len() > stack.len() {
                entry.words.truncate(stack.len());
                changed = true;
            }
            for (word, other) in entry.words.iter_mut().zip(stack) {
                let joined = word.join(other);
                changed |= joined != *word;
                *word = joined;
            }
        }
        if !changed {
            return;
        }
        if entry.visits == VISITS_MAX {
            // Nothing can change it any more, so this is the last visit.
            entry.words.clear();
        }
        if !entry.queued {
            entry.visits += 1;
            entry.queued = true;
            self.queue.push(block);
        }
    }

    fn finish(self) -> Jumps {
        let mut jumps = Jumps { visits: self.visits, ..Jumps::default() };
        for block in 0..self.summaries.len() {
            let targets = match self.summaries.get(block).flow {
                Flow::Jump(word) | Flow::Branch(word) if self.entries[block].reached => {
                    self.destinations(block, word)
                }
                _ => Set::Any,
            };
            let range = targets.pcs().map(|pcs| {
                let start = jumps.pcs.len() as u32;
                jumps.pcs.extend(pcs.iter().copied().map(Pc));
                (start, jumps.pcs.len() as u32)
            });
            jumps.targets.push(range);
        }
        jumps
    }
}
