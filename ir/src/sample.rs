//! Modules for tests: one written by hand, and random ones that obey every rule.

use crate::module::{Cond, ConstId, Inst, Module, Op, Operand, Region, Target, Terminator};
use crate::verify::shape;
use fastrand::Rng;
use kiln_abi::{Exit, ExitId, ExitKind, Fixup, Helper, Pc, Slot, Source, Word};

/// A module with an example of most things.
pub(crate) const TEXT: &str = "\
code 100
const c0 = 0x0
const c1 = 0x20
const c2 = 0x20
const c3 = 0x80000000
const c4 = 0x10000000000000001
region r0 @0 jumpdest need 3 grow 3 height -1 gas 60 entry x0 instructions 9
  s0 = add s-1, 0x20 @1
  s1 = shl s0 #8 @3
  mstore 0x0, s0 else x1 @5
  s0 = mload 0x0 unchecked @8
  s2 = pure.addmod s-1, s-2, c2 @9
  guarded.calldatacopy s-1, s-2, s-3 else x2 @a
  run.sstore else x3 @b
  s1 = gas #30 @c
  if ult s0, 0x20 then r0 poll x9 else x4
region r1 @20 need 2 grow 0 height 0 gas 5 entry x5 instructions 1
  leave x6
region r2 @30 jumpdest need 1 grow 0 height -1 gas 8 entry x7 instructions 1
  jump s-1 else x8
exit x0 interpret @0 moved 0 height 0 gas_back 0 rest 0
exit x1 interpret @5 moved 0 height 2 gas_back 50 rest 47 { s0 = s-1, s1 = 0x10000000000000001 }
exit x2 interpret @a moved 0 height 0 gas_back 40 rest 37
exit x3 interpret @b moved 0 height 2 gas_back 37 rest 36 { s1 = c2 }
exit x4 resume @22 moved -1 height -1 gas_back 0 rest 0
exit x5 interpret @20 moved 0 height 0 gas_back 0 rest 0
exit x6 return @20 moved 0 height 0 gas_back 0 rest 0
exit x7 interpret @30 moved 0 height 0 gas_back 0 rest 0
exit x8 interpret @30 moved -1 height 0 gas_back 8 rest 0
exit x9 resume @0 moved -1 height -1 gas_back 0 rest 0
";

/// Every operation there is.
pub(crate) fn ops() -> Vec<Op> {
    let helpers = |make: fn(Helper) -> Op| Helper::ALL.iter().map(move |&helper| make(helper));
    crate::parse::PLAIN
        .into_iter()
        .chain(Cond::ALL.map(Op::Set))
        .chain(helpers(Op::Pure))
        .chain(helpers(Op::Guarded))
        .chain(helpers(Op::Instruction))
        .filter(|&op| shape(op).is_ok())
        .collect()
}

/// A random module that obeys every rule.
pub(crate) fn module(rng: &mut Rng) -> Module {
    let mut module = Module { code_len: 10_000, ..Module::default() };
    let sizes = [8, 16, 64, 256];
    module.exits.pool = (0..rng.usize(1..12))
        .map(|_| match sizes[rng.usize(..4)] {
            8 => Word::from_u64(rng.u64(..4) * 16),
            16 => Word::from_u64(rng.u64(..1 << 16)),
            64 => Word::from_u64(rng.u64(..)),
            _ => Word([rng.u64(..), rng.u64(..), 0, rng.u64(..)]),
        })
        .collect();
    let ops = ops();
    let regions = rng.u32(1..6);
    for index in 0..regions {
        let (need, grow) = (rng.u16(2..8), rng.u16(..8));
        let mut sample = Sample {
            rng: &mut *rng,
            module: &mut module,
            need: need as i16,
            grow: grow as i16,
            gas: 100,
            height: 0,
            defined: 0,
        };
        sample.height = sample.a_height();
        sample.region(Pc(index * 100), &ops, regions);
    }
    module
}

/// A region being made.
struct Sample<'a> {
    rng: &'a mut Rng,
    module: &'a mut Module,
    need: i16,
    grow: i16,
    gas: u32,
    height: i16,
    /// By slot from 0 on, whether it holds a word.
    defined: u32,
}

impl Sample<'_> {
    fn region(&mut self, pc: Pc, ops: &[Op], regions: u32) {
        let entry_exit = self.exit(pc, ExitKind::Interpret, 0, true);
        let insts_start = self.module.insts.len() as u32;
        let mut memory = 0;
        for _ in 0..self.rng.usize(..20) {
            let op = ops[self.rng.usize(..ops.len())];
            let pc = Pc(pc.0 + self.rng.u32(..50));
            self.inst(op, pc, &mut memory);
        }
        self.bring_home(pc);
        let insts_len = self.module.insts.len() as u32 - insts_start;
        let terminator = self.terminator(pc, regions);
        self.module.regions.push(Region {
            pc,
            is_jumpdest: self.rng.bool(),
            need: self.need as u16,
            grow: self.grow as u16,
            height: self.height,
            gas: self.gas,
            entry_exit,
            insts_start,
            insts_len,
            terminator,
            instructions: self.rng.u32(..30),
        });
    }

    fn a_height(&mut self) -> i16 {
        self.rng.i16(-self.need..=self.grow)
    }

    fn slot(&mut self) -> Slot {
        Slot(self.rng.i16(-self.need..self.grow))
    }

    fn is_defined(&self, slot: i16) -> bool {
        slot < 0 || self.defined >> slot & 1 != 0
    }

    fn define(&mut self, slot: Slot) {
        if slot.0 >= 0 {
            self.defined |= 1 << slot.0;
        }
    }

    /// A slot that holds a word.
    fn source(&mut self) -> Slot {
        let slot = self.slot();
        if self.is_defined(slot.0) { slot } else { Slot(-1) }
    }

    /// Writes all words that the region leaves on the stack.
    fn bring_home(&mut self, pc: Pc) {
        for slot in 0..self.height {
            if !self.is_defined(slot) {
                self.module.insts.push(Inst {
                    op: Op::Copy,
                    checked: true,
                    dst: Some(Slot(slot)),
                    args: [Some(Operand::Slot(Slot(-1))), None, None],
                    imm: 0,
                    exit: None,
                    pc,
                });
                self.define(Slot(slot));
            }
        }
    }

    fn constant(&mut self) -> u32 {
        self.rng.u32(..self.module.exits.pool.len() as u32)
    }

    fn operand(&mut self) -> Operand {
        if self.rng.bool() {
            Operand::Slot(self.source())
        } else {
            Operand::Const(ConstId(self.constant()))
        }
    }

    fn exit(&mut self, pc: Pc, kind: ExitKind, moved: i16, untouched: bool) -> ExitId {
        let returns = matches!(kind, ExitKind::Return | ExitKind::Revert);
        let height = match (untouched, returns) {
            (true, _) => 0,
            (false, true) => self.rng.i16(2 - self.need..=self.grow.max(2 - self.need)),
            (false, false) => self.a_height(),
        };
        let gas_back = if untouched { 0 } else { self.rng.u32(..=self.gas) };
        let rest = self.rng.u32(..=gas_back);
        let start = self.module.exits.fixups.len();
        for slot in -self.need..height.min(self.grow) {
            if !untouched && (self.rng.u8(..3) == 0 || !self.is_defined(slot)) {
                let source = match self.operand() {
                    Operand::Slot(slot) => Source::Slot(slot),
                    Operand::Const(id) => Source::Const(id.0),
                };
                self.module.exits.fixups.push(Fixup { slot: Slot(slot), source });
            }
        }
        let id = ExitId(self.module.exits.exits.len() as u32);
        self.module.exits.exits.push(Exit {
            pc,
            kind,
            moved,
            height,
            gas_back,
            rest,
            fixups_start: start as u32,
            fixups_len: (self.module.exits.fixups.len() - start) as u16,
        });
        id
    }

    /// The way out of a back-edge; regions lie 100 bytes apart.
    fn poll_exit(&mut self, region: u32) -> ExitId {
        let (id, height) = (ExitId(self.module.exits.exits.len() as u32), self.height);
        self.module.exits.exits.push(Exit {
            pc: Pc(region * 100),
            kind: ExitKind::Resume,
            moved: height,
            height,
            gas_back: 0,
            rest: 0,
            fixups_start: self.module.exits.fixups.len() as u32,
            fixups_len: 0,
        });
        id
    }

    fn inst(&mut self, op: Op, pc: Pc, memory: &mut u64) {
        let (has_dst, count) = shape(op).expect("only operations that have a shape");
        let mut args = [None; 3];
        args[..count].fill_with(|| Some(self.operand()));
        let is_memory = matches!(op, Op::Mload | Op::Mstore | Op::Mstore8);
        let mut checked = true;
        if is_memory || op == Op::Calldataload {
            let size = if op == Op::Mstore8 { 1 } else { 32 };
            let Some(unchecked) = self.access(args[0], size, is_memory, memory) else { return };
            checked = !unchecked;
        }
        let leaves = is_memory && checked || matches!(op, Op::Guarded(_) | Op::Instruction(_));
        let exit = leaves.then(|| self.exit(pc, ExitKind::Interpret, 0, false));
        let imm = match op {
            Op::ShlImm | Op::ShrImm | Op::SarImm => self.rng.u32(1..256),
            Op::ByteImm => self.rng.u32(..32),
            Op::SignextendImm => self.rng.u32(..31),
            Op::Gas => self.rng.u32(..=self.gas),
            _ => 0,
        };
        if let (Op::Instruction(_), Some(exit)) = (op, exit) {
            let height = self.module.exits.exit(exit).height;
            self.defined = (1_u32 << (height + 1).max(0)) - 1;
        }
        let dst = has_dst.then(|| self.slot());
        dst.into_iter().for_each(|dst| self.define(dst));
        self.module.insts.push(Inst { op, checked, dst, args, imm, exit, pc });
    }

    /// Whether to leave an access unchecked; none if its offset is not allowed.
    fn access(
        &mut self,
        offset: Option<Operand>,
        size: u64,
        is_memory: bool,
        memory: &mut u64,
    ) -> Option<bool> {
        let Some(Operand::Const(id)) = offset else { return Some(false) };
        let offset = self.module.constant(id).as_u64().filter(|&offset| offset < 1 << 30)?;
        if !is_memory {
            return Some(false);
        }
        let known = offset + size <= *memory;
        *memory = (*memory).max((offset + size).next_multiple_of(32));
        Some(known && self.rng.bool())
    }

    fn target(&mut self, pc: Pc, regions: u32) -> Target {
        if self.rng.bool() {
            let region = self.rng.u32(..regions);
            return match region > self.module.regions.len() as u32 {
                true => Target::Region(region),
                false => Target::Back { region, exit: self.poll_exit(region) },
            };
        }
        let kind = [ExitKind::Interpret, ExitKind::Resume][self.rng.usize(..2)];
        Target::Exit(self.exit(pc, kind, self.height, false))
    }

    fn terminator(&mut self, pc: Pc, regions: u32) -> Terminator {
        match self.rng.u8(..4) {
            0 => Terminator::Jump(self.target(pc, regions)),
            1 => Terminator::Branch {
                cond: Cond::ALL[self.rng.usize(..Cond::ALL.len())],
                a: self.operand(),
                b: self.operand(),
                taken: self.target(pc, regions),
                next: self.target(pc, regions),
            },
            2 => {
                let exit = self.exit(pc, ExitKind::Interpret, self.height, false);
                Terminator::JumpDynamic { dest: self.source(), exit }
            }
            _ => {
                use ExitKind::{Interpret, Return, Revert, Stop};
                let kind = [Interpret, Stop, Return, Revert][self.rng.usize(..4)];
                Terminator::Exit(self.exit(pc, kind, 0, false))
            }
        }
    }
}
