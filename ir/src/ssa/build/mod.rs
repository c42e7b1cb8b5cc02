//! From a region to SSA: the words of the EVM stack become values.
//!
//! **Owns** the symbolic execution of each node of a [`Region`] over a stack of values, block
//! parameters where paths meet, charges, and ways out. A node with one predecessor that always goes to
//! it becomes part of that block, and its gas part of that charge: less gas than for both leaves in
//! front of the first, and the interpreter finds where it ends.
//!
//! **Callers guarantee** a region of the same analysis, so that heights and contexts are as planned.
//!
//! **Never** optimises beyond [`super::simplify`]; block parameters are not minimal yet.

mod control;
mod lower;

use super::{
    analysis::Analysis,
    function::{Block, BlockId, Inst, Op, Target, Terminator, Value},
    graph::{Draft, Leave},
    region::Region,
};
use crate::config::{Bounds, BuildError};

use kiln_abi::{ExitId, ExitKind, Pc, Slot, Word};

/// The exit at the head if the stack range does not fit.
pub(super) const ENTRY_EXIT: ExitId = ExitId(0);

/// In a target that is not emitted yet, the block is a node with this bit.
const NODE: u32 = 1 << 31;

/// How far a node is.
#[derive(Clone, Debug)]
enum State {
    /// No edge to it was met.
    Waiting,
    /// An edge was; with the stack that it begins with.
    Open(Vec<Value>),
    /// Its block.
    Done(BlockId),
    /// No edge was met when it was its turn, so edges to it leave.
    Skipped,
}

/// Builds the draft of a region.
pub(super) fn draft(
    analysis: &Analysis<'_>,
    region: &Region,
    bounds: Bounds<'_>,
) -> Result<Draft, BuildError> {
    let mut builder = Builder::new(analysis, region);
    builder.entry();
    for node in builder.order.clone() {
        bounds.check()?;
        match core::mem::replace(&mut builder.states[node], State::Skipped) {
            State::Open(stack) => builder.chain(node, stack),
            done @ State::Done(_) => builder.states[node] = done,
            State::Waiting | State::Skipped => {}
        }
    }
    builder.name_blocks();
    Ok(builder.draft)
}

struct Builder<'a> {
    analysis: &'a Analysis<'a>,
    region: &'a Region,
    /// Nodes in reverse post-order.
    order: Vec<usize>,
    /// By node, the edges to it; the entry counts for the head.
    preds: Vec<usize>,
    /// By position plus `need`: whether some node leaves another word there than it found.
    changed: Vec<bool>,
    /// By position plus `need`: the word that lies there at entry.
    entry: Vec<Value>,
    states: Vec<State>,
    draft: Draft,
    /// The block being built.
    block: BlockId,
    insts: Vec<Inst>,
    /// From position `-need` up.
    stack: Vec<Value>,
    /// The instruction being lowered.
    pc: Pc,
    /// Static gas of the block before the instruction being lowered.
    gas_before: u32,
    /// Static gas of the instruction being lowered.
    gas_own: u32,
}

impl<'a> Builder<'a> {
    fn new(analysis: &'a Analysis<'a>, region: &'a Region) -> Self {
        let order = reverse_post_order(region);
        let mut preds = vec![0; region.nodes.len()];
        preds[0] = 1;
        for node in &region.nodes {
            node.taken.iter().map(|&(_, to)| to).chain(node.next).for_each(|to| preds[to] += 1);
        }
        Self {
            analysis,
            region,
            order,
            preds,
            changed: changed(analysis, region),
            entry: Vec::new(),
            states: vec![State::Waiting; region.nodes.len()],
            draft: Draft::default(),
            block: BlockId(0),
            insts: Vec::new(),
            stack: Vec::new(),
            pc: region.head(),
            gas_before: 0,
            gas_own: 0,
        }
    }

    /// Block 0: reads the words at entry and goes to the head.
    fn entry(&mut self) {
        self.draft.leaves.push(Leave {
            pc: self.region.head(),
            kind: ExitKind::Interpret,
            height: 0,
            gas_back: 0,
            rest: 0,
            words: Vec::new(),
            inputs: 0,
        });
        self.begin(self.region.head(), 0, Vec::new());
        for position in -self.region.need..0 {
            let value = self.emit(Op::Slot(Slot(position)), [None; 3], 0);
            self.entry.push(value);
        }
        self.stack.clone_from(&self.entry);
        let target = self.edge(Some(0), self.region.head());
        self.finish(Terminator::Jump(target));
    }

    /// Opens a block; its instructions go to `insts`.
    fn begin(&mut self, pc: Pc, height: i16, params: Vec<Value>) {
        self.block = BlockId(self.draft.blocks.len() as u32);
        self.draft.blocks.push(Block {
            pc,
            height,
            params,
            gas: 0,
            gas_exit: None,
            insts: Vec::new(),
            terminator: Terminator::Jump(Target::Exit(ENTRY_EXIT)),
        });
    }

    fn finish(&mut self, terminator: Terminator) {
        let block = &mut self.draft.blocks[self.block.0 as usize];
        block.insts = core::mem::take(&mut self.insts);
        block.terminator = terminator;
    }

    /// A node, and those that are only reached from it.
    fn chain(&mut self, first: usize, stack: Vec<Value>) {
        let mut node = first;
        let height = self.region.nodes[node].height;
        let pc = self.analysis.block(self.region.nodes[node].block).start;
        self.begin(pc, height, Vec::new());
        let block = self.block;
        self.states[node] = State::Done(block);
        self.stack = stack;
        self.pc = pc;
        if self.is_join(node) {
            self.params(node);
        }
        (self.gas_before, self.gas_own) = (0, 0);
        let leaves_start = self.draft.leaves.len() + 1;
        let gas_exit = self.leave(ExitKind::Interpret);
        while let Some(next) = self.node(node) {
            node = next;
            self.states[node] = State::Done(block);
        }
        self.settle_gas(block, leaves_start);
        let total = self.gas_before;
        let block = &mut self.draft.blocks[block.0 as usize];
        block.gas = total;
        block.gas_exit = (total != 0).then_some(gas_exit);
    }

    fn is_join(&self, node: usize) -> bool {
        self.preds[node] > 1 || self.analysis.perturb.spill
    }

    /// The positions that are parameters of a node where edges meet.
    fn param_positions(&self, node: usize) -> Vec<i16> {
        let node = &self.region.nodes[node];
        let (need, spill) = (self.region.need, self.analysis.perturb.spill);
        let is_param = |&position: &i16| {
            let is_known =
                !spill && node.context.binary_search_by_key(&position, |known| known.0).is_ok();
            self.changed[(position + need) as usize] && !is_known
        };
        (-need..node.height).filter(is_param).collect()
    }

    /// Replaces the words that may differ by path.
    fn params(&mut self, node: usize) {
        for (index, position) in self.param_positions(node).into_iter().enumerate() {
            let value = self.draft.graph.param(self.block, index as u32);
            self.draft.blocks[self.block.0 as usize].params.push(value);
            self.draft.positions.insert(value, position);
            *self.at(position) = value;
        }
    }

    /// Once the gas of a block is known: what each exit gives back, and what GAS adds.
    fn settle_gas(&mut self, block: BlockId, leaves_start: usize) {
        let total = self.gas_before;
        for leave in &mut self.draft.leaves[leaves_start..] {
            // `gas_back` held the gas before the instruction, `rest` its own.
            let own = leave.rest;
            leave.gas_back = total - leave.gas_back;
            leave.rest = leave.gas_back.saturating_sub(own);
        }
        for inst in &mut self.draft.blocks[block.0 as usize].insts {
            if inst.op == Op::Word(crate::module::Op::Gas) {
                inst.imm = total - inst.imm;
                self.draft.graph.redefine(block, inst);
            }
        }
    }

    fn height(&self) -> i16 {
        self.stack.len() as i16 - self.region.need
    }

    fn at(&mut self, position: i16) -> &mut Value {
        &mut self.stack[(position + self.region.need) as usize]
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().expect("build: a region's stack range covers its blocks")
    }

    /// The value `depth` words below the top.
    fn peek(&self, depth: usize) -> Value {
        self.stack[self.stack.len() - 1 - depth]
    }

    fn constant(&mut self, word: Word) -> Value {
        self.draft.graph.constant(word)
    }

    /// The exit in front of the instruction being lowered; `gas_back` and `rest` as
    /// [`Self::settle_gas`] wants them.
    fn leave(&mut self, kind: ExitKind) -> ExitId {
        let words = self.snapshot(0);
        self.leave_with(kind, self.pc, self.gas_before, self.gas_own, words)
    }

    fn leave_with(
        &mut self,
        kind: ExitKind,
        pc: Pc,
        gas_back: u32,
        rest: u32,
        words: Vec<(i16, Value)>,
    ) -> ExitId {
        let id = ExitId(self.draft.leaves.len() as u32);
        let height = self.height();
        self.draft.leaves.push(Leave { pc, kind, height, gas_back, rest, words, inputs: 0 });
        id
    }

    /// The words from the `from`th of the stack range up that may not be what they were at entry.
    fn snapshot(&self, from: usize) -> Vec<(i16, Value)> {
        let words = self.stack.iter().zip(&self.changed).enumerate().skip(from);
        words
            .filter(|(_, (_, changed))| **changed)
            .map(|(index, (&value, _))| (index as i16 - self.region.need, value))
            .collect()
    }

    /// An edge to a node, with the present stack; or the way out to its leader.
    fn edge(&mut self, node: Option<usize>, pc: Pc) -> Target {
        let Some(node) = node else { return Target::Exit(self.resume(pc)) };
        debug_assert_eq!(self.height(), self.region.nodes[node].height, "node {node} at {pc}");
        let args = match self.is_join(node) {
            true => self.param_positions(node).into_iter().map(|at| *self.at(at)).collect(),
            false => Vec::new(),
        };
        match &self.states[node] {
            State::Done(block) => {
                let block = *block;
                Target::Back { block, args, exit: self.resume(pc) }
            }
            State::Skipped => Target::Exit(self.resume(pc)),
            State::Waiting => {
                self.states[node] = State::Open(self.stack.clone());
                Target::Block { block: BlockId(NODE | node as u32), args }
            }
            State::Open(_) => Target::Block { block: BlockId(NODE | node as u32), args },
        }
    }

    /// The exit behind a terminator, to a leader.
    fn resume(&mut self, pc: Pc) -> ExitId {
        let words = self.snapshot(0);
        let charged = self.gas_before + self.gas_own;
        self.leave_with(ExitKind::Resume, pc, charged, 0, words)
    }

    /// Turns nodes in targets into blocks.
    fn name_blocks(&mut self) {
        let states = &self.states;
        for block in &mut self.draft.blocks {
            block.terminator.targets_mut(|target| {
                let Target::Block { block, .. } = target else { return };
                if block.0 & NODE != 0 {
                    let State::Done(done) = states[(block.0 & !NODE) as usize] else {
                        unreachable!("build: a node that was met is built")
                    };
                    *block = done;
                }
            });
        }
    }
}

/// The positions that some node writes, by position plus `need`.
fn changed(analysis: &Analysis<'_>, region: &Region) -> Vec<bool> {
    let mut changed = vec![false; (region.need + region.grow) as usize];
    changed[region.need as usize..].fill(true);
    for node in &region.nodes {
        for position in analysis.summaries.written(node.block) {
            changed[(position + node.height + region.need) as usize] = true;
        }
    }
    changed
}

fn reverse_post_order(region: &Region) -> Vec<usize> {
    let successors = |node: usize| {
        let node = &region.nodes[node];
        // What comes last is visited last and so lies first: the code behind a branch.
        node.taken.iter().map(|&(_, to)| to).chain(node.next).collect::<Vec<_>>()
    };
    let mut seen = vec![false; region.nodes.len()];
    let mut order = Vec::with_capacity(region.nodes.len());
    let mut path = vec![(0, successors(0))];
    seen[0] = true;
    while let Some((node, rest)) = path.last_mut() {
        if rest.is_empty() {
            order.push(*node);
            path.pop();
            continue;
        }
        let next = rest.remove(0);
        if !core::mem::replace(&mut seen[next], true) {
            path.push((next, successors(next)));
        }
    }
    order.reverse();
    order
}
