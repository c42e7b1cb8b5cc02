//! Block parameters that are none: all edges bring the same value.
//!
//! **Owns** an optimistic search for them: a parameter is taken to be what the edges seen so far bring,
//! until another one brings something else. So parameters that only pass each other around in loops are
//! found together. **Callers guarantee** reachable blocks in order. **Never** compares what
//! instructions compute.

use super::{
    function::{Target, Value},
    graph::Draft,
};

/// Passes after which a parameter that changes again is taken to be one.
const ROUNDS_FREE: usize = 8;
/// Passes after which all are.
const ROUNDS_MAX: usize = 32;

/// Replaces redundant parameters everywhere and removes them; whether there were any.
pub(super) fn prune(draft: &mut Draft) -> bool {
    let same = search(draft);
    let mut kept = Vec::with_capacity(draft.blocks.len());
    for block in &draft.blocks {
        let is_own = |&param: &Value| same[param.0 as usize] == Some(param);
        kept.push(block.params.iter().map(is_own).collect::<Vec<bool>>());
    }
    if kept.iter().flatten().all(|&kept| kept) {
        return false;
    }
    super::finish::keep_params(draft, &kept);
    replace(draft, |value| same[value.0 as usize].unwrap_or(value));
    true
}

/// By value: what it is the same as; none where nothing is known.
fn search(draft: &Draft) -> Vec<Option<Value>> {
    let mut incoming: Vec<Vec<&[Value]>> = vec![Vec::new(); draft.blocks.len()];
    for block in &draft.blocks {
        for (to, args) in block.terminator.targets().filter_map(Target::block) {
            incoming[to.0 as usize].push(args);
        }
    }
    let mut same: Vec<Option<Value>> =
        (0..draft.graph.len() as u32).map(|v| Some(Value(v))).collect();
    let params = || draft.blocks.iter().flat_map(|block| block.params.iter().copied());
    params().for_each(|param| same[param.0 as usize] = None);
    for round in 0..ROUNDS_MAX {
        let mut changed = false;
        for (block, incoming) in draft.blocks.iter().zip(&incoming) {
            for (index, &param) in block.params.iter().enumerate() {
                let now = same[param.0 as usize];
                if now == Some(param) {
                    continue;
                }
                let met = meet(param, incoming.iter().map(|args| same[args[index].0 as usize]));
                if met != now {
                    changed = true;
                    let settles = round >= ROUNDS_FREE && now.is_some();
                    same[param.0 as usize] = if settles { Some(param) } else { met };
                }
            }
        }
        if !changed {
            return same;
        }
    }
    params().for_each(|param| same[param.0 as usize] = Some(param));
    same
}

/// What a parameter is, from what the edges bring: itself, if they bring different values.
fn meet(param: Value, edges: impl Iterator<Item = Option<Value>>) -> Option<Value> {
    // What comes round to the parameter itself, or is not known yet, brings nothing.
    let mut brought = edges.flatten().filter(|&value| value != param);
    let first = brought.next()?;
    Some(if brought.all(|value| value == first) { first } else { param })
}

/// Replaces values wherever they are read.
pub(super) fn replace(draft: &mut Draft, by: impl Fn(Value) -> Value) {
    for (block, id) in draft.blocks.iter_mut().zip((0..).map(super::function::BlockId)) {
        for inst in &mut block.insts {
            inst.args.iter_mut().flatten().for_each(|arg| *arg = by(*arg));
            draft.graph.redefine(id, inst);
        }
        block.terminator.values_mut(|value| *value = by(*value));
    }
    for leave in &mut draft.leaves {
        leave.words.iter_mut().for_each(|(_, value)| *value = by(*value));
    }
}
