//! Branches that always go one way, and blocks that nothing reaches.
//!
//! **Owns** the removal of both. **Callers guarantee** decisions that hold. **Never** leaves a block
//! without an edge from one before it: where removing an edge would, nothing is removed.

use super::{
    function::{BlockId, Target, Terminator},
    graph::Draft,
};

/// Makes each decided branch a jump (true: to `taken`) and removes the blocks that are not reached then.
pub(super) fn fold_branches(draft: &mut Draft, decided: &[(usize, bool)]) {
    if decided.is_empty() {
        return;
    }
    let before: Vec<(usize, Terminator)> =
        decided.iter().map(|&(block, _)| (block, draft.blocks[block].terminator.clone())).collect();
    for &(block, holds) in decided {
        let terminator = &mut draft.blocks[block].terminator;
        if let Terminator::Branch { taken, next, .. } = terminator {
            let target = if holds { taken.clone() } else { next.clone() };
            *terminator = Terminator::Jump(target);
        }
    }
    match reached(draft) {
        Some(reached) => remove(draft, &reached),
        None => {
            for (block, terminator) in before {
                draft.blocks[block].terminator = terminator;
            }
        }
    }
}

/// By block whether it is reached; none if one is reached from behind only.
fn reached(draft: &Draft) -> Option<Vec<bool>> {
    let mut reached = vec![false; draft.blocks.len()];
    let mut queue = vec![0];
    reached[0] = true;
    while let Some(block) = queue.pop() {
        for (BlockId(to), _) in draft.blocks[block].terminator.targets().filter_map(Target::block) {
            if !core::mem::replace(&mut reached[to as usize], true) {
                queue.push(to as usize);
            }
        }
    }
    let mut from_before = vec![false; draft.blocks.len()];
    from_before[0] = true;
    for (block, _) in draft.blocks.iter().zip(&reached).filter(|(_, reached)| **reached) {
        for target in block.terminator.targets() {
            if let Target::Block { block, .. } = target {
                from_before[block.0 as usize] = true;
            }
        }
    }
    let valid = reached.iter().zip(&from_before).all(|(reached, before)| !reached || *before);
    valid.then_some(reached)
}

fn remove(draft: &mut Draft, reached: &[bool]) {
    let mut next = 0;
    let new: Vec<u32> = reached
        .iter()
        .map(|&reached| {
            next += u32::from(reached);
            next.wrapping_sub(1)
        })
        .collect();
    let mut kept = reached.iter();
    draft.blocks.retain(|_| kept.next() == Some(&true));
    for block in &mut draft.blocks {
        block.terminator.targets_mut(|target| {
            if let Target::Block { block, .. } | Target::Back { block, .. } = target {
                *block = BlockId(new[block.0 as usize]);
            }
        });
    }
    let all: Vec<Vec<bool>> =
        draft.blocks.iter().map(|block| vec![true; block.params.len()]).collect();
    super::finish::keep_params(draft, &all);
    for (block, id) in draft.blocks.iter().zip((0..).map(BlockId)) {
        block.insts.iter().for_each(|inst| draft.graph.redefine(id, inst));
    }
}
