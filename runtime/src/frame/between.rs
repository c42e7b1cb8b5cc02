//! The stretches of a frame run that are interpreted: between compiled blocks, without a program, in a
//! code that nobody knows, while recording.

use super::{Held, Leg, Safepoints, Tables, Turn, end};
use crate::{
    engine::{BakedId, Engine},
    heat::{self, CodeTag, HotFrom},
    helpers::Interp,
    interpret::{Code, Counting, Stopped, Watching, interpret},
    keccak::Memo,
    slot::Seen,
    stats::Counters,
};
use kiln_abi::RawEntries;
use revm::{
    bytecode::opcode::JUMPDEST,
    interpreter::{Host, interpreter::ExtBytecode, interpreter_types::Jumps},
    primitives::B256,
};

/// A stretch of a frame run that is interpreted.
pub(crate) struct Between<'a> {
    /// Where compiled code begins; none without a program.
    pub(super) entries: Option<RawEntries<'a>>,
    /// Whether the first instruction begins a block.
    pub(super) leads: bool,
    /// Whether compiled code is entered also within what is a block for the interpreter:
    /// [`Safepoints::ANY_ENTRY`].
    pub(super) any: bool,
    pub(super) published: u32,
    pub(super) memo: &'a mut Memo,
}

impl Between<'_> {
    /// Interprets one instruction, and on if no compiled code begins behind it. Nothing if there is
    /// a newer program.
    pub(super) fn run<H: Host>(
        self,
        interpreter: &mut Interp,
        host: &mut H,
        tables: Tables<'_, H>,
        held: &Held<'_>,
    ) -> Stopped {
        held.dump.interpret(interpreter);
        let stopped = self.interpret(interpreter, host, tables, held);
        if !matches!(stopped, Stopped::Frame(_)) {
            held.dump.stopped(interpreter);
        }
        stopped
    }

    #[inline(always)]
    fn interpret<H: Host>(
        self,
        interpreter: &mut Interp,
        host: &mut H,
        tables: Tables<'_, H>,
        held: &Held<'_>,
    ) -> Stopped {
        let Self { entries, leads, any, published, memo } = self;
        let counting = held.hot_from.map(|hot_from| {
            heat::set_hot_from(hot_from);
            let code = Code::Known { slot: held.slot, published };
            Counting { engine: held.engine, code, tag: held.tag }
        });
        let is_hot = |bytecode: &ExtBytecode| {
            let counting = counting.as_ref();
            counting.is_some_and(|counting| counting.block(bytecode, bytecode.pc()))
        };
        if leads && is_hot(&interpreter.bytecode) {
            return Stopped::Newer;
        }
        let opcode = interpreter.bytecode.opcode();
        held.stats.interpreted_instructions.add(1);
        if let Err(halt) = interpreter.step(tables.instructions, tables.gas, host) {
            return Stopped::Frame(halt);
        }
        let next = interpreter.bytecode.pc();
        if entries.is_some_and(|entries| entries.get(next).is_some()) {
            return Stopped::Entry;
        }
        // An instruction that compiled code leaves to the interpreter may end its block.
        let ends_block = held.slot.baked.ends_block[opcode as usize];
        if !leads && ends_block && is_hot(&interpreter.bytecode) {
            return Stopped::Newer;
        }
        let replaced = !held.slot.baked.config.replaced.is_empty();
        let mut watching = Watching { entries, memo, counting, replaced: replaced || any, any };
        let tables = (tables.instructions, tables.gas);
        let (stopped, steps) = interpret(interpreter, host, tables, &mut watching);
        held.stats.interpreted_instructions.add(steps);
        stopped
    }
}

/// Runs a frame without a program.
pub(super) fn without<H: Host, S: Safepoints>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    held: &Held<'_>,
    (published, memo): (u32, *mut Memo),
    safepoints: &mut S,
) -> Leg {
    if safepoints.resumes() {
        return dropped(interpreter, host, tables, held, safepoints);
    }
    // SAFETY: made from the frame run's exclusive reference; no compiled code runs that shares it.
    let memo = unsafe { &mut *memo };
    // A frame begins, or goes on behind a call.
    match (Between { entries: None, leads: true, any: false, published, memo }).run(
        interpreter,
        host,
        tables,
        held,
    ) {
        Stopped::Frame(halt) => {
            end(interpreter, halt);
            Ok(())
        }
        Stopped::Entry | Stopped::Newer => Err(Turn::Newer),
    }
}

/// A frame of a code that nobody knows anything about.
pub(crate) struct Cold<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) hash: B256,
    pub(crate) baked: BakedId,
    pub(crate) hot_from: HotFrom,
    /// Whether the instruction table is not revm's own throughout.
    pub(crate) replaced: bool,
    pub(crate) memo: &'a mut Memo,
    pub(crate) stats: &'a Counters,
}

/// Runs a cold frame, as [`run`] does. False if its code has a program by now.
pub(crate) fn run_cold<H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    cold: Cold<'_>,
) -> bool {
    let Cold { engine, hash, baked, hot_from, replaced, memo, stats } = cold;
    heat::set_hot_from(hot_from);
    let counting =
        Counting { engine, code: Code::Unknown { hash, baked }, tag: CodeTag::new(hash) };
    let bytecode = &interpreter.bytecode;
    if counting.block(bytecode, bytecode.pc()) {
        return false;
    }
    let counting = Some(counting);
    let mut watching = Watching { entries: None, memo, counting, replaced, any: false };
    let tables = (tables.instructions, tables.gas);
    let (stopped, steps) = interpret(interpreter, host, tables, &mut watching);
    stats.interpreted_instructions.add(steps);
    match stopped {
        Stopped::Frame(halt) => {
            end(interpreter, halt);
            true
        }
        Stopped::Entry | Stopped::Newer => false,
    }
}

/// Goes on where a program was dropped, because that was forced.
#[cold]
fn dropped<H: Host, S: Safepoints>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    held: &Held<'_>,
    safepoints: &mut S,
) -> Leg {
    held.dump.interpret(interpreter);
    // The program was dropped in front of an entry.
    let mut leads = true;
    loop {
        if let Some(seen) = held.slot.seen() {
            leads = seen.step(interpreter.bytecode.pc(), interpreter.bytecode.opcode(), leads);
        }
        held.stats.interpreted_instructions.add(1);
        if let Err(halt) = interpreter.step(tables.instructions, tables.gas, host) {
            end(interpreter, halt);
            return Ok(());
        }
        if let Some(program) = safepoints.resume(held.slot, interpreter.bytecode.opcode()) {
            held.dump.stopped(interpreter);
            return Err(Turn::Into(program));
        }
    }
}

/// Interprets a frame and counts its blocks, until it is over, then true, or the code was profiled enough.
#[cold]
#[inline(never)]
pub(super) fn profile<H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    held: &Held<'_>,
) -> bool {
    held.dump.interpret(interpreter);
    let seen = held.slot.recorded();
    // The program was left at a safepoint.
    let mut leads = true;
    loop {
        let (pc, opcode) = (interpreter.bytecode.pc(), interpreter.bytecode.opcode());
        if (leads || opcode == JUMPDEST) && held.engine.profiled_block(held.slot) {
            held.dump.stopped(interpreter);
            return false;
        }
        leads = seen.step(pc, opcode, leads);
        held.stats.recorded_instructions.add(1);
        if let Err(halt) = interpreter.step(tables.instructions, tables.gas, host) {
            end(interpreter, halt);
            return true;
        }
    }
}

/// Runs a frame in the interpreter and marks the blocks it comes through.
pub(crate) fn record<H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    seen: &Seen,
    stats: &Counters,
) {
    // A frame begins, or goes on behind a call.
    let mut leads = true;
    loop {
        leads = seen.step(interpreter.bytecode.pc(), interpreter.bytecode.opcode(), leads);
        stats.recorded_instructions.add(1);
        if let Err(halt) = interpreter.step(tables.instructions, tables.gas, host) {
            end(interpreter, halt);
            return;
        }
    }
}
