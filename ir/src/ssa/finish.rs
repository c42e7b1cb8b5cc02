//! From a draft to a [`Function`]: what nothing needs goes, and values are numbered anew.
//!
//! **Owns** liveness: an instruction stays if it acts, may leave, or makes a value that something live
//! reads; a parameter if something live reads it. **Callers guarantee** exits that are placed. **Never**
//! changes what is left.

use super::{
    function::{BlockId, Def, Function, Inst, Op, Target, Value, ValueData},
    graph::{Draft, Graph},
    place::Placed,
    sink::sink,
};
use crate::module;

/// Whether an instruction stays though nothing reads its result.
pub(super) fn acts(inst: &Inst) -> bool {
    match inst.op {
        Op::Run(_) => true,
        Op::Slot(_) | Op::Narrow => false,
        Op::Word(module::Op::Mstore | module::Op::Mstore8 | module::Op::Guarded(_)) => true,
        Op::Word(_) => inst.exit.is_some(),
    }
}

/// Marks what is live, from what acts, leaves or decides.
struct Liveness<'a> {
    draft: &'a Draft,
    live: Vec<bool>,
    queue: Vec<Value>,
}

impl Liveness<'_> {
    fn read(&mut self, value: Value) {
        if !core::mem::replace(&mut self.live[value.0 as usize], true) {
            self.queue.push(value);
        }
    }

    fn roots(&mut self, placed: &Placed) {
        let draft = self.draft;
        placed.stores.iter().for_each(|store| self.read(store.value));
        for block in &draft.blocks {
            for inst in block.insts.iter().filter(|inst| acts(inst)) {
                inst.args.iter().flatten().for_each(|&arg| self.read(arg));
            }
            if let super::function::Terminator::Branch { a, b, .. } = block.terminator {
                self.read(a);
                self.read(b);
            }
        }
    }

    fn run(&mut self) {
        // By block: the terminators that go to it.
        let mut preds = vec![Vec::new(); self.draft.blocks.len()];
        for (from, block) in self.draft.blocks.iter().enumerate() {
            for (to, _) in block.terminator.targets().filter_map(Target::block) {
                preds[to.0 as usize].push(from);
            }
        }
        while let Some(value) = self.queue.pop() {
            match self.draft.graph.values[value.0 as usize].def {
                Def::Const(_) => {}
                Def::Inst(_) => {
                    let inst = self.draft.graph.inst(value).copied();
                    let args = inst.map_or([None; 3], |inst| read_by(&inst));
                    args.into_iter().flatten().for_each(|arg| self.read(arg));
                }
                Def::Param { block, index } => {
                    for &from in &preds[block.0 as usize] {
                        let terminator = &self.draft.blocks[from].terminator;
                        let edges = terminator.targets().filter_map(Target::block);
                        for (_, args) in edges.filter(|(to, _)| *to == block) {
                            self.read(args[index as usize]);
                        }
                    }
                }
            }
        }
    }
}

/// What an instruction reads when it runs: the bound of a [`Op::Narrow`] is not among it.
fn read_by(inst: &Inst) -> [Option<Value>; 3] {
    if inst.op == Op::Narrow { [inst.args[0], None, None] } else { inst.args }
}

/// Removes what is dead and gives the rest dense numbers.
pub(super) fn finish(mut draft: Draft, mut placed: Placed, mut function: Function) -> Function {
    let live = {
        let live = vec![false; draft.graph.len()];
        let mut liveness = Liveness { draft: &draft, live, queue: Vec::new() };
        liveness.roots(&placed);
        liveness.run();
        liveness.live
    };
    let is_live = |value: Value| live[value.0 as usize];
    remove_params(&mut draft, &is_live);
    for block in &mut draft.blocks {
        block.insts.retain(|inst| acts(inst) || inst.dst.is_some_and(is_live));
    }
    for inst in draft.blocks.iter_mut().flat_map(|block| &mut block.insts) {
        if inst.op == Op::Narrow {
            (inst.args, inst.imm) = (read_by(inst), 0);
        }
    }
    sink(&mut draft, &placed);
    let mut numbering =
        Numbering { graph: &draft.graph, new: vec![None; live.len()], values: Vec::new() };
    for (block, id) in draft.blocks.iter_mut().zip(0..) {
        for (param, index) in block.params.iter_mut().zip(0..) {
            numbering.define(param, Def::Param { block: BlockId(id), index });
        }
        for inst in &mut block.insts {
            if let Some(dst) = &mut inst.dst {
                numbering.define(dst, Def::Inst(BlockId(id)));
            }
        }
    }
    for block in &mut draft.blocks {
        for inst in &mut block.insts {
            inst.args.iter_mut().flatten().for_each(|arg| numbering.read(arg));
        }
        block.terminator.values_mut(|value| numbering.read(value));
    }
    placed.stores.iter_mut().for_each(|store| numbering.read(&mut store.value));
    function.values = numbering.values;
    function.blocks = draft.blocks;
    (function.exits, function.stores, function.stores_end) =
        (placed.exits, placed.stores, placed.stores_end);
    function
}

/// Removes dead parameters and their arguments.
fn remove_params(draft: &mut Draft, is_live: &impl Fn(Value) -> bool) {
    let kept: Vec<Vec<bool>> = draft
        .blocks
        .iter()
        .map(|block| block.params.iter().map(|&param| is_live(param)).collect())
        .collect();
    keep_params(draft, &kept);
}

/// Keeps those parameters of each block, and their arguments.
pub(super) fn keep_params(draft: &mut Draft, kept: &[Vec<bool>]) {
    for (block, own) in draft.blocks.iter_mut().zip(kept) {
        let mut keep = own.iter();
        block.params.retain(|_| keep.next() == Some(&true));
        block.terminator.targets_mut(|target| {
            if let Some((to, args)) = target.args_mut() {
                let mut keep = kept[to.0 as usize].iter();
                args.retain(|_| keep.next() == Some(&true));
            }
        });
    }
    for (block, id) in draft.blocks.iter().zip(0..) {
        for (param, index) in block.params.iter().zip(0..) {
            draft.graph.values[param.0 as usize].def = Def::Param { block: BlockId(id), index };
        }
    }
}

struct Numbering<'a> {
    graph: &'a Graph,
    new: Vec<Option<Value>>,
    values: Vec<ValueData>,
}

impl Numbering<'_> {
    fn define(&mut self, value: &mut Value, def: Def) {
        let new = Value(self.values.len() as u32);
        self.values.push(ValueData { def, max: self.graph.max(*value) });
        self.new[value.0 as usize] = Some(new);
        *value = new;
    }

    fn read(&mut self, value: &mut Value) {
        match self.new[value.0 as usize] {
            Some(new) => *value = new,
            None => {
                let def = self.graph.values[value.0 as usize].def;
                debug_assert!(matches!(def, Def::Const(_)), "{value:?} is read and not defined");
                self.define(value, def);
            }
        }
    }
}
