//! Instructions run on the canonical state, from within compiled code.

use super::{Interp, Scope};
use crate::canonical::{materialise, refresh_memory, stack_is_usable};
use kiln_abi::{CONTINUE, Context, ContinueOrLeave, ExitRecord, Outcome, Record, Word};
use revm::{
    bytecode::opcode::OPCODE_INFO,
    interpreter::{
        Host, InstructionContext, InstructionExecResult, InstructionTable,
        interpreter::EthInterpreter,
        interpreter_types::{Jumps, LoopControl},
    },
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Any instruction, through the instruction table of the EVM.
///
/// # Safety
/// As [`kiln_abi::InstructionFn`].
pub(super) unsafe extern "C" fn instruction<H: Host>(
    cx: *mut Context,
    exit: ExitRecord,
    sp: *mut Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        run::<H>(cx, exit, sp, |opcode, table, interpreter, host| {
            table[opcode as usize].execute(InstructionContext { interpreter, host })
        })
    }
}

/// What compiled code relies on behind an instruction.
struct Predicted {
    pc: usize,
    height: usize,
}

/// Makes the state in front of the instruction at `exit` canonical, runs `body` for it, and says
/// whether compiled code can go on behind it.
///
/// # Safety
/// As [`kiln_abi::InstructionFn`].
#[inline(always)]
pub(super) unsafe fn run<H: Host>(
    cx: *mut Context,
    exit: ExitRecord,
    sp: *mut Word,
    body: impl FnOnce(
        u8,
        &InstructionTable<EthInterpreter, H>,
        &mut Interp,
        &mut H,
    ) -> InstructionExecResult,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    let mut scope = unsafe { Scope::<H>::new(cx) };
    // SAFETY: the caller's: it is the record of an exit of the running program.
    let exit = unsafe { Record::read(exit) };
    // SAFETY: compiled code gives the pointer it has at this exit, which `moved` relates to the one
    // at the entry of its block.
    unsafe {
        let entry = sp.offset(-(exit.moved as isize));
        materialise(scope.interpreter, &exit, entry);
    }
    let rest = exit.rest as u64;
    // The instruction sees the gas without the static gas of later ones.
    scope.interpreter.gas.set_remaining(scope.cx.gas + rest);
    let opcode = scope.interpreter.bytecode.opcode();
    scope.interpreter.bytecode.relative_jump(1);
    let predicted = scope.predict(opcode, exit.pc.0 as usize);
    // SAFETY: the table outlives the frame run.
    let table = unsafe { &*scope.run.table };
    let answer = catch_unwind(AssertUnwindSafe(|| {
        body(opcode, table, &mut *scope.interpreter, &mut *scope.host)
    }));
    match answer {
        Ok(Ok(())) => scope.go_on(&predicted, rest),
        Ok(Err(halt)) => scope.end(halt),
        Err(payload) => scope.panicked(payload),
    }
}

impl<H: Host> Scope<'_, H> {
    fn predict(&self, opcode: u8, pc: usize) -> Predicted {
        let len = self.interpreter.stack.len();
        let height = match OPCODE_INFO[opcode as usize] {
            Some(info) => len.saturating_add_signed(info.io_diff() as isize),
            None => len,
        };
        Predicted { pc: pc + 1, height }
    }

    /// Goes on in compiled code if the instruction did what it was expected to do; else the state
    /// is canonical and the frame goes on in the interpreter.
    #[inline]
    fn go_on(&mut self, predicted: &Predicted, rest: u64) -> ContinueOrLeave {
        let interpreter = &mut *self.interpreter;
        let as_predicted = interpreter.bytecode.pc() == predicted.pc
            && interpreter.stack.len() == predicted.height
            && interpreter.stack.data_mut().as_mut_ptr().cast() == self.cx.stack_base
            && stack_is_usable(interpreter)
            && interpreter.bytecode.action().is_none();
        match interpreter.gas.remaining().checked_sub(rest) {
            Some(gas) if as_predicted => {
                self.cx.gas = gas;
                refresh_memory(self.cx, interpreter);
                self.cx.returndata_len = interpreter.return_data.0.len() as u64;
                CONTINUE
            }
            _ => self.leave(Outcome::Canonical),
        }
    }
}
