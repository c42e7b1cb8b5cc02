//! Ways out.
//!
//! **Owns** the stores in front of leaving, and what ways out share. Most words that one exit writes are
//! written by its neighbours too: over the exits in the order of the code lies a binary tree, and what all
//! exits below a node write is written by one block of the node. So a word that stays on the stack for a long
//! stretch of code costs a few stores, not one for each exit. **Callers guarantee** that the values an exit
//! stores are computed where it is used, so that they are in front of each block all users of which store
//! them. **Never** applies fixups: that is the host's part.

use super::{Lower, control::displacement, origin::Origin, plan::Plan};
use crate::CompileError;
use cranelift_codegen::ir::{self, InstBuilder, Value, types::*};
use kiln_abi::ExitId;
use kiln_ir::ssa::{Function, Op, Store};

/// What ways out share.
#[derive(Debug, Default)]
pub(super) struct Tails {
    /// By exit, the stores of its own and the block that does the rest; none if it shares nothing.
    exits: Vec<Option<(Vec<Store>, usize)>>,
    tails: Vec<Tail>,
}

/// Stores that several exits share, and the block that performs them.
#[derive(Debug)]
struct Tail {
    stores: Vec<Store>,
    /// Made when it is first jumped to. Its parameters are the exit's number and the gas.
    block: Option<ir::Block>,
    /// Who does the rest; if there is none, all is done.
    next: Option<usize>,
}

/// A node of the tree: what all exits below it store, by slot.
type Common = Vec<Store>;

impl Tails {
    pub(super) fn new(function: &Function, plan: &Plan) -> Self {
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
                tails.tails.push(Tail { stores: own, block: None, next });
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

impl Lower<'_, '_> {
    /// Leaves if `condition` is not zero.
    pub(super) fn leave_if(&mut self, condition: Value, exit: ExitId) -> Result<(), CompileError> {
        let (out, stay) = (self.cold_block(), self.b.create_block());
        self.b.ins().brif(condition, out, &[], stay, &[]);
        self.b.switch_to_block(out);
        self.leave(exit)?;
        self.b.switch_to_block(stay);
        Ok(())
    }

    /// Ends the block by leaving.
    pub(super) fn leave(&mut self, exit: ExitId) -> Result<(), CompileError> {
        let number = self.exit_number(exit)?;
        let tail = match self.tails.exits[exit.0 as usize].clone() {
            Some((own, tail)) => {
                self.store_all(&own)?;
                Some(tail)
            }
            None => {
                self.perform_late(exit)?;
                None
            }
        };
        let to = self.tail_block(tail);
        let (number, gas) = (self.iconst(number.into()), self.gas);
        self.b.ins().jump(to, &[number.into(), gas.into()]);
        Ok(())
    }

    /// Writes what is written in front of an instruction that may leave.
    pub(super) fn perform_early(&mut self, exit: ExitId) -> Result<(), CompileError> {
        match self.plan.early.get_mut(exit.0 as usize) {
            Some(stores) => {
                let stores = std::mem::take(stores);
                self.store_all(&stores)
            }
            None => Err(CompileError::Malformed("no such exit")),
        }
    }

    /// Writes all that is left to be written.
    pub(super) fn perform_late(&mut self, exit: ExitId) -> Result<(), CompileError> {
        match self.plan.late.get(exit.0 as usize).cloned() {
            Some(stores) => self.store_all(&stores),
            None => Err(CompileError::Malformed("no such exit")),
        }
    }

    fn store_all(&mut self, stores: &[Store]) -> Result<(), CompileError> {
        for store in stores {
            let word = self.word(store.value)?;
            self.store_word(self.flags.stack, self.sp, displacement(store.slot), word);
        }
        Ok(())
    }

    /// The block that a tail, or what follows the last, begins with.
    fn tail_block(&mut self, tail: Option<usize>) -> ir::Block {
        let Some(tail) = tail else { return self.out };
        if let Some(block) = self.tails.tails[tail].block {
            return block;
        }
        let block = self.cold_block();
        self.b.append_block_param(block, I64);
        self.b.append_block_param(block, I64);
        self.tails.tails[tail].block = Some(block);
        block
    }

    /// The blocks that ways out share, once all that jump to them are there.
    pub(super) fn finish_exits(&mut self) -> Result<(), CompileError> {
        self.origin(Origin::Exits);
        // Tails go on in those that lie before them.
        for tail in (0..self.tails.tails.len()).rev() {
            let Some(block) = self.tails.tails[tail].block else { continue };
            self.b.switch_to_block(block);
            let stores = std::mem::take(&mut self.tails.tails[tail].stores);
            self.store_all(&stores)?;
            let [number, gas] = [0, 1].map(|index| self.b.block_params(block)[index]);
            let next = self.tails.tails[tail].next;
            let to = self.tail_block(next);
            self.b.ins().jump(to, &[number.into(), gas.into()]);
        }
        self.b.switch_to_block(self.out);
        let [number, gas] = [0, 1].map(|index| self.b.block_params(self.out)[index]);
        self.gas = gas;
        self.store_gas();
        self.b.ins().return_(&[number]);
        Ok(())
    }
}
