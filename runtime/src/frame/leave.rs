//! Where compiled code leaves: what is done there, and how a frame ends.

use super::{Interp, Next, end};
use crate::{canonical::materialise, helpers::FrameRun, stats::Counters};
use kiln_abi::{Context, ExitKind, Leave, Outcome, Record, Slot, Word, Written};
use revm::{
    interpreter::{
        Host, InstructionResult, InterpreterAction,
        interpreter_types::{Jumps, LoopControl},
    },
    primitives::Bytes,
};
use std::panic::resume_unwind;

/// Does what is to be done where compiled code left.
///
/// # Safety
/// `leave` is how the program of this frame run just came back, with `cx` its context.
pub(super) unsafe fn finish<H: Host>(
    cx: &mut Context,
    run: &mut FrameRun<H>,
    leave: Leave,
    stats: &Counters,
) -> Next {
    // SAFETY: compiled code is not running.
    let interpreter = unsafe { &mut *run.interpreter };
    match cx.outcome {
        Outcome::Bail => {}
        Outcome::Canonical => {
            stats.exits_canonical.add(1);
            return Next::Enter;
        }
        Outcome::Ended => {
            stats.exits_ended.add(1);
            end(interpreter, run.halt);
            return Next::Done;
        }
        Outcome::Panicked => match run.panic.take() {
            Some(payload) => resume_unwind(payload),
            None => unreachable!("a panic without a payload"),
        },
    }
    // SAFETY: the caller's: compiled code left without a helper's doing, so it names a record of its own.
    let exit = unsafe { Record::read(leave.record) };
    stats.count_exit(exit.kind);
    let entry = leave.sp.wrapping_offset(-(exit.moved as isize));
    match exit.kind {
        ExitKind::Interpret | ExitKind::Resume => {
            // SAFETY: the caller's.
            unsafe { materialise(interpreter, &exit, entry) };
            interpreter.gas.set_remaining(cx.gas + exit.gas_back as u64);
            if exit.kind == ExitKind::Resume { Next::Enter } else { Next::Interpret }
        }
        ExitKind::Stop => {
            charge_last(cx, interpreter, &exit);
            end(interpreter, InstructionResult::Stop);
            Next::Done
        }
        ExitKind::Return | ExitKind::Revert => {
            // SAFETY: the caller's.
            let (offset, len) = unsafe { top_two(&exit, entry) };
            charge_last(cx, interpreter, &exit);
            // SAFETY: compiled code is not running.
            let host = unsafe { &mut *run.host };
            return_output(cx, interpreter, host, exit.kind, offset, len);
            Next::Done
        }
    }
}

/// The state behind the instruction that ends the frame. Nothing looks at the words that remain on
/// the stack of a frame that is over.
fn charge_last(cx: &Context, interpreter: &mut Interp, exit: &Record<'_>) {
    interpreter.gas.set_remaining(cx.gas + exit.rest as u64);
    if (exit.pc.0 as usize) < interpreter.bytecode.bytes_ref().len() {
        interpreter.bytecode.absolute_jump(exit.pc.0 as usize);
        interpreter.bytecode.relative_jump(1);
    }
}

/// The two words on top of the stack at an exit.
///
/// # Safety
/// As [`materialise`].
unsafe fn top_two(exit: &Record<'_>, entry: *mut Word) -> (Word, Word) {
    let word = |below: i16| {
        let slot = Slot(exit.height - below);
        let written = exit.fixups.clone().find(|&(written, _)| written == slot);
        match written.map_or(Written::Slot(slot), |(_, written)| written) {
            // SAFETY: the caller's.
            Written::Slot(slot) => unsafe { *entry.offset(slot.0 as isize) },
            Written::Const(packed) => packed.word(),
        }
    };
    (word(1), word(2))
}

/// What revm's `return_inner` does behind the pops.
fn return_output<H: Host>(
    cx: &Context,
    interpreter: &mut Interp,
    host: &mut H,
    kind: ExitKind,
    offset: Word,
    len: Word,
) {
    let result = match kind {
        ExitKind::Revert => InstructionResult::Revert,
        _ => InstructionResult::Return,
    };
    let output = match output(cx, interpreter, host, offset, len) {
        Ok(output) => output,
        Err(halt) => return end(interpreter, halt),
    };
    let gas = interpreter.gas;
    interpreter.bytecode.set_action(InterpreterAction::new_return(result, output, gas));
}

fn output<H: Host>(
    cx: &Context,
    interpreter: &mut Interp,
    host: &mut H,
    offset: Word,
    len: Word,
) -> Result<Bytes, InstructionResult> {
    let to_usize = |word: Word| {
        let value = word.as_u64().and_then(|value| usize::try_from(value).ok());
        value.ok_or(InstructionResult::InvalidOperandOOG)
    };
    let len = to_usize(len)?;
    if len == 0 {
        return Ok(Bytes::new());
    }
    let offset = to_usize(offset)?;
    let covered = cx.mem_byte_limit as usize;
    if len > covered || offset > covered - len {
        interpreter.resize_memory(host.gas_params(), offset, len)?;
    }
    Ok(interpreter.memory.slice_len(offset, len).to_vec().into())
}
