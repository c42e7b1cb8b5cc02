//! Between revm's [`Interp`] and the [`Context`]: filling in what compiled code caches, and making
//! the interpreter's state canonical again from an exit record.
//!
//! **Owns** the rules for what may be cached. **Callers guarantee** that exit records belong to the
//! code that ran, which compilers derive from verified IR. **Never** charges gas or calls the host.

use crate::helpers::Interp;
use kiln_abi::{Context, Record, STACK_LIMIT, Slot, Word, Written};
use revm::interpreter::{
    CallInput,
    interpreter_types::{Jumps, MemoryTr},
};
use std::mem::MaybeUninit;

/// Fixups whose sources are collected on the native stack; more than this take an allocation.
const FIXUPS_INLINE: usize = 24;

/// Refreshes what moves when memory or the stack do.
#[inline]
pub(crate) fn refresh(cx: &mut Context, interpreter: &mut Interp) {
    let base = interpreter.stack.data_mut().as_mut_ptr().cast::<Word>();
    cx.stack_base = base;
    cx.stack_end = base.wrapping_add(STACK_LIMIT);
    refresh_memory(cx, interpreter);
    cx.returndata_len = interpreter.return_data.0.len() as u64;
}

/// Refreshes what moves when memory does.
#[inline]
pub(crate) fn refresh_memory(cx: &mut Context, interpreter: &mut Interp) {
    let charged = interpreter.gas.memory().words_num.saturating_mul(Word::BYTES);
    let (base, len) = {
        let mut memory = interpreter.memory.context_memory_mut();
        (memory.as_mut_ptr(), memory.len())
    };
    // revm expands by what was charged, not by what there is: where there is less, every access
    // takes the slow path.
    let covered = if charged <= len { charged as u64 } else { 0 };
    cx.mem_base = base;
    cx.mem_byte_limit = covered;
    cx.mem_word_limit = covered.saturating_sub(Word::BYTES as u64 - 1);
    cx.msize = len as u64;
    let (calldata, calldata_len) = match &interpreter.input.input {
        CallInput::Bytes(bytes) => (bytes.as_ptr(), bytes.len()),
        CallInput::SharedBuffer(range) if range.is_empty() => (std::ptr::dangling(), 0),
        CallInput::SharedBuffer(range) => {
            (interpreter.memory.global_slice(range.clone()).as_ptr(), range.len())
        }
    };
    cx.calldata = calldata;
    cx.calldata_len = calldata_len as u64;
}

/// Whether compiled code may work in the interpreter's stack buffer.
#[inline]
pub(crate) fn stack_is_usable(interpreter: &Interp) -> bool {
    interpreter.stack.data().capacity() >= STACK_LIMIT
}

/// Reads a word limb by limb: compiled code may just have written it so, and a wider load would wait until
/// these stores have left the store buffer.
///
/// # Safety
/// `word` points to a word.
#[inline]
unsafe fn read_limbs(word: *const Word) -> Word {
    // SAFETY: the caller's.
    Word(std::array::from_fn(|limb| unsafe { word.cast::<u64>().add(limb).read_volatile() }))
}

/// # Safety
/// `to` points to a word that may be written.
#[inline]
unsafe fn write_limbs(to: *mut Word, limb: impl Fn(usize) -> u64) {
    for k in 0..4 {
        // SAFETY: the caller's.
        unsafe { to.cast::<u64>().add(k).write(limb(k)) };
    }
}

/// Makes stack and pc what they are in front of the instruction at `exit`. Gas is the caller's.
///
/// # Safety
/// `entry` is the stack pointer at the entry of the block that `exit` belongs to: one past the top word of the interpreter's stack then. The block ran up to the exit.
#[inline]
pub(crate) unsafe fn materialise(interpreter: &mut Interp, exit: &Record<'_>, entry: *mut Word) {
    // SAFETY: slots of a verified block lie within the stack range its precondition checked.
    let at = |slot: Slot| unsafe { entry.offset(slot.0 as isize) };
    // All sources are read before any target is written; constants need no reading.
    let from_slots = exit.fixups.filter_map(|(_, written)| match written {
        Written::Slot(from) => Some(from),
        Written::Const(_) => None,
    });
    // SAFETY: as above.
    let read = |slot| unsafe { read_limbs(at(slot)) };
    let mut inline = [const { MaybeUninit::<Word>::uninit() }; FIXUPS_INLINE];
    let mut heap = Vec::new();
    if exit.fixups.len() <= FIXUPS_INLINE {
        for (place, slot) in inline.iter_mut().zip(from_slots) {
            place.write(read(slot));
        }
    } else {
        heap.extend(from_slots.map(read));
    }
    let mut next = 0;
    for (slot, written) in exit.fixups {
        let to = at(slot);
        match written {
            // SAFETY: as above.
            Written::Const(packed) => unsafe { write_limbs(to, |k| packed.limb(k)) },
            Written::Slot(_) => {
                let from = match heap.get(next) {
                    Some(word) => std::ptr::from_ref(word),
                    None => inline[next].as_ptr(),
                };
                // SAFETY: as above; without a heap, the first loop wrote a word for each of these.
                unsafe { write_limbs(to, |k| from.cast::<u64>().add(k).read_volatile()) };
                next += 1;
            }
        }
    }
    let stack = interpreter.stack.data_mut();
    // SAFETY: both point into the stack buffer.
    let height = unsafe { entry.offset_from(stack.as_mut_ptr().cast()) } + exit.height as isize;
    debug_assert!((0..=STACK_LIMIT as isize).contains(&height), "height {height} at {}", exit.pc);
    // SAFETY: the words up to the height were on the stack at entry, or written by the block, or
    // written above; the capacity was checked when the frame run began.
    unsafe { stack.set_len(height as usize) };
    debug_assert!((exit.pc.0 as usize) < interpreter.bytecode.bytes_ref().len());
    interpreter.bytecode.absolute_jump(exit.pc.0 as usize);
}
