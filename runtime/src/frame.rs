//! The frame loop: one run of a frame, in compiled code where there is some and in revm's
//! interpreter elsewhere.
//!
//! **Owns** the [`Context`] of a frame run, and what happens at each exit.
//!
//! **Callers guarantee** that the program was compiled for the frame's bytecode, fork, gas table and
//! instruction table.
//!
//! A frame run is a sequence of *legs*, each in one program: at a *safepoint*, in front of an entry
//! into compiled code, the state is canonical and the program can be exchanged.
//!
//! **Never** differs from [`Interp::run_plain`] in its result. Keeps nothing from one frame run to
//! the next: a suspended frame is an ordinary revm frame.

mod between;
mod direct;
mod every_exit;
mod leave;

use between::profile;
pub(crate) use between::{Cold, record, run_cold};
pub(crate) use direct::enter_often;
pub(crate) use every_exit::EveryExit;

use crate::{
    canonical::{refresh, stack_is_usable},
    dump::Dump,
    engine::Engine,
    heat::{CodeTag, HotFrom},
    helpers::{FrameRun, Helpers, Interp},
    interpret::Stopped,
    keccak::Memo,
    program::Program,
    slot::{Pinned, Slot, USES_SAMPLED},
    stats::Counters,
};
use between::{Between, without};
use kiln_abi::{Context, EnterFn, HelperTable, Leave, Outcome, POLL_BACK_EDGES, SWAP_BYTES, Word};
use leave::finish;
use revm::{
    interpreter::{
        GasTable, Host, InstructionResult, InstructionTable,
        interpreter::EthInterpreter,
        interpreter_types::{Jumps, LoopControl},
    },
    primitives::hints_util::cold_path,
};
use std::sync::Arc;

/// What [`POLL_BACK_EDGES`] back-edges count as, in frames: a round of a short loop takes some 20 ns, a frame
/// a microsecond.
const POLL_FRAMES: u32 = POLL_BACK_EDGES / 50;

/// The EVM's tables.
pub(crate) struct Tables<'a, H> {
    pub(crate) instructions: &'a InstructionTable<EthInterpreter, H>,
    pub(crate) gas: &'a GasTable,
}

impl<H> Clone for Tables<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Tables<'_, H> {}

/// What a frame run uses of the engine and of its EVM.
pub(crate) struct Held<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) slot: &'a Arc<Slot>,
    pub(crate) tag: CodeTag,
    pub(crate) trampoline: Option<EnterFn>,
    pub(crate) memo: &'a mut Memo,
    /// Executions from which a block is hot; none if nobody counts.
    pub(crate) hot_from: Option<HotFrom>,
    pub(crate) stats: &'a Counters,
    pub(crate) dump: Dump<'a>,
}

/// What happens at a safepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Compiled code is entered.
    Enter,
    /// The block is interpreted.
    Interpret,
    /// The leg ends, and another program is asked for.
    Exchange,
    /// The leg ends, and the frame is interpreted and its blocks are counted for a while.
    Profile,
}

/// Decides what happens at safepoints.
pub(crate) trait Safepoints {
    /// Back-edges between entry and exit of compiled code, at most.
    const POLL: u32 = POLL_BACK_EDGES;
    /// Whether what is interpreted goes on in compiled code at any entry, not only at those that jumps lead to.
    const ANY_ENTRY: bool = false;

    /// What compiled code calls.
    fn helpers<H: Host>() -> &'static HelperTable {
        Helpers::<H>::table()
    }

    /// What happens at this one.
    fn order(&mut self, program: &Program) -> Order;

    /// The next leg's program, after [`Order::Exchange`]. Without one the frame is interpreted.
    fn exchange(&mut self, slot: &Arc<Slot>) -> Pinned;

    /// Whether [`Safepoints::resume`] is to be asked while a frame without program is interpreted.
    fn resumes(&self) -> bool;

    /// The program in which a frame that lost its own goes on in front of the given opcode.
    fn resume(&mut self, slot: &Arc<Slot>, opcode: u8) -> Option<Arc<Program>>;
}

/// A program is run until its slot has another one.
pub(crate) struct Ordinary;

impl Safepoints for Ordinary {
    #[inline]
    fn order(&mut self, program: &Program) -> Order {
        match program.is_undisturbed() {
            true => Order::Enter,
            false if program.is_superseded() => Order::Exchange,
            false => Order::Profile,
        }
    }

    fn exchange(&mut self, slot: &Arc<Slot>) -> Pinned {
        slot.pin()
    }

    fn resumes(&self) -> bool {
        false
    }

    fn resume(&mut self, _: &Arc<Slot>, _: u8) -> Option<Arc<Program>> {
        None
    }
}

/// What the frame loop does next.
enum Next {
    /// Compiled code may be entered at the current pc.
    Enter,
    /// The interpreter runs at least one instruction.
    Interpret,
    /// The frame run is over; what is to come next is in the interpreter.
    Done,
}

/// Runs a frame until it ends or suspends, as `run_plain` would, and leaves what `run_plain` answers in
/// the interpreter: moving it about costs more than everything else that is done for a small frame.
pub(crate) fn run<H: Host, S: Safepoints>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    held: &mut Held<'_>,
    safepoints: &mut S,
) {
    let code = interpreter.bytecode.bytecode_ptr();
    // From here on only through this pointer, which helpers share.
    let memo: *mut Memo = &raw mut *held.memo;
    // Read before the program: if a newer one comes between, it is noticed too often, not never.
    let mut published = held.slot.published();
    let mut pinned = held.slot.pin();
    if pinned.is_none() && held.hot_from.is_none() && interpreter.bytecode.pc() == 0 {
        held.engine.frame(held.slot);
        published = held.slot.published();
        pinned = held.slot.pin();
    }
    match pinned.is_some() {
        true => {
            if held.slot.touch(held.stats.hits.next()) {
                held.engine.worked(held.slot, USES_SAMPLED);
            }
        }
        false => {
            let _ = held.slot.touch(1);
            if held.hot_from.is_some() {
                match held.slot.is_alone() {
                    true => held.hot_from = None,
                    false => _ = held.slot.count_frame(),
                }
            }
        }
    }
    loop {
        let stopped = match &*pinned {
            Some(program) => {
                let run = Run { program, published, code, memo };
                leg(interpreter, host, tables, held, run, safepoints)
            }
            None => without(interpreter, host, tables, held, (published, memo), safepoints),
        };
        match stopped {
            Ok(()) => return,
            Err(turn) => {
                let had = pinned.is_some();
                published = held.slot.published();
                pinned = match turn {
                    Turn::Exchange => safepoints.exchange(held.slot),
                    Turn::Newer => held.slot.pin(),
                    Turn::Profile => {
                        if profile(interpreter, host, tables, held) {
                            return;
                        }
                        held.slot.pin()
                    }
                    Turn::Into(program) => Pinned::from_inner(Some(program)),
                };
                match (had, pinned.is_some()) {
                    (_, true) => held.stats.swaps.add(1),
                    (true, false) => held.stats.frames_dropped.add(1),
                    (false, false) => {}
                }
            }
        }
    }
}

/// Why a leg is over, although its frame run is not.
enum Turn {
    /// Its program was superseded, or is to be exchanged.
    Exchange,
    /// There is another program than when it began.
    Newer,
    /// Its code is to be profiled.
    Profile,
    /// The frame goes on in this one.
    Into(Arc<Program>),
}

/// Ok if the frame run is over.
type Leg = Result<(), Turn>;

/// What a leg runs.
#[derive(Clone, Copy)]
struct Run<'a> {
    program: &'a Program,
    /// Programs that had been published when this one was loaded.
    published: u32,
    /// Where the frame's code lies.
    code: *const u8,
    memo: *mut Memo,
}

/// Runs a frame in one program.
#[inline(always)]
fn leg<H: Host, S: Safepoints>(
    interpreter: &mut Interp,
    host: &mut H,
    tables: Tables<'_, H>,
    held: &Held<'_>,
    Run { program, published, code, memo }: Run<'_>,
    safepoints: &mut S,
) -> Leg {
    let interpreter: *mut Interp = interpreter;
    let mut run = FrameRun {
        interpreter,
        host,
        table: tables.instructions,
        memo,
        halt: InstructionResult::Stop,
        panic: None,
    };
    // SAFETY: derived from the exclusive reference above, which is not used any more.
    let mut cx = context(unsafe { &mut *interpreter }, program, S::helpers::<H>());
    // From here on only through this pointer, which helpers share.
    let run: *mut FrameRun<H> = &raw mut run;
    cx.runtime = run.cast();
    loop {
        // SAFETY: compiled code is not running, so nothing else refers to the interpreter or host.
        let (interp, host) = unsafe { (&mut *(*run).interpreter, &mut *(*run).host) };
        // A replaced instruction may have put anything in place of these.
        if !stack_is_usable(interp) || interp.bytecode.bytecode_ptr() != code {
            cold_path();
            let action = interp.run_plain(tables.instructions, tables.gas, host);
            interp.bytecode.set_action(action);
            return Ok(());
        }
        let entry = program.entry(interp.bytecode.pc());
        let next = match entry {
            None => Next::Interpret,
            Some(entry) => match safepoints.order(program) {
                Order::Enter => {
                    held.stats.native_entries.add(1);
                    held.dump.enter(interp, || program.tier());
                    // SAFETY: the entry is the program's; the rest was established above.
                    let leave =
                        unsafe { enter::<H, S>(&raw mut cx, run, program, held.trampoline, entry) };
                    // SAFETY: `leave` comes from the program that ran on this context.
                    let next = unsafe { finish(&mut cx, &mut *run, leave, held.stats) };
                    if !matches!(next, Next::Done) {
                        // SAFETY: as at the start of the loop.
                        held.dump.leave(unsafe { &*(*run).interpreter }, || program.tier());
                    }
                    if cx.poll == u32::MAX {
                        cold_path();
                        held.engine.worked(held.slot, POLL_FRAMES);
                    }
                    next
                }
                Order::Interpret => Next::Interpret,
                Order::Exchange => return Err(Turn::Exchange),
                Order::Profile => return Err(Turn::Profile),
            },
        };
        match next {
            Next::Enter => {}
            Next::Done => return Ok(()),
            Next::Interpret => {
                // SAFETY: as at the start of the loop.
                let (interp, host) = unsafe { (&mut *(*run).interpreter, &mut *(*run).host) };
                let (entries, leads) = (Some(program.entries()), entry.is_none());
                // SAFETY: compiled code is not running, so nothing else uses the pointer.
                let memo = unsafe { &mut *memo };
                let between = Between { entries, leads, any: S::ANY_ENTRY, published, memo };
                match between.run(interp, host, tables, held) {
                    Stopped::Frame(halt) => {
                        end(interp, halt);
                        return Ok(());
                    }
                    Stopped::Entry => {}
                    Stopped::Newer => return Err(Turn::Newer),
                }
            }
        }
    }
}

/// The fields that do not change during a frame run; [`refresh`] fills in the others.
fn context(interpreter: &mut Interp, program: &Program, helpers: &'static HelperTable) -> Context {
    let interpreter: *mut Interp = interpreter;
    let entries = program.entries();
    // SAFETY: fields of the interpreter, which outlives the frame run. Raw, so that later uses of
    // the interpreter do not end their validity.
    let (address, caller, call_value) = unsafe {
        let input = &raw const (*interpreter).input;
        (
            (&raw const (*input).target_address).cast(),
            (&raw const (*input).caller_address).cast(),
            (&raw const (*input).call_value).cast::<Word>(),
        )
    };
    Context {
        gas: 0,
        stack_base: std::ptr::null_mut(),
        stack_end: std::ptr::null_mut(),
        mem_base: std::ptr::null_mut(),
        mem_word_limit: 0,
        mem_byte_limit: 0,
        helpers,
        entries: entries.as_ptr(),
        entries_len: entries.len() as u64,
        code_base: program.code_base(),
        poll: u32::MAX / 2,
        calldata: std::ptr::null(),
        calldata_len: 0,
        swap_bytes: SWAP_BYTES,
        msize: 0,
        returndata_len: 0,
        address,
        caller,
        call_value,
        outcome: Outcome::Bail,
        halt: 0,
        runtime: std::ptr::null_mut(),
    }
}

/// Enters compiled code with the interpreter's canonical state.
///
/// # Safety
/// `cx` and `run` are those of this frame run, the stack is usable, `entry` is the program's entry
/// at the interpreter's pc.
#[inline]
unsafe fn enter<H: Host, S: Safepoints>(
    cx: *mut Context,
    run: *mut FrameRun<H>,
    program: &Program,
    trampoline: Option<EnterFn>,
    entry: u32,
) -> Leave {
    // SAFETY: the caller's; compiled code is not running yet.
    let sp = unsafe {
        let (cx, interpreter) = (&mut *cx, &mut *(*run).interpreter);
        refresh(cx, interpreter);
        cx.gas = interpreter.gas.remaining();
        cx.outcome = Outcome::Bail;
        cx.poll = S::POLL;
        cx.stack_base.add(interpreter.stack.len())
    };
    // SAFETY: the context is complete.
    unsafe { program.enter(cx, sp, entry, trampoline) }
}

/// The end of `run_plain`, but for taking the action.
#[inline(never)]
fn end(interpreter: &mut Interp, halt: InstructionResult) {
    if interpreter.bytecode.action().is_none() {
        interpreter.halt(halt);
    }
}
