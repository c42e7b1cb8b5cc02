//! Which blocks lie on every path to which.
//!
//! **Owns** the dominator tree, by the algorithm of Cooper, Harvey and Kennedy ("A Simple, Fast
//! Dominance Algorithm"). **Callers guarantee** that every block but the first has an edge from one
//! before it, as the order of blocks demands. **Never** looks into blocks.

use super::function::{Block, BlockId, Target};

/// The dominator tree of a function.
#[derive(Clone, Debug)]
pub struct Dominators {
    /// By block, its immediate dominator; the first's is itself.
    idom: Vec<usize>,
    /// By block: the first and last number of its subtree in a walk of the tree.
    spans: Vec<(u32, u32)>,
    /// The blocks, each behind its immediate dominator and next to its subtree.
    preorder: Vec<usize>,
}

impl Dominators {
    /// That of these blocks.
    ///
    /// # Panics
    /// If there is no block, or an edge to none.
    pub fn new(blocks: &[Block]) -> Self {
        let preds = predecessors(blocks);
        let mut idom: Vec<Option<usize>> = vec![None; blocks.len()];
        idom[0] = Some(0);
        let mut changed = true;
        while changed {
            changed = false;
            for block in 1..blocks.len() {
                let known = preds[block].iter().copied().filter(|&pred| idom[pred].is_some());
                let new = known.reduce(|a, b| intersect(&idom, a, b));
                if new.is_some() && new != idom[block] {
                    idom[block] = new;
                    changed = true;
                }
            }
        }
        Self::tree(idom.into_iter().map(Option::unwrap_or_default).collect())
    }

    fn tree(idom: Vec<usize>) -> Self {
        let mut children = vec![Vec::new(); idom.len()];
        for block in (1..idom.len()).rev() {
            children[idom[block]].push(block);
        }
        let mut spans = vec![(0, 0); idom.len()];
        let mut preorder = Vec::with_capacity(idom.len());
        let mut path = vec![0];
        while let Some(&block) = path.last() {
            if spans[block].0 == 0 {
                preorder.push(block);
                spans[block].0 = preorder.len() as u32;
            }
            match children[block].pop() {
                Some(child) => path.push(child),
                None => {
                    spans[block].1 = preorder.len() as u32;
                    path.pop();
                }
            }
        }
        Self { idom, spans, preorder }
    }

    /// Whether every path to `b` goes through `a`; each block dominates itself.
    pub fn dominates(&self, a: usize, b: usize) -> bool {
        let ((from, to), (at, _)) = (self.spans[a], self.spans[b]);
        (from..=to).contains(&at)
    }

    /// The nearest block that dominates both.
    pub(super) fn common(&self, mut a: usize, b: usize) -> usize {
        while !self.dominates(a, b) {
            a = self.idom[a];
        }
        a
    }

    /// The immediate dominator.
    pub(super) fn idom(&self, block: usize) -> usize {
        self.idom[block]
    }

    /// The blocks in an order in which each comes behind its dominators, subtree by subtree.
    pub(super) fn preorder(&self) -> &[usize] {
        &self.preorder
    }
}

fn intersect(idom: &[Option<usize>], mut a: usize, mut b: usize) -> usize {
    // Dominators lie before, so the larger one climbs.
    while a != b {
        let larger = if a > b { &mut a } else { &mut b };
        *larger = idom[*larger].unwrap_or_default();
    }
    a
}

/// By block: the blocks that go to it, once for each edge.
pub(super) fn predecessors(blocks: &[Block]) -> Vec<Vec<usize>> {
    let mut preds = vec![Vec::new(); blocks.len()];
    for (from, block) in blocks.iter().enumerate() {
        for (BlockId(to), _) in block.terminator.targets().filter_map(Target::block) {
            preds[to as usize].push(from);
        }
    }
    preds
}
