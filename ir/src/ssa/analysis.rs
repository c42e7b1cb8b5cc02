//! What is known of a whole program: its blocks, their effects, and where its jumps go.

use super::{jumps::Jumps, stage::Stage, summary::Summaries};
use crate::{
    code::{Block, Blocks},
    config::{Bounds, BuildError, Config},
    perturb::Perturb,
};
use kiln_abi::Pc;

/// A program that regions can be chosen from and built of.
#[derive(Clone, Debug)]
pub struct Analysis<'a> {
    pub(super) code: &'a [u8],
    pub(super) blocks: &'a Blocks,
    pub(super) config: &'a Config,
    pub(super) summaries: Summaries,
    pub(super) jumps: Jumps,
    pub(super) perturb: Perturb,
}

impl<'a> Analysis<'a> {
    /// Analyses a program; `blocks` is a scan of the whole `code` with the same configuration. The
    /// work is linear in the size of the code.
    ///
    /// # Errors
    /// If the work was called off.
    pub fn new<'b>(
        code: &'a [u8],
        blocks: &'a Blocks,
        config: &'a Config,
        bounds: impl Into<Bounds<'b>>,
    ) -> Result<Self, BuildError> {
        Self::new_staged(code, blocks, config, bounds, &mut |_| {})
    }

    /// As [`Self::new`]; `ended` is told where a stage ends.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn new_staged<'b>(
        code: &'a [u8],
        blocks: &'a Blocks,
        config: &'a Config,
        bounds: impl Into<Bounds<'b>>,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<Self, BuildError> {
        let bounds = bounds.into();
        let summaries = Summaries::new(code, blocks, bounds)?;
        ended(Stage::Summaries);
        let jumps = Jumps::resolve(blocks, &summaries, bounds)?;
        ended(Stage::Jumps);
        Ok(Self { code, blocks, config, summaries, jumps, perturb: bounds.limits.perturb })
    }

    /// Where jumps go.
    pub fn jumps(&self) -> &Jumps {
        &self.jumps
    }

    /// The index of the block with this leader.
    pub(super) fn block_at(&self, pc: Pc) -> Option<usize> {
        self.blocks.blocks.binary_search_by_key(&pc, |block| block.start).ok()
    }

    pub(super) fn block(&self, index: usize) -> &'a Block {
        &self.blocks.blocks[index]
    }
}
