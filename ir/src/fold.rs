//! Reference semantics of all operations on words that neither fail nor have effects.
//!
//! **Owns** the arithmetic of the EVM as functions over [`Word`]: what the builder folds with and
//! what the evaluator computes with.
//!
//! **Callers guarantee** that [`pure`] is asked only for helpers with a `Pure` shape.
//!
//! **Never** knows gas, the stack, or memory. EXP is here for the evaluator's hosts, not for
//! folding: its gas depends on the exponent, so an EXP is never folded away.

use crate::module::{Cond, Op};
use kiln_abi::{Helper, Word};
use revm_primitives::U256;

/// A word as an integer.
pub const fn to_u256(word: Word) -> U256 {
    U256::from_limbs(word.0)
}

/// An integer as a word.
pub const fn from_u256(value: U256) -> Word {
    Word(value.into_limbs())
}

/// What a helper with a `Pure` shape computes; operands from the top of the stack downwards, those
/// it does not have are ignored.
///
/// # Panics
/// If the helper has no `Pure` shape: a broken invariant of the IR, which `verify` refuses.
pub fn pure(helper: Helper, a: Word, b: Word, c: Word) -> Word {
    match helper {
        Helper::Mul => mul(a, b),
        Helper::Div => div(a, b),
        Helper::Sdiv => sdiv(a, b),
        Helper::Rem => rem(a, b),
        Helper::Smod => smod(a, b),
        Helper::Addmod => from_u256(to_u256(a).add_mod(to_u256(b), to_u256(c))),
        Helper::Mulmod => from_u256(to_u256(a).mul_mod(to_u256(b), to_u256(c))),
        Helper::Signextend => index(a, 31).map_or(b, |byte| signextend(byte, b)),
        Helper::Byte => index(a, 32).map_or(Word::ZERO, |at| byte(at, b)),
        Helper::Shl => index(a, 256).map_or(Word::ZERO, |amount| shl(amount, b)),
        Helper::Shr => index(a, 256).map_or(Word::ZERO, |amount| shr(amount, b)),
        Helper::Sar => sar(index(a, 256).unwrap_or(256), b),
        Helper::Clz => Word::from_u64(to_u256(a).leading_zeros() as u64),
        Helper::Calldataload
        | Helper::Exp
        | Helper::Keccak256
        | Helper::Sload
        | Helper::Tload
        | Helper::Tstore
        | Helper::Calldatacopy
        | Helper::Codecopy
        | Helper::Returndatacopy
        | Helper::Mcopy
        | Helper::Expand
        | Helper::Sstore
        | Helper::Log
        | Helper::Instruction => panic!("fold::pure: {} is not pure", helper.name()),
    }
}

/// What a data operation of the IR computes; `b` is ignored where it has one operand, `imm` where it
/// has none. `None` for operations that are more than arithmetic, and for [`Op::Pure`], which may
/// have a third operand: see [`pure`].
pub fn binary(op: Op, a: Word, b: Word, imm: u32) -> Option<Word> {
    Some(match op {
        Op::Copy => a,
        Op::Add => add(a, b),
        Op::Sub => sub(a, b),
        Op::Mul => mul(a, b),
        Op::And => limbs(a, b, |a, b| a & b),
        Op::Or => limbs(a, b, |a, b| a | b),
        Op::Xor => limbs(a, b, |a, b| a ^ b),
        Op::Not => limbs(a, a, |a, _| !a),
        Op::Set(cond) => Word::from_u64(compare(cond, &a, &b) as u64),
        Op::ShlImm => shl(imm, a),
        Op::ShrImm => shr(imm, a),
        Op::SarImm => sar(imm, a),
        Op::ByteImm => byte(imm, a),
        Op::SignextendImm => signextend(imm, a),
        Op::Mload
        | Op::Mstore
        | Op::Mstore8
        | Op::Calldataload
        | Op::Address
        | Op::Caller
        | Op::CallValue
        | Op::Calldatasize
        | Op::Returndatasize
        | Op::Msize
        | Op::Gas
        | Op::Pure(_)
        | Op::Guarded(_)
        | Op::Instruction(_) => return None,
    })
}

/// Whether `a cond b`.
pub fn compare(cond: Cond, a: &Word, b: &Word) -> bool {
    // Flipping the sign bit maps the signed order to the unsigned one.
    let unsigned = |word: &Word| to_u256(*word);
    let signed =
        |word: &Word| U256::from_limbs([word.0[0], word.0[1], word.0[2], word.0[3] ^ SIGN]);
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Ult => unsigned(a) < unsigned(b),
        Cond::Ugt => unsigned(a) > unsigned(b),
        Cond::Ule => unsigned(a) <= unsigned(b),
        Cond::Uge => unsigned(a) >= unsigned(b),
        Cond::Slt => signed(a) < signed(b),
        Cond::Sgt => signed(a) > signed(b),
        Cond::Sle => signed(a) <= signed(b),
        Cond::Sge => signed(a) >= signed(b),
    }
}

/// `base ** exponent` modulo 2^256; 1 for exponent 0.
pub fn exp(base: Word, exponent: Word) -> Word {
    from_u256(to_u256(base).wrapping_pow(to_u256(exponent)))
}

/// The sign bit, in the top limb.
const SIGN: u64 = 1 << 63;

/// The value, if it is below `end`.
fn index(word: Word, end: u32) -> Option<u32> {
    word.as_u64().filter(|&value| value < u64::from(end)).map(|value| value as u32)
}

fn limbs(a: Word, b: Word, f: impl Fn(u64, u64) -> u64) -> Word {
    Word(core::array::from_fn(|i| f(a.0[i], b.0[i])))
}

fn add(a: Word, b: Word) -> Word {
    from_u256(to_u256(a).wrapping_add(to_u256(b)))
}

fn sub(a: Word, b: Word) -> Word {
    from_u256(to_u256(a).wrapping_sub(to_u256(b)))
}

fn mul(a: Word, b: Word) -> Word {
    from_u256(to_u256(a).wrapping_mul(to_u256(b)))
}

fn div(a: Word, b: Word) -> Word {
    match (a.as_u64(), b.as_u64()) {
        (_, Some(0)) => Word::ZERO,
        (Some(a), Some(b)) => Word::from_u64(a / b),
        _ => from_u256(to_u256(a) / to_u256(b)),
    }
}

fn rem(a: Word, b: Word) -> Word {
    match (a.as_u64(), b.as_u64()) {
        (_, Some(0)) => Word::ZERO,
        (Some(a), Some(b)) => Word::from_u64(a % b),
        _ => from_u256(to_u256(a) % to_u256(b)),
    }
}

fn is_negative(word: Word) -> bool {
    word.0[3] & SIGN != 0
}

fn negate_if(condition: bool, word: Word) -> Word {
    if condition { sub(Word::ZERO, word) } else { word }
}

/// The absolute value; -2^255 gives 2^255.
fn magnitude(word: Word) -> Word {
    negate_if(is_negative(word), word)
}

/// -2^255 / -1 wraps to -2^255, as the magnitudes are divided and the signs cancel.
fn sdiv(a: Word, b: Word) -> Word {
    negate_if(is_negative(a) != is_negative(b), div(magnitude(a), magnitude(b)))
}

/// The sign of the result is that of the dividend.
fn smod(a: Word, b: Word) -> Word {
    negate_if(is_negative(a), rem(magnitude(a), magnitude(b)))
}

/// Byte `at` from the most significant; 0 from 32 on.
fn byte(at: u32, value: Word) -> Word {
    match 31u32.checked_sub(at) {
        Some(low) => Word::from_u64(value.0[low as usize / 8] >> (low % 8 * 8) & 0xff),
        None => Word::ZERO,
    }
}

/// Sign-extends from byte `at`, counted from the least significant; the value itself from 31 on.
fn signextend(at: u32, value: Word) -> Word {
    match 31u32.checked_sub(at) {
        Some(above) => sar(above * 8, shl(above * 8, value)),
        None => value,
    }
}

fn shl(amount: u32, value: Word) -> Word {
    if amount < 256 { from_u256(to_u256(value) << amount as usize) } else { Word::ZERO }
}

fn shr(amount: u32, value: Word) -> Word {
    if amount < 256 { from_u256(to_u256(value) >> amount as usize) } else { Word::ZERO }
}

fn sar(amount: u32, value: Word) -> Word {
    if is_negative(value) {
        limbs(shr(amount, limbs(value, value, |a, _| !a)), Word::ZERO, |a, _| !a)
    } else {
        shr(amount, value)
    }
}

#[cfg(test)]
mod tests;
