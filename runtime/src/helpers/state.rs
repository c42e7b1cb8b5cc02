//! Storage, transient storage and logs, by the same Host calls in the same order as revm's own
//! instructions. Used only for opcodes known to be revm's own.

use super::{Guarded, Refusal, Scope, guarded, instruction, read, write};
use kiln_abi::{Context, ContinueOrLeave, ExitRecord, Record, Word};
use revm::{
    bytecode::opcode,
    interpreter::{Host, InstructionContext, InstructionResult, instructions::host},
    primitives::{U256, hardfork::SpecId},
};

/// SLOAD.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the destination, `p1` the key.
pub(super) unsafe extern "C" fn sload<H: Host>(
    cx: *mut Context,
    exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    _p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let key = read(p1);
        guarded::<H>(cx, |scope| {
            let value = load(scope, key).inspect_err(|refusal| {
                if let Refusal::Ended(_) = refusal {
                    // A frame that ends here reports its gas, without what later ones would cost.
                    let rest = u64::from(Record::read(exit).rest);
                    scope.interpreter.gas.set_remaining(scope.cx.gas + rest);
                }
            })?;
            write(p0, value);
            Ok(())
        })
    }
}

#[inline]
fn load<H: Host>(scope: &mut Scope<'_, H>, key: U256) -> Result<U256, Refusal> {
    let target = scope.interpreter.input.target_address;
    let fatal = Refusal::Ended(InstructionResult::FatalExternalError);
    if !scope.interpreter.runtime_flag.spec_id.is_enabled_in(SpecId::BERLIN) {
        return scope.host.sload(target, key).map(|load| load.data).ok_or(fatal);
    }
    let cold_cost = scope.host.gas_params().cold_storage_additional_cost();
    // With less gas, `skip_cold_load` depends on what later instructions of the block were charged:
    // the interpreter's business.
    if scope.cx.gas < cold_cost {
        return Err(Refusal::Bail);
    }
    let load = scope
        .host
        .sload_skip_cold_load(target, key, false)
        .map_err(|error| Refusal::Ended(error.into()))?;
    if load.is_cold {
        scope.cx.gas -= cold_cost;
    }
    Ok(load.data)
}

/// TLOAD.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the destination, `p1` the key.
pub(super) unsafe extern "C" fn tload<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    _p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let key = read(p1);
        guarded::<H>(cx, |scope| {
            let target = scope.interpreter.input.target_address;
            write(p0, scope.host.tload(target, key));
            Ok(())
        })
    }
}

/// TSTORE.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p1` the key, `p2` the value.
pub(super) unsafe extern "C" fn tstore<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    _p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let (key, value) = (read(p1), read(p2));
        guarded::<H>(cx, |scope| store_transient(scope, key, value))
    }
}

fn store_transient<H: Host>(scope: &mut Scope<'_, H>, key: U256, value: U256) -> Guarded {
    if scope.interpreter.runtime_flag.is_static {
        return Err(Refusal::Bail);
    }
    scope.host.tstore(scope.interpreter.input.target_address, key, value);
    Ok(())
}

/// SSTORE.
///
/// # Safety
/// As [`kiln_abi::InstructionFn`].
pub(super) unsafe extern "C" fn sstore<H: Host>(
    cx: *mut Context,
    exit: ExitRecord,
    sp: *mut Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        instruction::run::<H>(cx, exit, sp, |_, _, interpreter, host| {
            host::sstore(InstructionContext { interpreter, host })
        })
    }
}

/// LOG0 to LOG4.
///
/// # Safety
/// As [`kiln_abi::InstructionFn`].
pub(super) unsafe extern "C" fn log<H: Host>(
    cx: *mut Context,
    exit: ExitRecord,
    sp: *mut Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        instruction::run::<H>(cx, exit, sp, |code, table, interpreter, host| {
            let context = InstructionContext { interpreter, host };
            match code {
                opcode::LOG0 => host::log::<0, H>(context),
                opcode::LOG1 => host::log::<1, H>(context),
                opcode::LOG2 => host::log::<2, H>(context),
                opcode::LOG3 => host::log::<3, H>(context),
                opcode::LOG4 => host::log::<4, H>(context),
                _ => table[code as usize].execute(context),
            }
        })
    }
}
