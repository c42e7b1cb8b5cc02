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
    let mut same: Vec<Option<Value>> = vec![None; draft.graph.len()];
    let params: Vec<Value> = draft.blocks.iter().flat_map(|block| block.params.clone()).collect();
    let mut is_param = vec![false; draft.graph.len()];
    params.iter().for_each(|param| is_param[param.0 as usize] = true);
    let mut round = 0;
    loop {
        let mut changed = false;
        let mut met: Vec<Option<Value>> = vec![None; draft.graph.len()];
        for block in &draft.blocks {
            for (to, args) in block.terminator.targets().filter_map(Target::block) {
                for (&param, &arg) in draft.blocks[to.0 as usize].params.iter().zip(args) {
                    let brings = match is_param[arg.0 as usize] {
                        _ if arg == param => None,
                        true => same[arg.0 as usize],
                        false => Some(arg),
                    };
                    // What comes round to the parameter itself brings nothing.
                    let Some(brings) = brings.filter(|&brings| brings != param) else { continue };
                    let met = &mut met[param.0 as usize];
                    *met = Some(match *met {
                        Some(other) if other != brings => param,
                        _ => brings,
                    });
                }
            }
        }
        for &param in &params {
            let (now, met) = (&mut same[param.0 as usize], met[param.0 as usize]);
            if *now == met || *now == Some(param) {
                continue;
            }
            changed = true;
            *now = if round < ROUNDS_FREE || now.is_none() { met } else { Some(param) };
        }
        round += 1;
        if !changed {
            return same;
        }
    }
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
