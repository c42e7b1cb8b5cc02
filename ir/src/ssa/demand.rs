//! Which limbs of each value somebody reads.
//!
//! **Owns** the backward analysis. Compilers remove arithmetic that nobody needs, but parameters of blocks
//! not at all, and loads and carry chains only as a whole. **Callers guarantee** a function whose
//! blocks are in reverse post-order. **Never** looks at values, only at who reads them; the work is a few
//! passes over the function.

use super::function::{Function, Inst, Op as SsaOp, Target, Terminator, Value};
use crate::module::Op;
use kiln_abi::Helper;

/// A set of limbs: bit `k` is limb `k`.
pub type LimbSet = u8;
/// All limbs.
pub const ALL: LimbSet = 0b1111;
/// Passes after which everything that a loop carries is taken as read: a bound on the work.
const PASSES_MAX: usize = 6;

/// The lowest `limbs` limbs.
pub const fn low(limbs: usize) -> LimbSet {
    if limbs >= 4 { ALL } else { (1 << limbs) - 1 }
}

/// Limbs up to the highest of a set.
pub const fn len(set: LimbSet) -> usize {
    (u8::BITS - set.leading_zeros()) as usize
}

/// The limbs of each value that are read, of those that can be other than zero.
pub fn analyse(function: &Function) -> Vec<LimbSet> {
    let mut demand = Demand { function, read: vec![0; function.values.len()], changed: false };
    for _ in 0..PASSES_MAX {
        demand.changed = false;
        demand.pass();
        if !demand.changed {
            return demand.read;
        }
    }
    let known = (0..).map(|value| low(function.limbs(Value(value))));
    known.take(function.values.len()).collect()
}

struct Demand<'a> {
    function: &'a Function,
    read: Vec<LimbSet>,
    changed: bool,
}

impl Demand<'_> {
    /// Uses before definitions, as far as there are no loops.
    fn pass(&mut self) {
        for block in self.function.blocks.iter().rev() {
            self.terminator(&block.terminator);
            block.insts.iter().rev().for_each(|inst| self.inst(inst));
            block.gas_exit.iter().for_each(|&exit| self.exit(exit));
        }
    }

    fn read(&mut self, value: Value, limbs: LimbSet) {
        let Some(read) = self.read.get_mut(value.0 as usize) else { return };
        let with = *read | limbs & low(self.function.limbs(value));
        self.changed |= with != *read;
        *read = with;
    }

    fn exit(&mut self, exit: kiln_abi::ExitId) {
        if (exit.0 as usize) < self.function.stores_end.len() {
            let function = self.function;
            function.stores(exit).iter().for_each(|store| self.read(store.value, ALL));
        }
    }

    fn terminator(&mut self, terminator: &Terminator) {
        if let Terminator::Branch { a, b, .. } = terminator {
            self.read(*a, ALL);
            self.read(*b, ALL);
        }
        terminator.targets().for_each(|target| self.target(target));
    }

    fn target(&mut self, target: &Target) {
        target.exit().into_iter().for_each(|exit| self.exit(exit));
        let Some((block, args)) = target.block() else { return };
        let Some(block) = self.function.blocks.get(block.0 as usize) else { return };
        for (param, &arg) in block.params.iter().zip(args) {
            let limbs = self.read.get(param.0 as usize).copied().unwrap_or(ALL);
            self.read(arg, limbs);
        }
    }

    fn inst(&mut self, inst: &Inst) {
        inst.exit.into_iter().for_each(|exit| self.exit(exit));
        let result = inst.dst.and_then(|dst| self.read.get(dst.0 as usize).copied()).unwrap_or(0);
        for (index, arg) in inst.args.iter().enumerate() {
            if let Some(arg) = *arg {
                self.read(arg, operand(inst, index, result));
            }
        }
    }
}

/// The limbs of an operand that are read for these limbs of the result.
fn operand(inst: &Inst, index: usize, result: LimbSet) -> LimbSet {
    let imm = inst.imm as usize;
    let op = match inst.op {
        SsaOp::Narrow => return result,
        SsaOp::Slot(_) | SsaOp::Run(_) => return ALL,
        SsaOp::Word(op) => op,
    };
    match op {
        Op::And | Op::Or | Op::Xor | Op::Not => result,
        Op::Add | Op::Sub | Op::Mul | Op::ShlImm | Op::Pure(Helper::Mul) => low(len(result)),
        Op::ShrImm => {
            let moved = (u32::from(result) << (imm / 64)) as LimbSet;
            (moved | if imm.is_multiple_of(64) { 0 } else { moved << 1 }) & ALL
        }
        Op::ByteImm if result != 0 => 1 << (31usize.saturating_sub(imm) / 8),
        Op::ByteImm => 0,
        Op::SignextendImm => {
            result & low(imm / 8) | if result >> (imm / 8) != 0 { 1 << (imm / 8).min(3) } else { 0 }
        }
        Op::Mstore8 if index == 1 => 1,
        _ => ALL,
    }
}
