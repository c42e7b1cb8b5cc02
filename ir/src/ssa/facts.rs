//! Upper bounds of all values, through loops.
//!
//! **Owns** the fixed point: bounds start from nothing and grow along the edges; a parameter that keeps
//! growing is widened to the next size of [`WIDTHS`]. **Callers guarantee** reachable blocks in order.
//! **Never** bounds a value by where it is used: that is what [`Op::Narrow`](super::Op::Narrow) is for.

use super::{
    bounds::{self, ones},
    function::{Block, Value, bit_len},
    graph::Draft,
};
use crate::module::Cond;
use kiln_abi::Word;

/// Bits that a growing bound is rounded up to.
const WIDTHS: [u16; 5] = [1, 32, 64, 160, 256];
/// Times a parameter's bound may grow before it is widened.
const GROWTHS_FREE: u8 = 3;
/// Passes that take back what widening gave away. Bounds that hold stay so: each is what follows from
/// bounds that hold.
const NARROWINGS: usize = 2;
/// Passes after which every parameter may be anything.
const ROUNDS_MAX: usize = 40;

/// Computes the bounds of all values.
pub(super) fn bound_values(draft: &mut Draft) {
    let mut facts = Facts {
        max: draft.graph.values.iter().map(|_| None).collect(),
        grown: vec![0; draft.graph.len()],
    };
    for (known, data) in facts.max.iter_mut().zip(&draft.graph.values) {
        if let super::function::Def::Const(word) = data.def {
            *known = Some(word);
        }
    }
    let mut rounds = 0;
    while facts.round(draft) {
        rounds += 1;
        if rounds == ROUNDS_MAX {
            let params = draft.blocks.iter().flat_map(|block| &block.params);
            params.for_each(|param| facts.max[param.0 as usize] = Some(Word::MAX));
        }
    }
    for _ in 0..NARROWINGS {
        facts.narrow(draft);
    }
    for (data, max) in draft.graph.values.iter_mut().zip(facts.max) {
        data.max = max.unwrap_or(Word::MAX);
    }
}

struct Facts {
    /// By value: its bound as far as it is known; none where no path was followed to it yet.
    max: Vec<Option<Word>>,
    /// By value: how often its bound grew.
    grown: Vec<u8>,
}

impl Facts {
    /// One pass over the blocks; whether something changed.
    fn round(&mut self, draft: &Draft) -> bool {
        let mut changed = false;
        for block in &draft.blocks {
            changed |= self.of_block(block);
            for (target, holds) in block.terminator.edges() {
                let Some((to, args)) = target.block() else { continue };
                for (&param, &arg) in draft.blocks[to.0 as usize].params.iter().zip(args) {
                    if let Some(max) = self.along(draft, arg, holds) {
                        changed |= self.grow(param.0 as usize, max);
                    }
                }
            }
        }
        changed
    }

    /// Computes all bounds from those there are.
    fn narrow(&mut self, draft: &Draft) {
        let mut params: Vec<Option<Word>> = vec![None; self.max.len()];
        for block in &draft.blocks {
            for (target, holds) in block.terminator.edges() {
                let Some((to, args)) = target.block() else { continue };
                for (&param, &arg) in draft.blocks[to.0 as usize].params.iter().zip(args) {
                    let joined = &mut params[param.0 as usize];
                    *joined = match (*joined, self.along(draft, arg, holds)) {
                        (Some(a), Some(b)) => Some(bounds::max(a, b)),
                        (a, b) => a.or(b),
                    };
                }
            }
        }
        for (max, param) in self.max.iter_mut().zip(params) {
            *max = param.or(*max);
        }
        draft.blocks.iter().for_each(|block| {
            self.of_block(block);
        });
    }

    /// The bounds of a block's results; whether one changed.
    fn of_block(&mut self, block: &Block) -> bool {
        let mut changed = false;
        for inst in &block.insts {
            let Some(dst) = inst.dst else { continue };
            let args = inst.args.iter().flatten();
            if args.clone().any(|arg| self.max[arg.0 as usize].is_none()) {
                continue;
            }
            let of = |value: Value| self.max[value.0 as usize].unwrap_or(Word::MAX);
            let max = bounds::bound(inst, of);
            changed |= self.max[dst.0 as usize] != Some(max);
            self.max[dst.0 as usize] = Some(max);
        }
        changed
    }

    /// The bound of an argument on an edge; none where it is not known yet.
    fn along(
        &self,
        draft: &Draft,
        arg: Value,
        holds: Option<(Cond, Value, Value)>,
    ) -> Option<Word> {
        let max = self.max[arg.0 as usize]?;
        let Some((cond, a, b)) = holds else { return Some(max) };
        let of = |value: Value| self.max[value.0 as usize];
        if of(a).is_none() || of(b).is_none() {
            return None;
        }
        let (root, of) = (|value| draft.graph.root(value), |value| of(value).unwrap_or(Word::MAX));
        Some(bounds::where_holds(arg, (cond, a, b), root, of))
    }

    fn grow(&mut self, param: usize, max: Word) -> bool {
        let before = self.max[param];
        let joined = before.map_or(max, |before| bounds::max(before, max));
        if before == Some(joined) {
            return false;
        }
        let grown = &mut self.grown[param];
        *grown = grown.saturating_add(1);
        let widened = match *grown > GROWTHS_FREE {
            true => ones(wider(bit_len(&joined))),
            false => joined,
        };
        self.max[param] = Some(widened);
        true
    }
}

fn wider(bits: u16) -> u16 {
    WIDTHS.into_iter().find(|&width| bits <= width).unwrap_or(256)
}
