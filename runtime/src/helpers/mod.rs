//! What compiled code calls: all functions of [`HelperTable`].
//!
//! **Owns** the helpers and the state they share during a frame run ([`FrameRun`]).
//!
//! **Callers guarantee** (compiled code and the evaluator, both through the table): the context is
//! the one [`crate::frame`] built for this frame run; pointers to words lie in its EVM stack or in
//! the constant pool of the running program, or are null where a row of the table names none.
//!
//! **Never** unwinds: a panic in the host is caught and kept in [`FrameRun::panic`]. Never keeps a
//! reference, lock or guard across a call into the host, and never uses a thread-local: a database
//! may suspend the thread's fiber and go on elsewhere.

mod arith;
mod instruction;
mod leaving;
mod memory;
mod state;

use crate::keccak::Memo;
use kiln_abi::{CONTINUE, Context, ContinueOrLeave, HelperTable, LEAVE, Outcome, Word};
use revm::{
    interpreter::{
        Host, InstructionResult, InstructionTable, Interpreter, interpreter::EthInterpreter,
    },
    primitives::U256,
};
use std::{
    any::Any,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// revm's interpreter with the types of a plain Ethereum frame.
pub(crate) type Interp = Interpreter<EthInterpreter>;

const _: () = {
    assert!(size_of::<U256>() == size_of::<Word>());
    assert!(align_of::<U256>() == align_of::<Word>());
};

/// The state of one frame run that helpers share, behind [`Context::runtime`].
///
/// Raw pointers, derived once per frame run: while compiled code runs, the references they came
/// from are not used.
pub(crate) struct FrameRun<H> {
    /// The frame's interpreter.
    pub(crate) interpreter: *mut Interp,
    /// The EVM's context.
    pub(crate) host: *mut H,
    /// The EVM's own instruction table.
    pub(crate) table: *const InstructionTable<EthInterpreter, H>,
    /// What the EVM hashed lately.
    pub(crate) memo: *mut Memo,
    /// With [`Outcome::Ended`].
    pub(crate) halt: InstructionResult,
    /// With [`Outcome::Panicked`].
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

/// The helper table for a host type.
pub(crate) struct Helpers<H>(PhantomData<fn(&mut H)>);

impl<H: Host> Helpers<H> {
    const TABLE: HelperTable = HelperTable {
        mul: arith::mul,
        div: arith::div,
        sdiv: arith::sdiv,
        rem: arith::rem,
        smod: arith::smod,
        addmod: arith::addmod,
        mulmod: arith::mulmod,
        signextend: arith::signextend,
        byte: arith::byte,
        shl: arith::shl,
        shr: arith::shr,
        sar: arith::sar,
        clz: arith::clz,
        calldataload: memory::calldataload,
        exp: arith::exp::<H>,
        keccak256: memory::keccak256::<H>,
        sload: state::sload::<H>,
        tload: state::tload::<H>,
        tstore: state::tstore::<H>,
        calldatacopy: memory::calldatacopy::<H>,
        codecopy: memory::codecopy::<H>,
        returndatacopy: memory::returndatacopy::<H>,
        mcopy: memory::mcopy::<H>,
        expand: memory::expand::<H>,
        sstore: state::sstore::<H>,
        log: state::log::<H>,
        instruction: instruction::instruction::<H>,
    };

    /// The table; one per host type and process.
    pub(crate) fn table() -> &'static HelperTable {
        &Self::TABLE
    }
}

/// Everything a helper works on, borrowed for the length of its call.
pub(crate) struct Scope<'s, H> {
    pub(crate) cx: &'s mut Context,
    pub(crate) run: &'s mut FrameRun<H>,
    pub(crate) interpreter: &'s mut Interp,
    pub(crate) host: &'s mut H,
}

/// Refused: nothing was done, the exit record applies.
pub(crate) struct Bail;

/// How a guarded helper that did not refuse went on.
pub(crate) type Guarded = Result<(), Refusal>;

/// Why a guarded helper does not continue.
pub(crate) enum Refusal {
    /// Nothing was done.
    Bail,
    /// The host failed; the frame ends.
    Ended(InstructionResult),
}

impl From<Bail> for Refusal {
    fn from(Bail: Bail) -> Self {
        Self::Bail
    }
}

/// Runs a guarded helper's body; catches its panic.
///
/// # Safety
/// `cx` is the context of a frame run, with [`Context::runtime`] a `FrameRun<H>`, and nothing else
/// refers to either while this runs.
#[inline(always)]
unsafe fn guarded<H: Host>(
    cx: *mut Context,
    body: impl FnOnce(&mut Scope<'_, H>) -> Guarded,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    let mut scope = unsafe { Scope::<H>::new(cx) };
    let answer = catch_unwind(AssertUnwindSafe(|| body(&mut scope)));
    match answer {
        Ok(Ok(())) => CONTINUE,
        Ok(Err(Refusal::Bail)) => scope.leave(Outcome::Bail),
        Ok(Err(Refusal::Ended(halt))) => scope.end(halt),
        Err(payload) => scope.panicked(payload),
    }
}

impl<'s, H> Scope<'s, H> {
    /// # Safety
    /// As [`guarded`].
    #[inline(always)]
    unsafe fn new(cx: *mut Context) -> Self {
        // SAFETY: by the caller, `cx` and what it points to are valid and unaliased; the interpreter
        // and the host were given to the frame run as `&mut` and are only reached through it.
        unsafe {
            let cx: &'s mut Context = &mut *cx;
            let run: &'s mut FrameRun<H> = &mut *cx.runtime.cast();
            let interpreter: &'s mut Interp = &mut *run.interpreter;
            let host: &'s mut H = &mut *run.host;
            Self { cx, run, interpreter, host }
        }
    }

    /// Takes `cost` from the gas, if it pays for it.
    #[inline]
    fn charge(&mut self, cost: u64) -> Result<(), Bail> {
        self.cx.gas = self.cx.gas.checked_sub(cost).ok_or(Bail)?;
        Ok(())
    }

    #[cold]
    fn leave(&mut self, outcome: Outcome) -> ContinueOrLeave {
        self.cx.outcome = outcome;
        LEAVE
    }

    #[cold]
    fn end(&mut self, halt: InstructionResult) -> ContinueOrLeave {
        self.run.halt = halt;
        self.cx.halt = halt as u32;
        self.leave(Outcome::Ended)
    }

    #[cold]
    fn panicked(&mut self, payload: Box<dyn Any + Send>) -> ContinueOrLeave {
        self.run.panic = Some(payload);
        self.leave(Outcome::Panicked)
    }
}

/// Reads a word.
///
/// # Safety
/// `word` points to a word.
#[inline(always)]
unsafe fn read(word: *const Word) -> U256 {
    // SAFETY: the caller's; the layouts are asserted equal above.
    unsafe { word.cast::<U256>().read() }
}

/// Writes a word.
///
/// # Safety
/// `word` points to a word that may be written.
#[inline(always)]
unsafe fn write(word: *mut Word, value: U256) {
    // SAFETY: the caller's; the layouts are asserted equal above.
    unsafe { word.cast::<U256>().write(value) }
}

/// A word as an offset or a length, or a refusal.
#[inline(always)]
fn to_usize(word: U256) -> Result<usize, Bail> {
    let [low, rest @ ..] = *word.as_limbs();
    if rest != [0; 3] {
        return Err(Bail);
    }
    usize::try_from(low).map_err(|_| Bail)
}

/// As revm's `as_usize_saturated!`.
#[inline(always)]
fn to_usize_saturated(word: U256) -> usize {
    to_usize(word).unwrap_or(usize::MAX)
}
