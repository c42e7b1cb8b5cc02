//! The KECCAK256 instruction of frames that are interpreted.

use super::memo::{INPUT_BYTES_MAX, Memo};
use crate::helpers::Interp;
use revm::{
    bytecode::opcode,
    interpreter::{
        GasTable, Host,
        interpreter_types::{Jumps, MemoryTr},
        num_words,
    },
    primitives::{KECCAK_EMPTY, U256},
};

/// What `step` does in front of KECCAK256, if the instruction succeeds, hashes at most
/// [`INPUT_BYTES_MAX`] bytes and expands no memory. Answers whether it did; else nothing was done.
///
/// The caller guarantees that the next opcode is KECCAK256, and revm's own (`system::keccak256`), not
/// a replaced one.
#[inline]
pub(crate) fn instruction<H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    gas_table: &GasTable,
    memo: &mut Memo,
) -> bool {
    debug_assert_eq!(interpreter.bytecode.opcode(), opcode::KECCAK256);
    let &[.., len, offset] = interpreter.stack.data().as_slice() else { return false };
    let Some(len) = below(len, INPUT_BYTES_MAX + 1) else { return false };
    // revm does not look at the offset of no bytes.
    let offset = if len == 0 { Some(0) } else { covered(interpreter, offset, len) };
    let Some(offset) = offset else { return false };
    let static_gas = gas_table[opcode::KECCAK256 as usize] as u64;
    let cost = host.gas_params().keccak256_cost(len).checked_add(static_gas);
    let gas_left = cost.and_then(|cost| interpreter.gas.remaining().checked_sub(cost));
    let Some(gas_left) = gas_left else { return false };

    interpreter.gas.set_remaining(gas_left);
    interpreter.bytecode.relative_jump(1);
    let hash = match len {
        0 => KECCAK_EMPTY,
        _ => memo.hash(&interpreter.memory.slice_len(offset, len)),
    };
    let stack = interpreter.stack.data_mut();
    stack.pop();
    if let Some(top) = stack.last_mut() {
        *top = hash.into();
    }
    true
}

/// The offset, if memory holds `len` bytes there and they are paid for.
#[inline]
fn covered(interpreter: &Interp, offset: U256, len: usize) -> Option<usize> {
    let size = interpreter.memory.size();
    let offset = below(offset, size)?;
    let end = offset + len;
    // revm expands by what was paid for, not by what there is.
    (end <= size && num_words(end) <= interpreter.gas.memory().words_num).then_some(offset)
}

/// The word, if it is below the bound.
#[inline]
fn below(word: U256, bound: usize) -> Option<usize> {
    let [low, rest @ ..] = *word.as_limbs();
    (rest == [0; 3] && low < bound as u64).then_some(low as usize)
}
