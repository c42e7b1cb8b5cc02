//! Words of the entry stack are read where they are needed, not at the head.
//!
//! **Owns** the moving of [`Op::Slot`]s from block 0 down to the last block that dominates all their
//! uses, but into no loop, and not behind an instruction of the host, which may write the slot.
//! **Callers guarantee** placed exits and no dead code. **Never** moves anything else.

use super::{
    dominators::{Dominators, predecessors},
    function::{BlockId, Inst, Op, Target, Value},
    graph::Draft,
    place::Placed,
};

/// Moves reads of the entry stack.
pub(super) fn sink(draft: &mut Draft, placed: &Placed) {
    let dominators = Dominators::new(&draft.blocks);
    let allowed = allowed(draft);
    let places = uses(draft, placed, &dominators);
    let insts = core::mem::take(&mut draft.blocks[0].insts);
    let mut moved: Vec<Vec<Inst>> = vec![Vec::new(); draft.blocks.len()];
    for mut inst in insts {
        let mut block = 0;
        if let (Op::Slot(_), Some(dst)) = (inst.op, inst.dst) {
            block = places[dst.0 as usize].unwrap_or(0);
            while !allowed[block] {
                block = dominators.idom(block);
            }
            if block != 0 {
                inst.pc = draft.blocks[block].pc;
                draft.graph.redefine(BlockId(block as u32), &inst);
            }
        }
        moved[block].push(inst);
    }
    for (block, moved) in draft.blocks.iter_mut().zip(moved) {
        block.insts.splice(0..0, moved);
    }
}

/// By value: the last block that dominates all its uses.
fn uses(draft: &Draft, placed: &Placed, dominators: &Dominators) -> Vec<Option<usize>> {
    let mut places: Vec<Option<usize>> = vec![None; draft.graph.len()];
    let mut read = |value: Value, block: usize| {
        let place = &mut places[value.0 as usize];
        *place = Some(place.map_or(block, |place| dominators.common(place, block)));
    };
    for (index, block) in draft.blocks.iter().enumerate() {
        let in_insts = block.insts.iter().filter_map(|inst| inst.exit);
        let in_targets = block.terminator.targets().filter_map(Target::exit);
        // A block without gas is left before its instructions.
        let before = block.gas_exit.map(|exit| placed.stores(exit)).into_iter().flatten();
        before.for_each(|store| read(store.value, dominators.idom(index)));
        for exit in in_insts.chain(in_targets) {
            placed.stores(exit).iter().for_each(|store| read(store.value, index));
        }
        let args = block.insts.iter().flat_map(|inst| inst.args.into_iter().flatten());
        args.for_each(|arg| read(arg, index));
        block.terminator.clone().values_mut(|value| read(*value, index));
    }
    places
}

/// By block: whether a read may move there.
fn allowed(draft: &Draft) -> Vec<bool> {
    let preds = predecessors(&draft.blocks);
    let is_run = |inst: &Inst| matches!(inst.op, Op::Run(_));
    let mut clean = vec![true; draft.blocks.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for block in 0..clean.len() {
            let dirty = |&pred: &usize| !clean[pred] || draft.blocks[pred].insts.iter().any(is_run);
            if clean[block] && preds[block].iter().any(dirty) {
                clean[block] = false;
                changed = true;
            }
        }
    }
    // The blocks of a loop lie between its head and its back-edge.
    for (from, block) in draft.blocks.iter().enumerate() {
        for target in block.terminator.targets() {
            if let Target::Back { block: BlockId(to), .. } = target {
                clean[*to as usize..=from].fill(false);
            }
        }
    }
    clean
}
