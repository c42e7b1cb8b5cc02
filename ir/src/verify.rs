//! Every rule of the block IR, checked on a finished module.
//!
//! **Owns** the rules that the comments of [`crate::module`] and [`kiln_abi::Exit`] state. A module
//! that passes is safe to evaluate and to compile: no index is out of range, no slot is outside of
//! what the precondition of its region covers, no access to memory is left unchecked that could lie
//! outside.
//!
//! **Callers guarantee** nothing: any module is valid input; the work is linear in its size.
//!
//! **Never** looks at bytecode: whether a module means what its code means is for tests to say.

use crate::display::has_imm;
use crate::module::{ConstId, Inst, Module, Op, Operand, Region, Target, Terminator};
use core::fmt;
use kiln_abi::{Exit, ExitId, ExitKind, Helper, HelperShape, Pc, STACK_LIMIT, Slot, Source, Word};
use thiserror::Error;

/// A rule that a module breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {rule}")]
pub struct VerifyError {
    /// Where.
    pub place: Place,
    /// The rule, as a sentence that should hold.
    pub rule: &'static str,
}

/// A place in a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The module as a whole.
    Module,
    /// An exit, wherever it is used.
    Exit(ExitId),
    /// A region's own fields.
    Region {
        /// Its index.
        region: usize,
        /// Its leader.
        pc: Pc,
    },
    /// An instruction.
    Inst {
        /// The index of its region.
        region: usize,
        /// Its index in the region.
        inst: usize,
        /// The instruction it was made from.
        pc: Pc,
    },
    /// The terminator of a region.
    Terminator {
        /// The index of the region.
        region: usize,
        /// Its leader.
        pc: Pc,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module => f.write_str("module"),
            Self::Exit(exit) => write!(f, "exit {exit}"),
            Self::Region { region, pc } => write!(f, "region r{region} {pc}"),
            Self::Inst { region, inst, pc } => {
                write!(f, "region r{region}, instruction {inst} {pc}")
            }
            Self::Terminator { region, pc } => write!(f, "terminator of region r{region} {pc}"),
        }
    }
}

pub(crate) type Rule = Result<(), &'static str>;

pub(crate) fn rule(holds: bool, rule: &'static str) -> Rule {
    if holds { Ok(()) } else { Err(rule) }
}

/// Checks every rule of the block IR.
///
/// # Errors
/// The first rule that does not hold, and where.
pub fn verify(module: &Module) -> Result<(), VerifyError> {
    let at = |place| move |rule| VerifyError { place, rule };
    sizes(module).map_err(at(Place::Module))?;
    let mut spans = exits(module)?;
    let mut insts_start = 0;
    let mut previous = None;
    for (index, region) in module.regions.iter().enumerate() {
        let mut checker = Checker::new(module, &mut spans, region, index);
        let place = at(Place::Region { region: index, pc: region.pc });
        checker.header(previous, insts_start).map_err(place)?;
        insts_start += u64::from(region.insts_len);
        previous = Some(region.pc);
        for (inst_index, inst) in module.insts(region).iter().enumerate() {
            let place = at(Place::Inst { region: index, inst: inst_index, pc: inst.pc });
            checker.inst(inst).map_err(place)?;
        }
        let place = at(Place::Terminator { region: index, pc: region.pc });
        checker.terminator().map_err(place)?;
    }
    rule(insts_start == module.insts.len() as u64, "every instruction is of a region")
        .map_err(at(Place::Module))
}

/// Indices are 32 bits wide.
fn sizes(module: &Module) -> Rule {
    let table = &module.exits;
    let (fixups, pool) = (table.fixups.len(), table.pool.len());
    let sizes = [module.regions.len(), module.insts.len(), table.exits.len(), fixups, pool];
    rule(sizes.iter().all(|&size| u32::try_from(size).is_ok()), "sizes fit 32 bits")
}

/// What is known of an exit without its region.
#[derive(Clone, Copy)]
struct Span {
    /// The lowest slot that its fixups name.
    lo: i16,
    /// The highest; below `lo` if they name none.
    hi: i16,
    /// Whether it was met: fixups are looked at once, which keeps the work linear.
    used: bool,
}

/// Checks what can be said about exits without their regions.
fn exits(module: &Module) -> Result<Vec<Span>, VerifyError> {
    let mut spans = Vec::with_capacity(module.exits.exits.len());
    let mut fixups_end = 0;
    // By slot, one more than the last exit that wrote it.
    let mut writer = vec![0; 1 << 16];
    for (index, exit) in module.exits.exits.iter().enumerate() {
        let id = ExitId(index as u32);
        let at = |rule| VerifyError { place: Place::Exit(id), rule };
        rule(u64::from(exit.fixups_start) == fixups_end, "fixups lie in the order of the exits")
            .map_err(at)?;
        fixups_end += u64::from(exit.fixups_len);
        rule(fixups_end <= module.exits.fixups.len() as u64, "fixups are in range").map_err(at)?;
        rule(exit.pc.0 <= module.code_len, "the pc is in the code").map_err(at)?;
        rule(exit.rest <= exit.gas_back, "the rest is part of the gas given back").map_err(at)?;
        spans.push(fixups(module, exit, index as u32 + 1, &mut writer).map_err(at)?);
    }
    let all = fixups_end == module.exits.fixups.len() as u64;
    rule(all, "every fixup is of an exit")
        .map_err(|rule| VerifyError { place: Place::Module, rule })?;
    Ok(spans)
}

fn fixups(
    module: &Module,
    exit: &Exit,
    stamp: u32,
    writer: &mut [u32],
) -> Result<Span, &'static str> {
    let mut span = Span { lo: i16::MAX, hi: i16::MIN, used: false };
    for fixup in module.exits.fixups(exit) {
        rule(fixup.slot.0 < exit.height, "a fixup writes a word that is on the stack at the exit")?;
        let last = &mut writer[fixup.slot.0 as u16 as usize];
        rule(*last != stamp, "a slot is written by one fixup")?;
        *last = stamp;
        let mut reach = |slot: Slot| {
            (span.lo, span.hi) = (span.lo.min(slot.0), span.hi.max(slot.0));
        };
        reach(fixup.slot);
        match fixup.source {
            Source::Slot(slot) => reach(slot),
            Source::Const(id) => {
                rule((id as usize) < module.exits.pool.len(), "a constant is in the pool")?;
            }
        }
    }
    Ok(span)
}

/// A set of slots from 0 on; all slots below belong to it.
#[derive(Clone, Copy, Default)]
struct Slots([u64; STACK_LIMIT / 64]);

impl Slots {
    /// All slots below `end`.
    fn below(end: i16) -> Self {
        let end = usize::try_from(end).unwrap_or(0);
        Self(core::array::from_fn(|limb| match end.saturating_sub(64 * limb) {
            bits @ 0..64 => (1 << bits) - 1,
            _ => u64::MAX,
        }))
    }

    fn contains(&self, slot: i16) -> bool {
        usize::try_from(slot).map_or(true, |slot| {
            self.0.get(slot / 64).is_some_and(|limb| limb >> (slot % 64) & 1 != 0)
        })
    }

    fn insert(&mut self, slot: i16) {
        if let Ok(slot) = usize::try_from(slot)
            && let Some(limb) = self.0.get_mut(slot / 64)
        {
            *limb |= 1 << (slot % 64);
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(limb, other)| limb & !other == 0)
    }
}

/// What an exit is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The precondition failed.
    Entry,
    /// In front of the instruction at this pc.
    Inst(Pc),
    /// The target of a jump or branch.
    Target,
    /// A computed jump that found no region.
    Dynamic,
    /// The terminator itself.
    End,
}

/// A region being checked.
struct Checker<'a> {
    module: &'a Module,
    spans: &'a mut [Span],
    region: &'a Region,
    index: usize,
    /// How far memory is known to reach.
    memory: u64,
    /// The slots from 0 on that hold a word.
    defined: Slots,
}

impl<'a> Checker<'a> {
    fn new(module: &'a Module, spans: &'a mut [Span], region: &'a Region, index: usize) -> Self {
        Self { module, spans, region, index, memory: 0, defined: Slots::default() }
    }

    fn header(&mut self, previous: Option<Pc>, insts_start: u64) -> Rule {
        let region = self.region;
        rule(previous.is_none_or(|previous| previous < region.pc), "regions lie by ascending pc")?;
        rule(region.pc.0 <= self.module.code_len, "the pc is in the code")?;
        let (need, grow) = (usize::from(region.need), usize::from(region.grow));
        rule(need + grow <= STACK_LIMIT, "the stack range fits the EVM stack")?;
        rule(self.is_height(region.height), "the height is within the stack range")?;
        let starts = u64::from(region.insts_start) == insts_start;
        rule(starts, "instructions lie in the order of the regions")?;
        let end = insts_start + u64::from(region.insts_len);
        rule(end <= self.module.insts.len() as u64, "instructions are in range")?;
        self.exit(region.entry_exit, Use::Entry)
    }

    /// Whether `height`, relative to the height at entry, is one the precondition covers.
    fn is_height(&self, height: i16) -> bool {
        let (need, grow) = (i32::from(self.region.need), i32::from(self.region.grow));
        (-need..=grow).contains(&i32::from(height))
    }

    fn is_slot(&self, slot: i16) -> bool {
        let (need, grow) = (i32::from(self.region.need), i32::from(self.region.grow));
        (-need..grow).contains(&i32::from(slot))
    }

    fn slot(&self, slot: Slot) -> Rule {
        rule(self.is_slot(slot.0), "a slot is within the stack range")
    }

    fn operand(&self, operand: Operand) -> Rule {
        match operand {
            Operand::Slot(slot) => {
                self.slot(slot)?;
                rule(self.defined.contains(slot.0), "a slot is written before it is read")
            }
            Operand::Const(id) => rule(self.constant(id).is_some(), "a constant is in the pool"),
        }
    }

    fn constant(&self, id: ConstId) -> Option<Word> {
        self.module.exits.pool.get(id.0 as usize).copied()
    }

    fn exit(&mut self, id: ExitId, used: Use) -> Rule {
        use ExitKind::{Interpret, Resume, Return, Revert};
        let exit = self.module.exits.exits.get(id.0 as usize).ok_or("an exit is in the table")?;
        rule(exit.gas_back <= self.region.gas, "no more gas is given back than was charged")?;
        rule(self.is_height(exit.height), "the height at an exit is within the stack range")?;
        let Span { lo, hi, used: again } = self.spans[id.0 as usize];
        self.spans[id.0 as usize].used = true;
        rule(!again || exit.fixups_len == 0, "an exit with fixups is used in one place")?;
        let fits = lo > hi || self.is_slot(lo) && self.is_slot(hi);
        rule(fits, "a slot of a fixup is within the stack range")?;
        let is_moved = matches!(used, Use::Target | Use::Dynamic);
        let moved = if is_moved { self.region.height } else { 0 };
        rule(
            exit.moved == moved,
            "an exit has moved by the height behind a terminator, else by 0",
        )?;
        let kind = match used {
            Use::Entry | Use::Inst(_) | Use::Dynamic => exit.kind == Interpret,
            Use::Target => matches!(exit.kind, Interpret | Resume),
            Use::End => true,
        };
        rule(kind, "the kind of an exit fits where it is used")?;
        self.words_at(exit)?;
        match (used, exit.kind) {
            (Use::Entry, _) => {
                let untouched = Exit { pc: self.region.pc, height: 0, gas_back: 0, ..*exit };
                rule(*exit == untouched && exit.fixups_len == 0, "the entry exit changes nothing")
            }
            (Use::Inst(pc), _) => rule(exit.pc == pc, "an exit stands in front of its instruction"),
            (Use::End, Return | Revert) => {
                let operands = exit.height.checked_sub(2);
                let present = operands.is_some_and(|height| self.is_height(height));
                rule(present, "RETURN and REVERT have two words on the stack")
            }
            _ => Ok(()),
        }
    }

    fn inst(&mut self, inst: &Inst) -> Rule {
        let (has_dst, args) = shape(inst.op)?;
        rule(inst.dst.is_some() == has_dst, "a destination where the operation writes one")?;
        let present = (0..3).all(|index| inst.args[index].is_some() == (index < args));
        rule(present, "operands as many as the operation has")?;
        inst.dst.map_or(Ok(()), |dst| self.slot(dst))?;
        inst.args.iter().flatten().try_for_each(|&arg| self.operand(arg))?;
        rule(self.is_imm(inst), "the immediate is in range")?;
        let pcs = self.region.pc..=Pc(self.module.code_len);
        rule(pcs.contains(&inst.pc), "the pc is in the region")?;
        let is_memory = matches!(inst.op, Op::Mload | Op::Mstore | Op::Mstore8);
        rule(is_memory || inst.checked, "only accesses to memory are unchecked")?;
        if is_memory || inst.op == Op::Calldataload {
            self.access(inst)?;
        }
        let leaves =
            is_memory && inst.checked || matches!(inst.op, Op::Guarded(_) | Op::Instruction(_));
        rule(inst.exit.is_some() == leaves, "an exit where the operation may leave")?;
        if let Some(exit) = inst.exit {
            self.exit(exit, Use::Inst(inst.pc))?;
            if let Op::Instruction(_) = inst.op {
                // Words are in their own slots, one more than at the exit if it pushed one and
                // popped none.
                let height = self.module.exits.exit(exit).height;
                self.defined = Slots::below(height.saturating_add(1));
            }
        }
        inst.dst.into_iter().for_each(|dst| self.defined.insert(dst.0));
        Ok(())
    }

    fn is_imm(&self, inst: &Inst) -> bool {
        match inst.op {
            Op::ShlImm | Op::ShrImm | Op::SarImm => (1..256).contains(&inst.imm),
            Op::ByteImm => inst.imm < 32,
            Op::SignextendImm => inst.imm < 31,
            Op::Gas => inst.imm <= self.region.gas,
            op => !has_imm(op) && inst.imm == 0,
        }
    }

    /// The offset of an access to memory or calldata.
    fn access(&mut self, inst: &Inst) -> Rule {
        let Some(Operand::Const(id)) = inst.args[0] else {
            return rule(inst.checked, "an access at an offset that is not constant is checked");
        };
        let offset = self.constant(id).and_then(|word| word.as_u64());
        let size = if inst.op == Op::Mstore8 { 1 } else { 32 };
        let end = offset.and_then(|offset| offset.checked_add(size));
        let end = end.filter(|&end| end <= 1 << 31).ok_or("a constant offset is below 2^31")?;
        if inst.op == Op::Calldataload {
            return Ok(());
        }
        rule(inst.checked || end <= self.memory, "an unchecked access lies within an earlier one")?;
        // Memory is a whole number of words.
        self.memory = self.memory.max(end.next_multiple_of(32));
        Ok(())
    }

    fn terminator(&mut self) -> Rule {
        match self.region.terminator {
            Terminator::Jump(target) => self.target(target),
            Terminator::Branch { a, b, taken, next, .. } => {
                self.operand(a)?;
                self.operand(b)?;
                self.target(taken)?;
                self.target(next)
            }
            Terminator::JumpDynamic { dest, exit } => {
                self.operand(Operand::Slot(dest))?;
                self.words_home()?;
                self.exit(exit, Use::Dynamic)
            }
            Terminator::Exit(exit) => self.exit(exit, Use::End),
        }
    }

    /// Whether each word that is read behind an exit was written, or is by a fixup.
    fn words_at(&self, exit: &Exit) -> Rule {
        let mut words = self.defined;
        for fixup in self.module.exits.fixups(exit) {
            if let Source::Slot(slot) = fixup.source {
                rule(self.defined.contains(slot.0), "a fixup reads a slot that was written")?;
            }
            words.insert(fixup.slot.0);
        }
        let all = match exit.kind {
            ExitKind::Stop => true,
            ExitKind::Return | ExitKind::Revert => {
                (1..=2).all(|depth| words.contains(exit.height.saturating_sub(depth)))
            }
            ExitKind::Interpret | ExitKind::Resume => Slots::below(exit.height).is_within(&words),
        };
        rule(all, "all words are written at an exit")
    }

    /// Whether all words are in their own slots, as far as can be seen.
    fn words_home(&self) -> Rule {
        let all = Slots::below(self.region.height).is_within(&self.defined);
        rule(all, "all words are written where a region ends")
    }

    /// What resumes at the target must find there what the target itself would.
    fn back_edge(&mut self, region: usize, id: ExitId) -> Rule {
        rule(region <= self.index, "a back-edge goes back")?;
        self.words_home()?;
        self.exit(id, Use::Target)?;
        let (exit, target) = (self.module.exits.exit(id), &self.module.regions[region]);
        let height = self.region.height;
        let same = Exit { pc: target.pc, kind: ExitKind::Resume, height, gas_back: 0, ..*exit };
        rule(*exit == same && exit.fixups_len == 0, "a poll's exit resumes at its target")
    }

    fn target(&mut self, target: Target) -> Rule {
        match target {
            Target::Region(index) => {
                let index = index as usize;
                rule(index < self.module.regions.len(), "a target is in the module")?;
                // Else there were loops without a safepoint.
                rule(index > self.index, "a jump back polls")?;
                self.words_home()
            }
            Target::Back { region, exit } => self.back_edge(region as usize, exit),
            Target::Exit(exit) => self.exit(exit, Use::Target),
        }
    }
}

/// Whether an operation writes a destination, and its operands.
pub(crate) fn shape(op: Op) -> Result<(bool, usize), &'static str> {
    let wrong = Err("the helper has the shape of the operation");
    Ok(match op {
        Op::Copy
        | Op::Not
        | Op::ShlImm
        | Op::ShrImm
        | Op::SarImm
        | Op::ByteImm
        | Op::SignextendImm
        | Op::Mload
        | Op::Calldataload => (true, 1),
        Op::Add | Op::Sub | Op::Mul | Op::And | Op::Or | Op::Xor | Op::Set(_) => (true, 2),
        Op::Mstore | Op::Mstore8 => (false, 2),
        Op::Address
        | Op::Caller
        | Op::CallValue
        | Op::Calldatasize
        | Op::Returndatasize
        | Op::Msize
        | Op::Gas => (true, 0),
        Op::Pure(helper) => match helper.shape() {
            HelperShape::Pure1 => (true, 1),
            HelperShape::Pure2 => (true, 2),
            HelperShape::Pure3 => (true, 3),
            HelperShape::Guarded3 | HelperShape::Instruction | HelperShape::Expand => return wrong,
        },
        Op::Guarded(helper) => match helper {
            Helper::Calldataload | Helper::Sload | Helper::Tload => (true, 1),
            Helper::Exp | Helper::Keccak256 => (true, 2),
            Helper::Tstore => (false, 2),
            Helper::Calldatacopy | Helper::Codecopy | Helper::Returndatacopy | Helper::Mcopy => {
                (false, 3)
            }
            _ => return wrong,
        },
        Op::Instruction(helper) => match helper.shape() {
            HelperShape::Instruction => (false, 0),
            _ => return wrong,
        },
    })
}

#[cfg(test)]
mod tests;
