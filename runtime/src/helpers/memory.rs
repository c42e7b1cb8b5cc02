//! Memory expansion, and what reads or writes memory and data in bulk.

use super::{Bail, Guarded, Refusal, Scope, guarded, read, to_usize, to_usize_saturated, write};
use crate::canonical::refresh_memory;
use kiln_abi::{Context, ContinueOrLeave, ExitRecord, Word};
use revm::{
    interpreter::{CallInput, Host, interpreter::resize_memory},
    primitives::{B256, KECCAK_EMPTY, U256},
};

impl<H: Host> Scope<'_, H> {
    /// Expands memory to hold `size` bytes at `offset` if the gas pays for it, as revm does it.
    #[inline]
    fn cover(&mut self, offset: usize, size: usize) -> Result<(), Bail> {
        let covered = self.cx.mem_byte_limit as usize;
        if size <= covered && offset <= covered - size {
            return Ok(());
        }
        self.grow(offset, size)
    }

    #[inline(never)]
    fn grow(&mut self, offset: usize, size: usize) -> Result<(), Bail> {
        self.grow_here(offset, size)
    }

    #[inline(always)]
    fn grow_here(&mut self, offset: usize, size: usize) -> Result<(), Bail> {
        let interpreter = &mut *self.interpreter;
        let before = *interpreter.gas.memory();
        interpreter.gas.set_remaining(self.cx.gas);
        let params = self.host.gas_params();
        let result =
            resize_memory(&mut interpreter.gas, &mut interpreter.memory, params, offset, size);
        if result.is_err() {
            *interpreter.gas.memory_mut() = before;
            return Err(Bail);
        }
        self.cx.gas = interpreter.gas.remaining();
        refresh_memory(self.cx, interpreter);
        // Memory may still be shorter than what was paid for: revm's own instruction decides.
        let covered = self.cx.mem_byte_limit as usize;
        if size <= covered && offset <= covered - size { Ok(()) } else { Err(Bail) }
    }

    /// What CALLDATACOPY, CODECOPY, RETURNDATACOPY and MCOPY have in common: pays `cost` and
    /// expands memory to `len` bytes at `end`. Answers whether there is anything to copy.
    #[inline]
    fn pay_and_cover(&mut self, cost: u64, offset: U256, len: usize) -> Result<usize, Refusal> {
        let gas = self.cx.gas;
        self.charge(cost)?;
        if len == 0 {
            return Ok(0);
        }
        let covered = to_usize(offset).and_then(|at| self.cover(at, len).map(|()| at));
        covered.map_err(|Bail| {
            self.cx.gas = gas;
            Refusal::Bail
        })
    }

    /// The `len` bytes at `offset`.
    ///
    /// # Safety
    /// [`Scope::cover`] said yes, and nothing touched memory since.
    unsafe fn bytes(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: the caller's: the range lies below `mem_byte_limit`.
        unsafe { std::slice::from_raw_parts(self.cx.mem_base.add(offset), len) }
    }
}

/// Memory expansion.
///
/// # Safety
/// As [`kiln_abi::ExpandFn`].
pub(super) unsafe extern "C" fn expand<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    offset: *const Word,
    offset_const: u64,
    size: u64,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let offset = if offset.is_null() { U256::from(offset_const) } else { read(offset) };
        // Compiled code found that it is not covered.
        guarded::<H>(cx, |scope| Ok(scope.grow_here(to_usize(offset)?, size as usize)?))
    }
}

/// CALLDATALOAD at any offset.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the destination, `p1` the offset.
pub(super) unsafe extern "C" fn calldataload(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    _p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's; the context's calldata is readable up to its length.
    unsafe {
        let (offset, len) = (to_usize_saturated(read(p1)), (*cx).calldata_len as usize);
        let mut word = [0; Word::BYTES];
        if offset < len {
            let count = word.len().min(len - offset);
            word.as_mut_ptr().copy_from_nonoverlapping((*cx).calldata.add(offset), count);
        }
        write(p0, U256::from_be_bytes(word));
    }
    kiln_abi::CONTINUE
}

/// KECCAK256.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the destination, `p1` the offset, `p2` the length.
pub(super) unsafe extern "C" fn keccak256<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's; `bytes` follows `cover`. The memo is the EVM's, valid for the frame run and
    // used by nobody else while compiled code runs; hashing calls nobody.
    unsafe {
        let (offset, len) = (read(p1), read(p2));
        guarded::<H>(cx, |scope| {
            let len = to_usize(len)?;
            let cost = scope.host.gas_params().keccak256_cost(len);
            let at = scope.pay_and_cover(cost, offset, len)?;
            let hash: B256 = match len {
                0 => KECCAK_EMPTY,
                _ => {
                    let memo = scope.run.memo;
                    (*memo).hash(scope.bytes(at, len))
                }
            };
            write(p0, hash.into());
            Ok(())
        })
    }
}

/// CALLDATACOPY.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the memory offset, `p1` the data offset, `p2` the length.
pub(super) unsafe extern "C" fn calldatacopy<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let (offset, data_offset, len) = (read(p0), read(p1), read(p2));
        guarded::<H>(cx, |scope| {
            let len = to_usize(len)?;
            let at = scope.pay_and_cover(scope.host.gas_params().copy_cost(len), offset, len)?;
            if len == 0 {
                return Ok(());
            }
            let data_offset = to_usize_saturated(data_offset);
            let interpreter = &mut *scope.interpreter;
            match &interpreter.input.input {
                CallInput::Bytes(bytes) => {
                    interpreter.memory.set_data(at, data_offset, len, bytes);
                }
                CallInput::SharedBuffer(range) => {
                    interpreter.memory.global_to_local_set_data(at, data_offset, len, range.clone())
                }
            }
            Ok(())
        })
    }
}

/// CODECOPY.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the memory offset, `p1` the code offset, `p2` the length.
pub(super) unsafe extern "C" fn codecopy<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let (offset, code_offset, len) = (read(p0), read(p1), read(p2));
        guarded::<H>(cx, |scope| {
            let len = to_usize(len)?;
            let at = scope.pay_and_cover(scope.host.gas_params().copy_cost(len), offset, len)?;
            if len != 0 {
                let code = scope.interpreter.bytecode.original_byte_slice();
                let code_offset = to_usize_saturated(code_offset);
                scope.interpreter.memory.set_data(at, code_offset, len, code);
            }
            Ok(())
        })
    }
}

/// RETURNDATACOPY.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the memory offset, `p1` the data offset, `p2` the length.
pub(super) unsafe extern "C" fn returndatacopy<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let (offset, data_offset, len) = (read(p0), read(p1), read(p2));
        guarded::<H>(cx, |scope| {
            let (len, data_offset) = (to_usize(len)?, to_usize_saturated(data_offset));
            if data_offset.saturating_add(len) > scope.interpreter.return_data.0.len() {
                return Err(Refusal::Bail);
            }
            let at = scope.pay_and_cover(scope.host.gas_params().copy_cost(len), offset, len)?;
            if len != 0 {
                let data = &scope.interpreter.return_data.0;
                scope.interpreter.memory.set_data(at, data_offset, len, data);
            }
            Ok(())
        })
    }
}

/// MCOPY.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the destination, `p1` the source, `p2` the length.
pub(super) unsafe extern "C" fn mcopy<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let (dst, src, len) = (read(p0), read(p1), read(p2));
        guarded::<H>(cx, |scope| copy_within(scope, dst, src, to_usize(len)?))
    }
}

fn copy_within<H: Host>(scope: &mut Scope<'_, H>, dst: U256, src: U256, len: usize) -> Guarded {
    let cost = scope.host.gas_params().mcopy_cost(len);
    // Expands once, to the end of the further range.
    scope.pay_and_cover(cost, dst.max(src), len)?;
    if len != 0 {
        // `pay_and_cover` saw that the larger of the two fits.
        let (dst, src) = (to_usize_saturated(dst), to_usize_saturated(src));
        scope.interpreter.memory.copy(dst, src, len);
    }
    Ok(())
}
