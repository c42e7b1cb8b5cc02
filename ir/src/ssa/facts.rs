//! Upper bounds of all values, through loops.
//!
//! **Owns** the fixed point: bounds start from nothing and grow along the edges; a parameter that keeps
//! growing is widened to the next size of [`WIDTHS`]. **Callers guarantee** reachable blocks in order.
//! **Never** bounds a value by where it is used: that is what [`Op::Narrow`](super::Op::Narrow) is for.

use super::{
    bounds::{self, ones},
    function::{Target, bit_len},
    graph::Draft,
};
use kiln_abi::Word;

/// Bits that a growing bound is rounded up to.
const WIDTHS: [u16; 5] = [1, 32, 64, 160, 256];
/// Times a parameter's bound may grow before it is widened.
const GROWTHS_FREE: u8 = 3;
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
            for inst in &block.insts {
                let Some(dst) = inst.dst else { continue };
                let args = inst.args.iter().flatten();
                if args.clone().any(|arg| self.max[arg.0 as usize].is_none()) {
                    continue;
                }
                let of = |value: super::Value| self.max[value.0 as usize].unwrap_or(Word::MAX);
                let max = bounds::bound(inst, of);
                changed |= self.max[dst.0 as usize] != Some(max);
                self.max[dst.0 as usize] = Some(max);
            }
            for (to, args) in block.terminator.targets().filter_map(Target::block) {
                for (&param, &arg) in draft.blocks[to.0 as usize].params.iter().zip(args) {
                    if let Some(max) = self.max[arg.0 as usize] {
                        changed |= self.grow(param.0 as usize, max);
                    }
                }
            }
        }
        changed
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
