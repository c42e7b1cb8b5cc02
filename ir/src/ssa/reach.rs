//! How far memory is known to reach.
//!
//! Memory never shrinks within a frame, and a region is of one frame, so an access that lies within an
//! earlier one of every path is not checked again. **Owns** that analysis: the extent that accesses at
//! constant offsets made sure of on all paths, and offsets that are the same value as one before.
//!
//! **Callers guarantee** blocks in order and their dominators. **Never** changes anything.

use super::{
    dominators::Dominators,
    function::{Block, Inst, Op, Target, Value},
};
use crate::module;
use kiln_abi::Word;
use std::collections::HashMap;

/// Passes after which nothing is known.
const ROUNDS_MAX: usize = 12;

/// An access to memory: its offset, and its bytes.
pub(super) fn access(inst: &Inst) -> Option<(Value, u64)> {
    let size = match inst.op {
        Op::Word(module::Op::Mload | module::Op::Mstore) => 32,
        Op::Word(module::Op::Mstore8) => 1,
        _ => return None,
    };
    Some((inst.args[0]?, size))
}

/// The accesses that lie within earlier ones on every path: by block, the indices of the instructions.
pub(super) fn covered(
    blocks: &[Block],
    dominators: &Dominators,
    constant: impl Fn(Value) -> Option<Word>,
) -> Vec<Vec<usize>> {
    let extents = extents(blocks, &constant);
    let mut covered = vec![Vec::new(); blocks.len()];
    // The largest access at an offset, in a dominator; what a subtree found out is taken back.
    let mut known: HashMap<Value, u64> = HashMap::new();
    let mut undo: Vec<(usize, Value, Option<u64>)> = Vec::new();
    for &block in dominators.preorder() {
        while let Some(&(owner, value, before)) = undo.last()
            && !dominators.dominates(owner, block)
        {
            match before {
                Some(size) => known.insert(value, size),
                None => known.remove(&value),
            };
            undo.pop();
        }
        let mut extent = extents[block];
        for (index, inst) in blocks[block].insts.iter().enumerate() {
            let Some((offset, size)) = access(inst) else { continue };
            let end = end(constant(offset), size);
            let within = end.is_some_and(|end| end <= extent);
            if within || known.get(&offset).is_some_and(|&known| size <= known) {
                covered[block].push(index);
            } else {
                undo.push((block, offset, known.insert(offset, size)));
            }
            extent = extent.max(behind(end));
        }
    }
    covered
}

/// One past the last byte of an access at a constant offset.
fn end(offset: Option<Word>, size: u64) -> Option<u64> {
    offset?.as_u64()?.checked_add(size)
}

/// How far memory reaches behind an access: it is a whole number of words.
fn behind(end: Option<u64>) -> u64 {
    end.and_then(|end| end.checked_next_multiple_of(32)).unwrap_or(0)
}

/// The bytes that constant accesses have made sure of where each block begins.
fn extents(blocks: &[Block], constant: &impl Fn(Value) -> Option<Word>) -> Vec<u64> {
    let own: Vec<u64> = blocks
        .iter()
        .map(|block| {
            let accesses = block.insts.iter().filter_map(access);
            accesses.map(|(at, size)| behind(end(constant(at), size))).max().unwrap_or(0)
        })
        .collect();
    let mut extents = vec![u64::MAX; blocks.len()];
    extents[0] = 0;
    for _ in 0..ROUNDS_MAX {
        let mut changed = false;
        for (index, block) in blocks.iter().enumerate() {
            let behind = extents[index].max(own[index]);
            for (to, _) in block.terminator.targets().filter_map(Target::block) {
                let known = &mut extents[to.0 as usize];
                changed |= behind < *known;
                *known = behind.min(*known);
            }
        }
        if !changed {
            return extents;
        }
    }
    vec![0; blocks.len()]
}
