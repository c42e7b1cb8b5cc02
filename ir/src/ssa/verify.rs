//! Every rule of the SSA form, checked on a finished function.
//!
//! **Owns** the rules that the documentation of [`super::function`] states. A function that passes is
//! safe to evaluate and to compile: no index is out of range, each value is defined on every path to its
//! uses, no slot is outside of what the check at the head covers, each word that is read behind an exit
//! was written, every cycle polls.
//!
//! **Callers guarantee** nothing: any function is valid input.
//!
//! **Never** looks at bytecode, and takes the claim of an [`Op::Narrow`] for granted, which the evaluator
//! checks.

use super::{
    bounds,
    dominators::{Dominators, predecessors},
    function::{Block, BlockId, Def, Function, Inst, Op, Target, Terminator, Value},
    reach,
};
use crate::verify::{Rule, rule};
use crate::{
    display::has_imm,
    fold::to_u256,
    module::{self, Cond},
    verify::shape,
};
use core::fmt;
use kiln_abi::{Exit, ExitId, ExitKind, HelperShape, Pc, STACK_LIMIT, Source};
use thiserror::Error;

/// A rule that a function breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {rule}")]
pub struct VerifyError {
    /// Where.
    pub place: Place,
    /// The rule, as a sentence that should hold.
    pub rule: &'static str,
}

/// A place in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The function as a whole.
    Function,
    /// A value.
    Value(Value),
    /// An exit.
    Exit(ExitId),
    /// A block, its parameters and its charge.
    Block(BlockId),
    /// An instruction, by its index in the block.
    Inst(BlockId, usize),
    /// The terminator of a block.
    Terminator(BlockId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function => f.write_str("function"),
            Self::Value(value) => write!(f, "value {value}"),
            Self::Exit(exit) => write!(f, "exit {exit}"),
            Self::Block(block) => write!(f, "block {block}"),
            Self::Inst(block, index) => write!(f, "block {block}, instruction {index}"),
            Self::Terminator(block) => write!(f, "terminator of block {block}"),
        }
    }
}

/// Checks every rule of the SSA form.
///
/// # Errors
/// The first rule that does not hold, and where.
pub fn verify(function: &Function) -> Result<(), VerifyError> {
    let at = |place| move |rule| VerifyError { place, rule };
    sizes(function).map_err(at(Place::Function))?;
    edges(function)?;
    values(function)?;
    exits(function)?;
    let mut checker = Checker::new(function);
    checker.entry().map_err(at(Place::Exit(function.entry_exit)))?;
    for (block, id) in function.blocks.iter().zip((0..).map(BlockId)) {
        checker.begin(id, block).map_err(at(Place::Block(id)))?;
        for (index, inst) in block.insts.iter().enumerate() {
            checker.inst(index, inst).map_err(at(Place::Inst(id, index)))?;
        }
        checker.terminator(&block.terminator).map_err(at(Place::Terminator(id)))?;
    }
    let used = checker.used.iter().all(|&used| used);
    rule(used, "every exit is used").map_err(at(Place::Function))
}

fn sizes(function: &Function) -> Rule {
    let table = &function.exits;
    let (exits, fixups) = (table.exits.len(), table.fixups.len());
    let lens = [function.blocks.len(), function.values.len(), function.stores.len()];
    let fit = lens.iter().chain(&[exits, fixups, table.pool.len()]).all(|&len| len < 1 << 31);
    rule(fit, "sizes fit 31 bits")?;
    rule(!function.blocks.is_empty(), "there is a first block")?;
    rule(function.pc.0 <= function.code_len, "the pc is in the code")?;
    let range = [function.need, function.grow];
    let fits = range.iter().all(|&words| usize::from(words) <= STACK_LIMIT);
    rule(fits, "the stack range fits the EVM stack")?;
    rule(function.stores_end.len() == exits, "every exit has its stores")?;
    let mut ends = function.stores_end.iter().map(|&end| end as usize);
    rule(ends.clone().is_sorted(), "stores lie in the order of the exits")?;
    rule(ends.next_back().unwrap_or(0) == function.stores.len(), "every store is of an exit")
}

/// Targets exist, with their arguments, and lie where the order of blocks demands.
fn edges(function: &Function) -> Result<(), VerifyError> {
    let mut reached = vec![false; function.blocks.len()];
    reached[0] = true;
    for (index, block) in function.blocks.iter().enumerate() {
        let place = Place::Terminator(BlockId(index as u32));
        let at = |rule| VerifyError { place, rule };
        for target in block.terminator.targets() {
            let Some((BlockId(to), args)) = target.block() else { continue };
            let to = to as usize;
            rule(to < function.blocks.len(), "a target is in the function").map_err(at)?;
            rule(to != 0, "the first block is no target").map_err(at)?;
            let same = args.len() == function.blocks[to].params.len();
            rule(same, "one argument for each parameter").map_err(at)?;
            match target {
                Target::Block { .. } => {
                    rule(to > index, "a jump back polls").map_err(at)?;
                    reached[to] = true;
                }
                _ => rule(to <= index, "a back-edge goes back").map_err(at)?,
            }
        }
    }
    let all = reached.iter().all(|&reached| reached);
    rule(all, "each block is reached from one before")
        .map_err(|rule| VerifyError { place: Place::Function, rule })
}

/// Each value is defined once, where it says, and every value that is named exists.
fn values(function: &Function) -> Result<(), VerifyError> {
    let mut defined = vec![false; function.values.len()];
    let mut define = |value: Value, def: Def| {
        let at = |rule| VerifyError { place: Place::Value(value), rule };
        let data = function.values.get(value.0 as usize);
        let data = data.ok_or("a value is in the function").map_err(at)?;
        rule(data.def == def, "a value is defined where it says").map_err(at)?;
        let again = core::mem::replace(&mut defined[value.0 as usize], true);
        rule(!again, "a value is defined once").map_err(at)
    };
    for (block, id) in function.blocks.iter().zip((0..).map(BlockId)) {
        for (&param, index) in block.params.iter().zip(0..) {
            define(param, Def::Param { block: id, index })?;
        }
        for dst in block.insts.iter().filter_map(|inst| inst.dst) {
            define(dst, Def::Inst(id))?;
        }
    }
    for (data, value) in function.values.iter().zip((0..).map(Value)) {
        let at = |rule| VerifyError { place: Place::Value(value), rule };
        match data.def {
            Def::Const(word) => rule(data.max == word, "a constant bounds itself").map_err(at)?,
            Def::Param { .. } | Def::Inst(_) => {
                rule(defined[value.0 as usize], "a value is defined").map_err(at)?;
            }
        }
    }
    Ok(())
}

/// What can be said about exits without their places.
fn exits(function: &Function) -> Result<(), VerifyError> {
    let table = &function.exits;
    let mut fixups_end = 0;
    for (exit, id) in table.exits.iter().zip((0..).map(ExitId)) {
        let at = |rule| VerifyError { place: Place::Exit(id), rule };
        rule(exit.fixups_start == fixups_end, "fixups lie in the order of the exits")
            .map_err(at)?;
        fixups_end += u32::from(exit.fixups_len);
        let in_range = fixups_end as usize <= table.fixups.len();
        rule(in_range, "fixups are in range").map_err(at)?;
        exit_record(function, id, exit).map_err(at)?;
    }
    let all = fixups_end as usize == table.fixups.len();
    rule(all, "every fixup is of an exit")
        .map_err(|rule| VerifyError { place: Place::Function, rule })
}

fn exit_record(function: &Function, id: ExitId, exit: &Exit) -> Rule {
    rule(exit.moved == 0, "the stack pointer does not move")?;
    rule(exit.pc.0 <= function.code_len, "the pc is in the code")?;
    rule(exit.rest <= exit.gas_back, "the rest is part of the gas given back")?;
    let (need, grow) = (i32::from(function.need), i32::from(function.grow));
    let height = i32::from(exit.height);
    rule((-need..=grow).contains(&height), "the height is within the stack range")?;
    let mut written = Vec::new();
    let is_slot = |slot: i16| (-need..height).contains(&i32::from(slot));
    for store in function.stores(id) {
        rule(is_slot(store.slot.0), "a store writes a word that is on the stack at the exit")?;
        let known = (store.value.0 as usize) < function.values.len();
        rule(known, "a store writes a value of the function")?;
        rule(function.constant(store.value).is_none(), "a store writes no constant")?;
        written.push(store.slot);
    }
    let stores = written.len();
    for fixup in function.exits.fixups(exit) {
        rule(is_slot(fixup.slot.0), "a fixup writes a word that is on the stack at the exit")?;
        match fixup.source {
            Source::Slot(slot) => {
                let within = (-need..grow).contains(&i32::from(slot.0));
                rule(within, "a slot of a fixup is within the stack range")?;
                let stored = written[..stores].contains(&slot);
                rule(!stored, "no fixup reads what a store of the exit writes")?;
            }
            Source::Const(id) => {
                let known = (id as usize) < function.exits.pool.len();
                rule(known, "a constant is in the pool")?;
            }
        }
        written.push(fixup.slot);
    }
    let all = written.len();
    written.sort_unstable();
    written.dedup();
    rule(written.len() == all, "a slot is written once")
}

/// What an exit is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// In front of the instruction at this pc.
    Inst(Pc),
    /// A target of a branch.
    Branch,
    /// The end of a block that always leaves.
    End,
}

/// A function being checked, block by block.
struct Checker<'a> {
    function: &'a Function,
    dominators: Dominators,
    /// By value: the index of the instruction that defines it in its block, one more; 0 for parameters.
    places: Vec<u32>,
    /// By value: the one it was narrowed from, once that is checked.
    narrowed: Vec<Option<Value>>,
    used: Vec<bool>,
    /// By block: the gas charged by it; where it charges none and continues one other, by that.
    charged: Vec<u32>,
    /// By block: all slots below hold a word where it begins; see [`Op::Run`].
    written: Vec<i16>,
    covered: Vec<Vec<usize>>,
    id: BlockId,
    /// Instructions of the block that were checked.
    index: u32,
    /// All slots below hold a word.
    holds: i16,
}

impl<'a> Checker<'a> {
    fn new(function: &'a Function) -> Self {
        let dominators = Dominators::new(&function.blocks);
        let mut places = vec![0; function.values.len()];
        for block in &function.blocks {
            for (inst, place) in block.insts.iter().zip(1..) {
                inst.dst.into_iter().for_each(|dst| places[dst.0 as usize] = place);
            }
        }
        let covered =
            reach::covered(&function.blocks, &dominators, |value| function.constant_of(value));
        Self {
            function,
            dominators,
            places,
            narrowed: vec![None; function.values.len()],
            used: vec![false; function.exits.exits.len()],
            charged: charged(function),
            written: written(function),
            covered,
            id: BlockId(0),
            index: 0,
            holds: 0,
        }
    }

    fn entry(&mut self) -> Rule {
        let function = self.function;
        self.take(function.entry_exit)?;
        let exit = function.exits.exit(function.entry_exit);
        let nothing = exit.fixups_len == 0 && function.stores(function.entry_exit).is_empty();
        let untouched =
            Exit { kind: ExitKind::Interpret, pc: function.pc, height: 0, gas_back: 0, ..*exit };
        rule(nothing && *exit == untouched, "the entry exit changes nothing")
    }

    /// Notes that an exit is used.
    fn take(&mut self, id: ExitId) -> Rule {
        let used = self.used.get_mut(id.0 as usize).ok_or("an exit is in the table")?;
        rule(!core::mem::replace(used, true), "an exit is used in one place")
    }

    fn begin(&mut self, id: BlockId, block: &Block) -> Rule {
        (self.id, self.index) = (id, 0);
        self.holds = self.written[id.0 as usize];
        rule(id.0 != 0 || block.params.is_empty(), "the first block has no parameters")?;
        rule(block.pc.0 <= self.function.code_len, "the pc is in the code")?;
        rule(self.is_height(block.height), "the height is within the stack range")?;
        let charges = block.gas != 0;
        rule(block.gas_exit.is_some() == charges, "a block that charges has an exit for it")?;
        let Some(id) = block.gas_exit else { return Ok(()) };
        self.exit(id)?;
        let exit = self.function.exits.exit(id);
        let front = Exit {
            pc: block.pc,
            kind: ExitKind::Interpret,
            height: block.height,
            gas_back: 0,
            ..*exit
        };
        rule(*exit == front, "without gas the block is left in front of its leader")
    }

    fn is_height(&self, height: i16) -> bool {
        let (need, grow) = (i32::from(self.function.need), i32::from(self.function.grow));
        (-need..=grow).contains(&i32::from(height))
    }

    /// Whether a value is defined on every path to here.
    fn read(&self, value: Value) -> Rule {
        let data = self.function.values.get(value.0 as usize);
        let data = data.ok_or("a value is in the function")?;
        let (Def::Param { block, .. } | Def::Inst(block)) = data.def else { return Ok(()) };
        let before = match block == self.id {
            true => self.places[value.0 as usize] <= self.index,
            false => self.dominators.dominates(block.0 as usize, self.id.0 as usize),
        };
        rule(before, "a value is defined on every path to its use")
    }

    /// An exit used here: its values, and that each word that is read behind it was written.
    fn exit(&mut self, id: ExitId) -> Rule {
        self.take(id)?;
        let (function, exit) = (self.function, self.function.exits.exit(id));
        let gas = self.charged[self.id.0 as usize];
        rule(exit.gas_back <= gas, "no more gas is given back than was charged")?;
        let stores = function.stores(id);
        stores.iter().try_for_each(|store| self.read(store.value))?;
        let fixups = function.exits.fixups(exit);
        for fixup in fixups {
            if let Source::Slot(slot) = fixup.source {
                rule(slot.0 < self.holds, "a fixup reads a slot that was written")?;
            }
        }
        let lowest = match exit.kind {
            ExitKind::Stop => return Ok(()),
            ExitKind::Return | ExitKind::Revert => exit.height.saturating_sub(2),
            ExitKind::Interpret | ExitKind::Resume => self.holds,
        };
        let present = self.is_height(lowest.min(exit.height));
        rule(present, "RETURN and REVERT have two words on the stack")?;
        let missing = lowest.max(self.holds)..exit.height;
        let writes = stores.iter().map(|store| store.slot).chain(fixups.iter().map(|f| f.slot));
        let count = writes.filter(|slot| missing.contains(&slot.0)).count();
        rule(count == missing.len(), "all words are written at an exit")
    }

    fn left(&mut self, id: ExitId, used: Use) -> Rule {
        self.exit(id)?;
        let exit = self.function.exits.exit(id);
        match used {
            Use::Inst(pc) => {
                let front = exit.pc == pc && exit.kind == ExitKind::Interpret;
                rule(front, "an exit stands in front of its instruction")
            }
            Use::Branch => {
                let fits = matches!(exit.kind, ExitKind::Interpret | ExitKind::Resume);
                rule(fits, "the kind of an exit fits where it is used")
            }
            Use::End => Ok(()),
        }
    }

    fn inst(&mut self, index: usize, inst: &Inst) -> Rule {
        let (has_dst, args) = match inst.op {
            Op::Slot(slot) => {
                let within = self.is_height(slot.0) && slot.0 < self.holds;
                rule(within, "a slot that is read is within the stack range and was written")?;
                (true, 0)
            }
            Op::Narrow => (true, 1),
            Op::Word(module::Op::Copy | module::Op::Instruction(_)) => {
                return Err("the operation is one of the SSA form");
            }
            Op::Word(op) => shape(op)?,
            Op::Run(helper) => {
                let fits = helper.shape() == HelperShape::Instruction;
                rule(fits, "the helper has the shape of the operation")?;
                (false, 0)
            }
        };
        rule(inst.dst.is_some() == has_dst, "a result where the operation has one")?;
        let present = (0..3).all(|index| inst.args[index].is_some() == (index < args));
        rule(present, "operands as many as the operation has")?;
        inst.args.iter().flatten().try_for_each(|&arg| self.read(arg))?;
        rule(self.is_imm(inst), "the immediate is in range")?;
        rule(inst.pc.0 <= self.function.code_len, "the pc is in the code")?;
        self.may_leave(index, inst)?;
        self.index += 1;
        let Some(dst) = inst.dst else { return Ok(()) };
        let max = self.function.max(dst);
        let bound = bounds::bound(inst, |value| self.function.max(value));
        let (max, bound) = (to_u256(max), to_u256(bound));
        match inst.op {
            Op::Narrow => {
                self.narrowed[dst.0 as usize] = inst.args[0];
                rule(max <= bound, "narrowing does not widen")
            }
            _ => rule(bound <= max, "the bound of a result follows from those of the operands"),
        }
    }

    fn is_imm(&self, inst: &Inst) -> bool {
        match inst.op {
            Op::Word(module::Op::ShlImm | module::Op::ShrImm | module::Op::SarImm) => {
                (1..256).contains(&inst.imm)
            }
            Op::Word(module::Op::ByteImm) => inst.imm < 32,
            Op::Word(module::Op::SignextendImm) => inst.imm < 31,
            Op::Word(module::Op::Gas) => inst.imm <= self.function.block(self.id).gas,
            Op::Word(op) => !has_imm(op) && inst.imm == 0,
            Op::Slot(_) | Op::Narrow | Op::Run(_) => inst.imm == 0,
        }
    }

    fn may_leave(&mut self, index: usize, inst: &Inst) -> Rule {
        let is_memory = reach::access(inst).is_some();
        rule(is_memory || inst.checked, "only accesses to memory are unchecked")?;
        let is_covered = self.covered[self.id.0 as usize].binary_search(&index).is_ok();
        rule(inst.checked || is_covered, "an unchecked access lies within an earlier one")?;
        let leaves = is_memory && inst.checked
            || matches!(inst.op, Op::Run(_) | Op::Word(module::Op::Guarded(_)));
        rule(inst.exit.is_some() == leaves, "an exit where the operation may leave")?;
        let Some(exit) = inst.exit else { return Ok(()) };
        self.left(exit, Use::Inst(inst.pc))?;
        if let Op::Run(_) = inst.op {
            self.holds = behind_run(self.function.exits.exit(exit));
        }
        Ok(())
    }

    fn terminator(&mut self, terminator: &Terminator) -> Rule {
        match terminator {
            Terminator::Jump(target) => self.target(target, None, Use::End),
            Terminator::Branch { cond, a, b, taken, next } => {
                self.read(*a)?;
                self.read(*b)?;
                let constant = |value: Value| self.function.constant(value).is_some();
                rule(!constant(*a) || constant(*b), "the constant of a branch is on the right")?;
                self.target(taken, Some((*cond, *a, *b)), Use::Branch)?;
                self.target(next, Some((cond.negate(), *a, *b)), Use::Branch)
            }
        }
    }

    /// The value that was narrowed to this one.
    fn root(&self, mut value: Value) -> Value {
        // Those narrowed lie before, so this ends.
        while let Some(wider) = self.narrowed[value.0 as usize] {
            value = wider;
        }
        value
    }

    fn target(&mut self, target: &Target, holds: Option<(Cond, Value, Value)>, used: Use) -> Rule {
        if let Some((to, args)) = target.block() {
            for (&arg, &param) in args.iter().zip(&self.function.block(to).params) {
                self.read(arg)?;
                let of = |value| self.function.max(value);
                let max = match holds {
                    Some(holds) => bounds::where_holds(arg, holds, |value| self.root(value), of),
                    None => of(arg),
                };
                let within = to_u256(max) <= to_u256(of(param));
                rule(within, "an argument is within its parameter's bound")?;
            }
        }
        match *target {
            Target::Block { .. } => Ok(()),
            Target::Exit(exit) => self.left(exit, used),
            Target::Back { block, exit, .. } => {
                self.exit(exit)?;
                let (exit, to) = (self.function.exits.exit(exit), self.function.block(block));
                let kind = ExitKind::Resume;
                let same = Exit { pc: to.pc, kind, height: to.height, gas_back: 0, ..*exit };
                rule(*exit == same, "a poll's exit resumes at its target")
            }
        }
    }
}

impl Function {
    fn constant_of(&self, value: Value) -> Option<kiln_abi::Word> {
        self.values.get(value.0 as usize).and_then(|_| self.constant(value))
    }
}

/// The slots that hold words behind an instruction of the host: those at the exit, and one more if it
/// pushed one and popped none.
fn behind_run(exit: &Exit) -> i16 {
    exit.height.saturating_add(1)
}

/// By block: the gas that its exits can give back.
fn charged(function: &Function) -> Vec<u32> {
    let mut charged = Vec::with_capacity(function.blocks.len());
    let preds = predecessors(&function.blocks);
    for (index, block) in function.blocks.iter().enumerate() {
        let before = match preds[index][..] {
            [pred] if block.gas == 0 && pred < index => charged[pred],
            _ => block.gas,
        };
        charged.push(before);
    }
    charged
}

/// By block: all slots below hold a word where it begins, on every path.
fn written(function: &Function) -> Vec<i16> {
    let mut written = vec![i16::MAX; function.blocks.len()];
    written[0] = 0;
    let preds = predecessors(&function.blocks);
    let behind = |block: usize, at_entry: i16| {
        let mut runs =
            function.blocks[block].insts.iter().filter(|inst| matches!(inst.op, Op::Run(_)));
        let exit = runs.next_back().and_then(|run| function.exits.exits.get(run.exit?.0 as usize));
        exit.map_or(at_entry, behind_run)
    };
    // Each round brings the least of some path one block further, and there are few.
    loop {
        let mut changed = false;
        for block in 1..written.len() {
            let of_preds = preds[block].iter().map(|&pred| behind(pred, written[pred]));
            let least = of_preds.min().unwrap_or(0);
            changed |= least < written[block];
            written[block] = written[block].min(least);
        }
        if !changed {
            return written;
        }
    }
}
