//! One walk down the dominator tree that rewrites every instruction.
//!
//! **Owns** what depends on the path to a block: value numbering (an operation that a dominator computed
//! is not computed again), what a branch says of its operands ([`Op::Narrow`], constants), words that
//! were just stored to memory. **Callers guarantee** reachable blocks in order. **Never** moves an
//! instruction, and never changes the words at an exit but for values that are the same everywhere.

use super::{
    bounds,
    dominators::{Dominators, predecessors},
    function::{BlockId, Inst, Op, Terminator, Value},
    graph::Draft,
    simplify::{Compared, compare, simplify},
};
use crate::{
    fold,
    module::{self, Cond},
};
use kiln_abi::{ExitId, Helper};
use std::collections::HashMap;

/// Words of memory whose content is followed.
const WORDS_MAX: usize = 16;

/// Rewrites all instructions; the branches that always go one way (true: to `taken`).
pub(super) fn optimise(draft: &mut Draft, bounds_known: bool) -> Vec<(usize, bool)> {
    let dominators = Dominators::new(&draft.blocks);
    let preds = predecessors(&draft.blocks);
    let blocks = draft.blocks.len();
    let mut walk = Walk {
        same: (0..draft.graph.len() as u32).map(Value).collect(),
        draft,
        bounds_known,
        numbers: HashMap::new(),
        here: HashMap::new(),
        not_less: HashMap::new(),
        undo: Vec::new(),
        memory: vec![Vec::new(); blocks],
        insts: Vec::new(),
        block: BlockId(0),
    };
    let mut decided = Vec::new();
    for &block in dominators.preorder() {
        walk.unwind(|owner| dominators.dominates(owner, block));
        walk.block = BlockId(block as u32);
        if let [pred] = preds[block][..]
            && pred < block
        {
            walk.memory[block] = walk.memory[pred].clone();
            walk.behind_branch(pred);
        }
        walk.instructions();
        decided.extend(walk.terminator().map(|holds| (block, holds)));
    }
    decided.sort_unstable();
    decided
}

/// What to take back when a subtree is left.
enum Undo {
    Number((Op, [Option<Value>; 3], u32)),
    Here(Value, Option<Value>),
    NotLess((Value, Value)),
}

struct Walk<'a> {
    draft: &'a mut Draft,
    /// Whether the bounds of parameters were computed.
    bounds_known: bool,
    /// By value: the one it is the same as, everywhere.
    same: Vec<Value>,
    /// What was computed on the path.
    numbers: HashMap<(Op, [Option<Value>; 3], u32), Value>,
    /// By value: the one that is the same here, and of which more is known.
    here: HashMap<Value, Value>,
    /// Pairs of which the first is not less than the second here.
    not_less: HashMap<(Value, Value), ()>,
    undo: Vec<(usize, Undo)>,
    /// By block: offsets of memory whose words are known, behind it.
    memory: Vec<Vec<(u64, Value)>>,
    insts: Vec<Inst>,
    block: BlockId,
}

impl Walk<'_> {
    fn unwind(&mut self, stays: impl Fn(usize) -> bool) {
        while self.undo.last().is_some_and(|(owner, _)| !stays(*owner)) {
            match self.undo.pop().map(|(_, undo)| undo) {
                Some(Undo::Number(key)) => {
                    self.numbers.remove(&key);
                }
                Some(Undo::Here(value, Some(before))) => {
                    self.here.insert(value, before);
                }
                Some(Undo::Here(value, None)) => {
                    self.here.remove(&value);
                }
                Some(Undo::NotLess(pair)) => {
                    self.not_less.remove(&pair);
                }
                None => {}
            }
        }
    }

    fn note(&mut self, undo: Undo) {
        self.undo.push((self.block.0 as usize, undo));
    }

    /// The value it is the same as, everywhere.
    fn same(&self, value: Value) -> Value {
        self.same.get(value.0 as usize).copied().unwrap_or(value)
    }

    /// The value of which most is known here.
    fn known(&self, value: Value) -> Value {
        let mut value = self.same(value);
        while let Some(&known) = self.here.get(&value) {
            value = known;
        }
        value
    }

    /// The value that was narrowed to this one.
    fn root(&self, value: Value) -> Value {
        self.draft.graph.root(value)
    }

    fn set_same(&mut self, value: Value, same: Value) {
        let index = value.0 as usize;
        if index >= self.same.len() {
            self.same.extend((self.same.len() as u32..=value.0).map(Value));
        }
        self.same[index] = same;
    }

    fn set_here(&mut self, value: Value, known: Value) {
        let before = self.here.insert(value, known);
        self.note(Undo::Here(value, before));
    }

    // --- what branches say ---------------------------------------------------------------------

    /// What the only branch to this block says of its operands.
    fn behind_branch(&mut self, pred: usize) {
        let Terminator::Branch { cond, a, b, taken, .. } = &self.draft.blocks[pred].terminator
        else {
            return;
        };
        let is_taken = taken.block().is_some_and(|(to, _)| to == self.block);
        let (cond, a, b) = (if is_taken { *cond } else { cond.negate() }, *a, *b);
        if self.draft.graph.word(a).is_some() {
            // Decided already, so one of the two ways is never taken.
            return;
        }
        match cond {
            Cond::Eq if self.draft.graph.word(b).is_some() => self.set_here(a, b),
            Cond::Ult => self.at_most(a, b, 1),
            Cond::Ule => self.at_most(a, b, 0),
            Cond::Ugt => self.at_most(b, a, 1),
            Cond::Uge => self.at_most(b, a, 0),
            _ => {}
        }
    }

    /// `a` is at most `b`, or less than it.
    fn at_most(&mut self, a: Value, b: Value, strictly: u32) {
        let pair = (self.root(b), self.root(a));
        if self.not_less.insert(pair, ()).is_none() {
            self.note(Undo::NotLess(pair));
        }
        self.narrow(a, b, strictly);
    }

    /// Notes that here `a` is at most `b`, or less than it, if that may say something of `a`.
    fn narrow(&mut self, a: Value, b: Value, strictly: u32) {
        let pc = self.draft.blocks[self.block.0 as usize].pc;
        let mut inst = Inst::new(Op::Narrow, [Some(a), Some(b), None], strictly, pc);
        let graph = &mut self.draft.graph;
        let says_nothing = bounds::bound(&inst, |value| graph.max(value)) == graph.max(a);
        // Before the bounds of loops are known, any may say something.
        if graph.word(a).is_some() || (self.bounds_known && says_nothing) {
            return;
        }
        let value = graph.define(self.block, &mut inst);
        self.insts.push(inst);
        self.set_same(value, value);
        self.set_here(a, value);
    }

    // --- instructions ----------------------------------------------------------------------------

    fn instructions(&mut self) {
        let index = self.block.0 as usize;
        self.leave(self.draft.blocks[index].gas_exit);
        for inst in core::mem::take(&mut self.draft.blocks[index].insts) {
            self.leave(inst.exit);
            self.inst(inst);
        }
        self.draft.blocks[index].insts = core::mem::take(&mut self.insts);
    }

    /// Rewrites the words of an exit.
    fn leave(&mut self, exit: Option<ExitId>) {
        let Some(exit) = exit else { return };
        let mut words = core::mem::take(&mut self.draft.leaves[exit.0 as usize].words);
        words.iter_mut().for_each(|(_, value)| *value = self.same(*value));
        self.draft.leaves[exit.0 as usize].words = words;
    }

    fn inst(&mut self, mut inst: Inst) {
        if inst.op == Op::Narrow {
            return self.again_narrow(inst);
        }
        inst.args = inst.args.map(|arg| arg.map(|arg| self.known(arg)));
        let same = simplify(&mut self.draft.graph, &mut inst)
            .or_else(|| self.numbered(&inst))
            .or_else(|| self.memory_word(&inst));
        match (inst.dst, same) {
            (Some(dst), Some(same)) => self.replaced(dst, same),
            _ => self.keep(inst),
        }
    }

    /// The value is one that is there already.
    fn replaced(&mut self, dst: Value, same: Value) {
        // Where more is known of the other only here, the value itself is the same everywhere.
        self.set_same(dst, self.root(same));
        if self.root(same) != same {
            self.set_here(self.root(same), same);
        }
    }

    /// A narrowing of an earlier walk: it stays if it says something.
    fn again_narrow(&mut self, mut inst: Inst) {
        inst.args = inst.args.map(|arg| arg.map(|arg| self.known(arg)));
        let [Some(a), ..] = inst.args else { return };
        let Some(dst) = inst.dst else { return };
        let graph = &self.draft.graph;
        let narrower = fold::compare(Cond::Ult, &graph.max(dst), &graph.max(a));
        if !narrower || graph.word(a).is_some() {
            self.set_same(dst, a);
            return;
        }
        self.draft.graph.redefine(self.block, &inst);
        self.insts.push(inst);
        self.set_here(a, dst);
    }

    fn keep(&mut self, inst: Inst) {
        self.draft.graph.redefine(self.block, &inst);
        self.insts.push(inst);
        let Some(dst) = inst.dst else { return };
        if is_numbered(inst.op) {
            let key = (inst.op, inst.args, inst.imm);
            self.numbers.insert(key, dst);
            self.note(Undo::Number(key));
        }
        if let (Op::Word(module::Op::Sub), [Some(a), Some(b), _]) = (inst.op, inst.args)
            && self.not_less.contains_key(&(self.root(a), self.root(b)))
        {
            self.narrow(dst, a, 0);
        }
    }

    fn numbered(&self, inst: &Inst) -> Option<Value> {
        let key = (inst.op, inst.args, inst.imm);
        is_numbered(inst.op).then(|| self.numbers.get(&key).copied())?
    }

    // --- memory ----------------------------------------------------------------------------------

    /// The word an MLOAD gives, if it is known; notes what other instructions do to memory.
    fn memory_word(&mut self, inst: &Inst) -> Option<Value> {
        use module::Op::*;
        let memory = &mut self.memory[self.block.0 as usize];
        let at = inst.args[0].and_then(|offset| self.draft.graph.word(offset)?.as_u64());
        match (inst.op, at) {
            (Op::Word(Mload), Some(at)) => {
                if let Some(&(_, word)) = memory.iter().find(|(offset, _)| *offset == at) {
                    return Some(word);
                }
                remember(memory, at, inst.dst?);
            }
            (Op::Word(Mstore), Some(at)) => {
                memory.retain(|&(offset, _)| offset.abs_diff(at) >= 32);
                remember(memory, at, inst.args[1]?);
            }
            (Op::Word(Mstore8), Some(at)) => {
                memory.retain(|&(offset, _)| at < offset || at - offset >= 32);
            }
            (Op::Word(Mstore | Mstore8), None)
            | (
                Op::Word(Guarded(
                    Helper::Calldatacopy
                    | Helper::Codecopy
                    | Helper::Returndatacopy
                    | Helper::Mcopy,
                )),
                _,
            )
            | (Op::Run(Helper::Instruction), _) => memory.clear(),
            _ => {}
        }
        None
    }

    // --- terminators -----------------------------------------------------------------------------

    /// Rewrites the terminator; how its branch always comes out, if it does.
    fn terminator(&mut self) -> Option<bool> {
        let index = self.block.0 as usize;
        let placeholder = Terminator::Jump(super::function::Target::Exit(ExitId(0)));
        let mut terminator =
            core::mem::replace(&mut self.draft.blocks[index].terminator, placeholder);
        terminator.targets_mut(|target| {
            self.leave(target.exit());
            if let Some((_, args)) = target.args_mut() {
                args.iter_mut().for_each(|arg| *arg = self.same(*arg));
            }
        });
        let mut known = None;
        if let Terminator::Branch { cond, a, b, .. } = &mut terminator {
            let (left, right) = (self.known(*a), self.known(*b));
            match compare(&mut self.draft.graph, *cond, left, right) {
                Compared::Known(holds) => {
                    (*a, *b) = (left, right);
                    known = Some(holds);
                }
                Compared::Is(now, left, right) => {
                    (*cond, *a, *b) = (now, self.known(left), self.known(right));
                }
            }
        }
        self.draft.blocks[index].terminator = terminator;
        known
    }
}

fn remember(memory: &mut Vec<(u64, Value)>, at: u64, word: Value) {
    if memory.len() == WORDS_MAX {
        memory.remove(0);
    }
    memory.push((at, word));
}

/// Whether an operation gives the same word wherever it has the same operands, within a frame.
fn is_numbered(op: Op) -> bool {
    use module::Op::*;
    match op {
        Op::Word(
            Add | Sub | Mul | And | Or | Xor | Not | Set(_) | ShlImm | ShrImm | SarImm | ByteImm
            | SignextendImm | Calldataload | Address | Caller | CallValue | Calldatasize | Pure(_),
        ) => true,
        Op::Word(
            Copy | Mload | Mstore | Mstore8 | Returndatasize | Msize | Gas | Guarded(_)
            | Instruction(_),
        )
        | Op::Slot(_)
        | Op::Narrow
        | Op::Run(_) => false,
    }
}
