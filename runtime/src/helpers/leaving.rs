//! Helpers after which compiled code is always left: [`kiln_ir::Perturb::every_exit`].
//!
//! **Owns** the table in which guarded helpers refuse, and instructions are run and then left behind. **Never** does
//! what the ordinary helpers can not do, too: each may refuse, and each may leave the canonical state behind it.

use super::{Helpers, Scope, instruction::instruction, state};
use kiln_abi::{CONTINUE, Context, ContinueOrLeave, ExitRecord, HelperTable, Outcome, Word};
use revm::interpreter::Host;

impl<H: Host> Helpers<H> {
    const LEAVING: HelperTable = HelperTable {
        exp: refuse::<H>,
        keccak256: refuse::<H>,
        sload: refuse::<H>,
        tload: refuse::<H>,
        tstore: refuse::<H>,
        calldatacopy: refuse::<H>,
        codecopy: refuse::<H>,
        returndatacopy: refuse::<H>,
        mcopy: refuse::<H>,
        expand: refuse_to_expand::<H>,
        sstore: sstore::<H>,
        log: log::<H>,
        instruction: any::<H>,
        ..Self::TABLE
    };

    /// The table after whose helpers compiled code is left, but for those that can not fail.
    pub(crate) fn leaving() -> &'static HelperTable {
        &Self::LEAVING
    }
}

/// Refuses.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`].
unsafe extern "C" fn refuse<H: Host>(
    cx: *mut Context,
    _: ExitRecord,
    _: *mut Word,
    _: *const Word,
    _: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe { Scope::<H>::new(cx) }.leave(Outcome::Bail)
}

/// Refuses.
///
/// # Safety
/// As [`kiln_abi::ExpandFn`].
unsafe extern "C" fn refuse_to_expand<H: Host>(
    cx: *mut Context,
    _: ExitRecord,
    _: *const Word,
    _: u64,
    _: u64,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe { Scope::<H>::new(cx) }.leave(Outcome::Bail)
}

/// Behind an instruction that was run: the state in the interpreter is canonical, also where compiled code could go on.
///
/// # Safety
/// `cx` is the context of a frame run, and the answer that of its instruction helper.
unsafe fn behind<H: Host>(cx: *mut Context, answer: ContinueOrLeave) -> ContinueOrLeave {
    match answer {
        // SAFETY: the caller's.
        CONTINUE => unsafe { Scope::<H>::new(cx) }.leave(Outcome::Canonical),
        left => left,
    }
}

macro_rules! leaving {
    ($($name:ident: $helper:path;)*) => {$(
        /// Runs the instruction, and leaves.
        ///
        /// # Safety
        /// As [`kiln_abi::InstructionFn`].
        unsafe extern "C" fn $name<H: Host>(
            cx: *mut Context,
            exit: ExitRecord,
            sp: *mut Word,
        ) -> ContinueOrLeave {
            // SAFETY: the caller's.
            unsafe { behind::<H>(cx, $helper(cx, exit, sp)) }
        }
    )*};
}

leaving! {
    sstore: state::sstore::<H>;
    log: state::log::<H>;
    any: instruction::<H>;
}
