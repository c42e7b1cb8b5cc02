//! The evaluator: what a module means, one instruction at a time.
//!
//! **Owns** the order of things: precondition, operands before destinations, the fast path of a
//! memory access before its expansion, the stack pointer at terminators. Compiled code must do the
//! same; tests compare the two.
//!
//! **Callers guarantee** that the module passed [`crate::verify`], and a [`Machine`] whose stack
//! pointer stands where the region begins. The work is bounded by the gas the machine holds as far
//! as every cycle of regions charges some, as it is for compiled code.
//!
//! **Never** makes a state canonical: like compiled code it returns the exit, and the host applies
//! its fixups.

use crate::fold;
use crate::module::{Inst, Module, Op, Operand, Region, Target, Terminator};
use core::ops::ControlFlow::{self, Break, Continue};
use kiln_abi::{ExitId, Helper, STACK_LIMIT, Slot, Word};

/// A word that is read from the frame's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Environment {
    /// The frame's address, zero-extended.
    Address,
    /// The caller's address, zero-extended.
    Caller,
    /// The value of the call.
    CallValue,
    /// Bytes of calldata.
    Calldatasize,
    /// Bytes of return data.
    Returndatasize,
    /// Bytes of memory.
    Msize,
}

/// What a module runs on. Slots are relative to the stack pointer, which stands one past the top word
/// at the entry of the running region until a terminator moves it.
pub trait Machine {
    /// The word in a slot.
    fn word(&self, slot: Slot) -> Word;
    /// Writes a slot.
    fn set_word(&mut self, slot: Slot, value: Word);
    /// Words on the stack below the stack pointer.
    fn height(&self) -> usize;
    /// Moves the stack pointer: at a terminator, whether it goes on in another region or leaves.
    fn move_sp(&mut self, words: i16);

    /// Takes one off the countdown of polls; false if it was 0, then a back-edge is not taken.
    fn poll(&mut self) -> bool;

    /// Gas left, after all static gas charged so far.
    fn gas(&self) -> u64;
    /// Sets the gas left.
    fn set_gas(&mut self, gas: u64);

    /// Whether the fast path may access `size` (1 or 32) bytes of memory at `offset`.
    fn memory_covers(&self, offset: u64, size: u64) -> bool;
    /// The EVM word at an offset that is covered.
    fn load_word(&self, offset: u64) -> Word;
    /// Writes the EVM word at an offset that is covered.
    fn store_word(&mut self, offset: u64, value: Word);
    /// Writes the byte at an offset that is covered.
    fn store_byte(&mut self, offset: u64, value: u8);
    /// Expands memory so that `size` bytes at `offset` are covered, and pays for it; or refuses, before
    /// it did anything: false, then the region is left through `exit`.
    fn expand(&mut self, exit: ExitId, offset: Word, size: u64) -> bool;

    /// The word of calldata at any offset; zeros behind its end.
    fn calldata_word(&mut self, offset: Word) -> Word;
    /// A word of the environment.
    fn environment(&self, what: Environment) -> Word;

    /// Acts for a helper of shape `Guarded3` and writes `dst` where it has one; or refuses before it did
    /// anything: false, then the region is left through `exit`. Operands from the top of the stack
    /// downwards.
    fn guarded(
        &mut self,
        helper: Helper,
        exit: ExitId,
        dst: Option<Slot>,
        args: [Option<Word>; 3],
    ) -> bool;
    /// Acts for a helper of shape `Instruction`: makes the state at `exit` canonical, runs the
    /// instruction there, and leaves all words of the stack in their own slots. False: the region is
    /// left through `exit`, of which the host then knows more (see [`kiln_abi::Outcome`]).
    fn instruction(&mut self, helper: Helper, exit: ExitId) -> bool;

    /// The region (of the running module) whose leader is the JUMPDEST at `destination`.
    fn entry(&self, destination: Word) -> Option<usize>;
}

/// Runs a module from the given region until it leaves; the stack pointer is then [`Exit::moved`]
/// words above the one at the entry of the region left.
///
/// # Panics
/// If the module breaks a rule of [`crate::verify`], or the region is not one of the module.
///
/// [`Exit::moved`]: kiln_abi::Exit::moved
pub fn run(module: &Module, region: usize, machine: &mut impl Machine) -> ExitId {
    match run_until(module, region, machine, |_| false) {
        Ok(exit) => exit,
        Err(_) => unreachable!("it stops at no region"),
    }
}

/// As [`run`], but stops in front of regions that something else runs. Then that region is the answer, and the
/// stack pointer stands at its entry.
///
/// # Errors
/// The region in front of which it stopped.
///
/// # Panics
/// As [`run`].
pub fn run_until(
    module: &Module,
    region: usize,
    machine: &mut impl Machine,
    stops: impl Fn(usize) -> bool,
) -> Result<ExitId, usize> {
    let mut running = region;
    loop {
        if stops(running) {
            return Err(running);
        }
        match run_region(module, &module.regions[running], machine) {
            Target::Region(next) => running = next as usize,
            Target::Back { region, .. } if machine.poll() => running = region as usize,
            Target::Back { exit, .. } => return Ok(exit),
            Target::Exit(exit) => return Ok(exit),
        }
    }
}

fn run_region(module: &Module, region: &Region, machine: &mut impl Machine) -> Target {
    if !charge(region, machine) {
        return Target::Exit(region.entry_exit);
    }
    for inst in module.insts(region) {
        if let Break(exit) = (Step { module, inst, machine }).run() {
            return Target::Exit(exit);
        }
    }
    terminate(module, region, machine)
}

/// The precondition: stack range, then static gas. Changes nothing where it fails.
fn charge(region: &Region, machine: &mut impl Machine) -> bool {
    let height = machine.height();
    let fits = height >= usize::from(region.need)
        && height.saturating_add(usize::from(region.grow)) <= STACK_LIMIT;
    match machine.gas().checked_sub(u64::from(region.gas)) {
        Some(left) if fits => {
            machine.set_gas(left);
            true
        }
        _ => false,
    }
}

fn value(module: &Module, machine: &impl Machine, operand: Operand) -> Word {
    match operand {
        Operand::Slot(slot) => machine.word(slot),
        Operand::Const(id) => module.constant(id),
    }
}

fn terminate(module: &Module, region: &Region, machine: &mut impl Machine) -> Target {
    let target = match region.terminator {
        Terminator::Jump(target) => target,
        Terminator::Branch { cond, a, b, taken, next } => {
            let (a, b) = (value(module, machine, a), value(module, machine, b));
            if fold::compare(cond, &a, &b) { taken } else { next }
        }
        Terminator::JumpDynamic { dest, exit } => {
            let entry = machine.entry(machine.word(dest));
            entry.map_or(Target::Exit(exit), |region| Target::Region(region as u32))
        }
        Terminator::Exit(exit) => return Target::Exit(exit),
    };
    machine.move_sp(region.height);
    target
}

/// One instruction being run.
struct Step<'a, M> {
    module: &'a Module,
    inst: &'a Inst,
    machine: &'a mut M,
}

impl<M: Machine> Step<'_, M> {
    fn run(mut self) -> ControlFlow<ExitId> {
        use Environment as E;
        let result = match self.inst.op {
            Op::Mload => {
                let offset = self.covered(32)?;
                self.machine.load_word(offset)
            }
            Op::Mstore => {
                let offset = self.covered(32)?;
                self.machine.store_word(offset, self.arg(1));
                return Continue(());
            }
            Op::Mstore8 => {
                let offset = self.covered(1)?;
                self.machine.store_byte(offset, self.arg(1).0[0] as u8);
                return Continue(());
            }
            Op::Calldataload => {
                let offset = self.arg(0);
                self.machine.calldata_word(offset)
            }
            Op::Address => self.machine.environment(E::Address),
            Op::Caller => self.machine.environment(E::Caller),
            Op::CallValue => self.machine.environment(E::CallValue),
            Op::Calldatasize => self.machine.environment(E::Calldatasize),
            Op::Returndatasize => self.machine.environment(E::Returndatasize),
            Op::Msize => self.machine.environment(E::Msize),
            Op::Gas => Word::from_u64(self.machine.gas().wrapping_add(u64::from(self.inst.imm))),
            Op::Pure(helper) => {
                fold::pure(helper, self.arg(0), self.arg_or_zero(1), self.arg_or_zero(2))
            }
            Op::Guarded(helper) => {
                let args = self.inst.args.map(|arg| arg.map(|arg| self.value(arg)));
                let exit = self.exit();
                return leave_unless(self.machine.guarded(helper, exit, self.inst.dst, args), exit);
            }
            Op::Instruction(helper) => {
                let exit = self.exit();
                return leave_unless(self.machine.instruction(helper, exit), exit);
            }
            op => fold::binary(op, self.arg(0), self.arg_or_zero(1), self.inst.imm)
                .unwrap_or_else(|| self.broken("is not evaluated")),
        };
        let dst = self.inst.dst.unwrap_or_else(|| self.broken("has no destination"));
        self.machine.set_word(dst, result);
        Continue(())
    }

    /// The memory offset of the instruction, once `size` bytes there are covered.
    fn covered(&mut self, size: u64) -> ControlFlow<ExitId, u64> {
        let offset = self.arg(0);
        let covers = |machine: &M| offset.as_u64().filter(|&at| machine.memory_covers(at, size));
        if let Some(at) = covers(self.machine) {
            return Continue(at);
        }
        if !self.inst.checked {
            self.broken("reaches outside of memory unchecked");
        }
        let exit = self.exit();
        leave_unless(self.machine.expand(exit, offset, size), exit)?;
        Continue(covers(self.machine).unwrap_or_else(|| self.broken("was expanded in vain")))
    }

    fn value(&self, operand: Operand) -> Word {
        value(self.module, self.machine, operand)
    }

    fn arg(&self, index: usize) -> Word {
        match self.inst.args[index] {
            Some(operand) => self.value(operand),
            None => self.broken("lacks an operand"),
        }
    }

    fn arg_or_zero(&self, index: usize) -> Word {
        self.inst.args[index].map_or(Word::ZERO, |operand| self.value(operand))
    }

    fn exit(&self) -> ExitId {
        self.inst.exit.unwrap_or_else(|| self.broken("has no exit"))
    }

    fn broken(&self, rule: &str) -> ! {
        panic!("eval: {:?} at {} {rule}", self.inst.op, self.inst.pc)
    }
}

fn leave_unless(go_on: bool, exit: ExitId) -> ControlFlow<ExitId> {
    if go_on { Continue(()) } else { Break(exit) }
}

#[cfg(test)]
mod tests;
