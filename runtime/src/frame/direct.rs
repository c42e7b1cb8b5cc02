//! Compiled code and nothing around it: what the cost of a hit is measured against.

use super::{FrameRun, Interp, Ordinary, Safepoints, Tables, context, enter};
use crate::{keccak::Memo, program::Program};
use kiln_abi::{EnterFn, ExitKind, Outcome, Record};
use revm::interpreter::{Host, InstructionResult, interpreter_types::Jumps};
use std::hint::black_box;

/// Enters a program `rounds` times where the frame stands, with a context that is made once. Nothing
/// is done where it leaves. Answers whether it could be entered, and left by STOP.
pub(crate) fn enter_often<H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    program: &Program,
    trampoline: Option<EnterFn>,
    memo: &mut Memo,
    rounds: u32,
) -> bool {
    let Some(entry) = program.entry(interpreter.bytecode.pc()) else { return false };
    let interpreter: *mut Interp = interpreter;
    let mut run = FrameRun {
        interpreter,
        host,
        table: tables.instructions,
        halt: InstructionResult::Stop,
        memo,
        panic: None,
    };
    // SAFETY: derived from the exclusive reference above, which is not used any more.
    let mut cx = context(unsafe { &mut *interpreter }, program, Ordinary::helpers::<H>());
    let run: *mut FrameRun<H> = &raw mut run;
    cx.runtime = run.cast();
    // SAFETY: the entry is the program's, the context complete but for what `enter` fills in.
    let first = unsafe { enter::<H, Ordinary>(&raw mut cx, run, program, trampoline, entry) };
    // SAFETY: that outcome says that it left with a record of its own.
    if cx.outcome != Outcome::Bail || unsafe { Record::read(first.record) }.kind != ExitKind::Stop {
        return false;
    }
    let gas = cx.gas;
    // SAFETY: compiled code is not running.
    let sp = unsafe { cx.stack_base.add((*interpreter).stack.len()) };
    for _ in 0..rounds {
        cx.gas = gas;
        // SAFETY: as the first time; the program changed nothing but the gas.
        black_box(unsafe { program.enter(black_box(&raw mut cx), sp, entry, trampoline) });
    }
    true
}
