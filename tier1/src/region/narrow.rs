//! Words that turned out to fit 64 bits.
//!
//! **Owns** what an access to memory tells of its offset: behind it the offset fits 64 bits, in this block and in
//! those that it dominates, so that there neither the other limbs are kept nor the next access at a distance from
//! it compares them all. **Callers guarantee** that values are asked for where they are used. **Never** says what
//! does not hold on every path.

use super::{CompileError, Int, Lower, ops::bits};
use kiln_ir::ssa::{Dominators, Function, Target, Value};
use std::collections::HashMap;

/// What is known where.
#[derive(Debug)]
pub(super) struct Narrowed<'c> {
    /// None where blocks are not in order: then nothing is known behind a block.
    dominators: Option<Dominators>,
    /// By value, the blocks from which on it is this number of 64 bits.
    words: HashMap<Value, Vec<(usize, Int<'c>)>>,
}

impl<'c> Narrowed<'c> {
    pub(super) fn new(function: &Function) -> Self {
        let dominators = in_order(function).then(|| Dominators::new(&function.blocks));
        Self { dominators, words: HashMap::new() }
    }

    /// The value as it is known in a block, if more is known than by its width.
    pub(super) fn get(&self, value: Value, block: Option<usize>) -> Option<Int<'c>> {
        let (known, block) = (self.words.get(&value)?, block?);
        let dominates = |from: usize| match &self.dominators {
            Some(dominators) => dominators.dominates(from, block),
            None => from == block,
        };
        known.iter().find(|&&(from, _)| dominates(from)).map(|&(_, word)| word)
    }
}

/// Whether all edges go to blocks, and each block but the first has one from a block before it.
fn in_order(function: &Function) -> bool {
    let mut reached = vec![false; function.blocks.len()];
    let mut targets = function.blocks.iter().enumerate().flat_map(|(from, block)| {
        block
            .terminator
            .targets()
            .filter_map(Target::block)
            .map(move |(to, _)| (from, to.0 as usize))
    });
    let exist = targets.all(|(from, to)| {
        let is_there = to < reached.len();
        if is_there && from < to {
            reached[to] = true;
        }
        is_there
    });
    exist && !reached.is_empty() && reached[1..].iter().all(|&reached| reached)
}

impl<'c> Lower<'c, '_, '_> {
    /// Notes that a value fits 64 bits from here on.
    pub(super) fn fits_limb(&mut self, value: Value) -> Result<(), CompileError> {
        let word = self.word(value)?;
        if bits(word) > 64 && self.function.constant(value).is_none() {
            let Some(here) = self.current else { return Ok(()) };
            let low = self.e.resize(word, 64)?;
            self.narrowed.words.entry(value).or_default().push((here, low));
        }
        Ok(())
    }
}
