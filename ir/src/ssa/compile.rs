//! The pipeline from a region to a finished function.

use super::{
    analysis::Analysis,
    cleanup::fold_branches,
    dominators::Dominators,
    facts::bound_values,
    finish::finish,
    function::{Function, Terminator},
    graph::Draft,
    optimise::optimise,
    params::prune,
    place::place,
    reach,
    region::Region,
    stage::Stage,
};
use crate::config::{Bounds, BuildError};

/// Writes on all ways out of a function, together. Real code has some hundreds.
const WRITES_MAX: usize = 8192;

/// Walks that optimise, at most.
const WALKS_MAX: usize = 3;

/// Builds and optimises the SSA form of a region of this analysis.
///
/// # Errors
/// If its ways out write more than a limit, or the work was called off.
pub fn build<'b>(
    analysis: &Analysis<'_>,
    region: &Region,
    bounds: impl Into<Bounds<'b>>,
) -> Result<Function, BuildError> {
    build_staged(analysis, region, bounds, &mut |_| {})
}

/// As [`build`]; `ended` is told where a stage ends.
///
/// # Errors
/// As [`build`].
pub fn build_staged<'b>(
    analysis: &Analysis<'_>,
    region: &Region,
    bounds: impl Into<Bounds<'b>>,
    ended: &mut dyn FnMut(Stage),
) -> Result<Function, BuildError> {
    let bounds = bounds.into();
    let mut draft = super::build::draft(analysis, region, bounds)?;
    ended(Stage::Build);
    if analysis.perturb.leaves_ssa() {
        constants_right(&mut draft);
    } else {
        optimise_all(&mut draft);
    }
    ended(Stage::Optimise);
    bounds.check()?;
    let placed = place(&mut draft, region.need, region.grow);
    let is = placed.stores.len() + placed.exits.fixups.len();
    if is > WRITES_MAX {
        return Err(BuildError::Limit { what: "writes on the way out", is, max: WRITES_MAX });
    }
    let head = analysis.block_at(region.head()).map(|block| analysis.block(block));
    let function = Function {
        code_len: analysis.code.len() as u32,
        pc: region.head(),
        is_jumpdest: head.is_some_and(|block| block.is_jumpdest),
        need: region.need as u16,
        grow: region.grow as u16,
        entry_exit: super::build::ENTRY_EXIT,
        blocks: Vec::new(),
        values: Vec::new(),
        exits: Default::default(),
        stores: Vec::new(),
        stores_end: Vec::new(),
        instructions: region.instructions(),
    };
    let function = finish(draft, placed, function);
    ended(Stage::Place);
    Ok(function)
}

/// At least twice, since the second walk knows bounds through loops; once more if that found parameters
/// that are constants, say.
fn optimise_all(draft: &mut Draft) {
    prune(draft);
    for walk in 0..WALKS_MAX {
        let decided = optimise(draft, walk != 0);
        fold_branches(draft, &decided);
        let pruned = prune(draft);
        bound_values(draft);
        if walk != 0 && !pruned {
            break;
        }
    }
    constants_right(draft);
    uncheck(draft);
}

/// In branches constants go to the right, also those that were found last.
fn constants_right(draft: &mut Draft) {
    for block in &mut draft.blocks {
        if let Terminator::Branch { cond, a, b, .. } = &mut block.terminator
            && draft.graph.word(*a).is_some()
            && draft.graph.word(*b).is_none()
        {
            core::mem::swap(a, b);
            *cond = cond.swap();
        }
    }
}

/// Accesses to memory that earlier ones cover are not checked again.
fn uncheck(draft: &mut Draft) {
    let dominators = Dominators::new(&draft.blocks);
    let covered = reach::covered(&draft.blocks, &dominators, |value| draft.graph.word(value));
    for (block, covered) in draft.blocks.iter_mut().zip(covered) {
        for index in covered {
            (block.insts[index].checked, block.insts[index].exit) = (false, None);
        }
    }
}
