//! What ways out share.
//!
//! **Owns** a tree of stores. Most words that one exit writes are written by its neighbours too: over the
//! exits in the order of the code lies a binary tree, and what all exits below a node write is written by
//! one block of the node. So a word that stays on the stack for a long stretch of code costs a few stores,
//! not one for each exit. **Callers guarantee** that the values an exit stores are computed where it is
//! used, so that they are in front of each block all users of which store them. **Never** makes a block.

use super::{
    function::{Function, Op, Store},
    plan::Plan,
};
use kiln_abi::ExitId;

/// What ways out share.
#[derive(Clone, Debug, Default)]
pub struct Tails {
    /// By exit, the stores of its own and the tail that does the rest; none if it shares nothing.
    pub exits: Vec<Option<(Vec<Store>, usize)>>,
    /// The tails: each goes on in one that lies before it.
    pub tails: Vec<Tail>,
}

/// Stores that several exits share: a block of compiled code, to which they jump.
#[derive(Clone, Debug)]
pub struct Tail {
    /// What it writes.
    pub stores: Vec<Store>,
    /// The tail that does the rest; if there is none, all is done.
    pub next: Option<usize>,
}

/// A node of the tree: what all exits below it store, by slot.
type Common = Vec<Store>;

impl Tails {
    /// What is shared of what a plan leaves to the ways out.
    pub fn new(function: &Function, plan: &Plan) -> Self {
        let sites = sites(function);
        let mut levels: Vec<Vec<Common>> = Vec::new();
        levels.push(sites.iter().map(|&exit| plan.late[exit.0 as usize].clone()).collect());
        while let Some(level) = levels.last()
            && level.len() > 1
        {
            let above = level.chunks(2).map(|pair| match pair {
                [a, b] => common(a, b),
                // The last one has no neighbour.
                [a] => a.clone(),
                _ => Vec::new(),
            });
            let above = above.collect();
            levels.push(above);
        }
        let mut tails = Self { exits: vec![None; function.exits.exits.len()], tails: Vec::new() };
        // By node of the level above, the tail that does what it and those above it store.
        let mut above: Vec<Option<usize>> = Vec::new();
        for depth in (1..levels.len()).rev() {
            let rest = |node: usize| above.get(node / 2).copied().flatten();
            let mut here = Vec::with_capacity(levels[depth].len());
            for (node, stores) in levels[depth].iter().enumerate() {
                let own = without(stores, levels.get(depth + 1).and_then(|up| up.get(node / 2)));
                let next = rest(node);
                if own.is_empty() {
                    here.push(next);
                    continue;
                }
                tails.tails.push(Tail { stores: own, next });
                here.push(Some(tails.tails.len() - 1));
            }
            above = here;
        }
        for (leaf, &exit) in sites.iter().enumerate() {
            if let Some(tail) = above.get(leaf / 2).copied().flatten() {
                let own = without(&levels[0][leaf], levels[1].get(leaf / 2));
                tails.exits[exit.0 as usize] = Some((own, tail));
            }
        }
        tails
    }
}

/// The exits in the order of their uses, but for those whose stores are performed where the code goes on.
fn sites(function: &Function) -> Vec<ExitId> {
    let mut sites = Vec::with_capacity(function.exits.exits.len());
    for block in &function.blocks {
        sites.extend(block.gas_exit);
        let leaving = block.insts.iter().filter(|inst| !matches!(inst.op, Op::Run(_)));
        sites.extend(leaving.filter_map(|inst| inst.exit));
        sites.extend(block.terminator.targets().filter_map(|target| target.exit()));
    }
    sites.retain(|exit| (exit.0 as usize) < function.stores_end.len());
    sites
}

/// What is in both, by slot.
fn common(a: &[Store], b: &[Store]) -> Common {
    let mut b = b.iter().peekable();
    let mut common = Vec::new();
    for store in a {
        while b.next_if(|other| other.slot < store.slot).is_some() {}
        if b.peek() == Some(&store) {
            common.push(*store);
        }
    }
    common
}

/// What is in the first alone; all of the second is in the first.
fn without(stores: &[Store], above: Option<&Common>) -> Vec<Store> {
    let mut above = above.map_or(&[][..], |above| above).iter().peekable();
    let own = stores.iter().filter(|store| above.next_if(|other| other == store).is_none());
    own.copied().collect()
}
