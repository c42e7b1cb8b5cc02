//! Upper bounds of what operations compute.
//!
//! **Owns** the transfer function of each operation. It is monotone: larger bounds of the operands
//! never give a smaller one of the result, which the fixed point of [`super::facts`] needs.
//!
//! **Callers guarantee** bounds that hold for the operands. **Never** looks at a block or a path.

use super::function::{Inst, Op, Value, bit_len};
use crate::{
    fold::{from_u256, to_u256},
    module::{self, Cond},
};
use kiln_abi::{Helper, Word};
use revm_primitives::U256;

/// `2^bits - 1`, all bits set from 256 on.
pub(super) fn ones(bits: u16) -> Word {
    from_u256(if bits >= 256 { U256::MAX } else { (U256::ONE << usize::from(bits)) - U256::ONE })
}

/// The smaller of two words.
pub(super) fn min(a: Word, b: Word) -> Word {
    from_u256(to_u256(a).min(to_u256(b)))
}

/// The larger of two words.
pub(super) fn max(a: Word, b: Word) -> Word {
    from_u256(to_u256(a).max(to_u256(b)))
}

/// Whether the sign bit can not be set in a word with this bound.
pub(super) fn is_positive(bound: &Word) -> bool {
    bit_len(bound) < 256
}

/// An upper bound of the result of an instruction from those of its operands.
pub(super) fn bound(inst: &Inst, of: impl Fn(Value) -> Word) -> Word {
    let arg = |index: usize| inst.args[index].map_or(Word::MAX, &of);
    match inst.op {
        Op::Slot(_) | Op::Run(_) => Word::MAX,
        Op::Narrow => match inst.args[1] {
            // `a` is less than (`imm` 1), or at most, the other operand.
            Some(other) => {
                let below = to_u256(of(other)).saturating_sub(U256::from(inst.imm));
                min(arg(0), from_u256(below))
            }
            None => arg(0),
        },
        Op::Word(op) => word(op, inst.imm, arg(0), arg(1), arg(2)),
    }
}

/// An upper bound of `value` where a comparison holds. `root` gives what a value was narrowed from.
pub(super) fn where_holds(
    value: Value,
    (cond, a, b): (Cond, Value, Value),
    root: impl Fn(Value) -> Value,
    of: impl Fn(Value) -> Word,
) -> Word {
    let (cond, other) = if root(value) == root(a) {
        (cond, b)
    } else if root(value) == root(b) {
        (cond.swap(), a)
    } else {
        return of(value);
    };
    let other = to_u256(of(other));
    let most = match cond {
        Cond::Eq | Cond::Ule => other,
        Cond::Ult => other.saturating_sub(U256::ONE),
        _ => return of(value),
    };
    min(of(value), from_u256(most))
}

fn word(op: module::Op, imm: u32, a: Word, b: Word, c: Word) -> Word {
    use module::Op::*;
    let shift = imm as usize;
    let checked = |result: Option<U256>| result.map_or(Word::MAX, from_u256);
    match op {
        Copy => a,
        Add => checked(to_u256(a).checked_add(to_u256(b))),
        Mul => checked(to_u256(a).checked_mul(to_u256(b))),
        And => min(a, b),
        Or | Xor => ones(bit_len(&a).max(bit_len(&b))),
        Sub | Not => Word::MAX,
        Set(_) => Word::ONE,
        ShlImm if usize::from(bit_len(&a)) + shift <= 256 => from_u256(to_u256(a) << shift),
        ShlImm => Word::MAX,
        ShrImm => from_u256(to_u256(a) >> shift),
        SarImm if is_positive(&a) => from_u256(to_u256(a) >> shift),
        SarImm => Word::MAX,
        ByteImm => min(Word::from_u64(255), from_u256(to_u256(a) >> (248 - 8 * shift.min(31)))),
        SignextendImm if usize::from(bit_len(&a)) <= 8 * shift + 7 => a,
        SignextendImm => Word::MAX,
        Mload | Mstore | Mstore8 | Calldataload | CallValue => Word::MAX,
        Address | Caller => ones(160),
        Calldatasize | Returndatasize | Msize | Gas => Word::from_u64(u64::MAX),
        Pure(helper) => pure(helper, a, b, c),
        Guarded(_) | Instruction(_) => Word::MAX,
    }
}

fn pure(helper: Helper, a: Word, b: Word, c: Word) -> Word {
    let positive = is_positive(&a) && is_positive(&b);
    match helper {
        Helper::Mul => word(module::Op::Mul, 0, a, b, c),
        Helper::Div => a,
        Helper::Sdiv if positive => a,
        // Less than the divisor, and 0 for none.
        Helper::Rem => min(a, b),
        Helper::Smod if positive => min(a, b),
        Helper::Addmod | Helper::Mulmod => c,
        Helper::Byte => Word::from_u64(255),
        Helper::Shr => b,
        Helper::Sar if is_positive(&b) => b,
        Helper::Clz => Word::from_u64(256),
        _ => Word::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold;
    use kiln_abi::Pc;

    /// Every result of operands within their bounds is within its bound.
    #[test]
    fn bounds_hold() {
        use module::Op::*;
        let mut rng = fastrand::Rng::with_seed(11);
        let binary = [Add, Sub, Mul, And, Or, Xor, Not, Set(Cond::Ult), ShlImm, ShrImm, SarImm];
        let pures = [
            Helper::Div,
            Helper::Sdiv,
            Helper::Rem,
            Helper::Smod,
            Helper::Addmod,
            Helper::Mulmod,
            Helper::Byte,
            Helper::Shl,
            Helper::Shr,
            Helper::Sar,
            Helper::Clz,
            Helper::Signextend,
        ];
        let mut narrow = 0;
        for _ in 0..200_000 {
            let bounds: [Word; 3] = core::array::from_fn(|_| ones(rng.u16(0..=256)));
            let words = bounds.map(|bound| {
                let word = Word(core::array::from_fn(|_| rng.u64(..)));
                min(Word(core::array::from_fn(|i| word.0[i] & bound.0[i])), bound)
            });
            let (op, imm, result) = match rng.u8(..4) {
                0 => {
                    let helper = *rng.choice(&pures).unwrap();
                    (Pure(helper), 0, fold::pure(helper, words[0], words[1], words[2]))
                }
                1 => {
                    let (op, imm) = (ByteImm, rng.u32(..32));
                    (op, imm, fold::binary(op, words[0], words[1], imm).unwrap())
                }
                2 => {
                    let (op, imm) = (SignextendImm, rng.u32(..31));
                    (op, imm, fold::binary(op, words[0], words[1], imm).unwrap())
                }
                _ => {
                    let (op, imm) = (*rng.choice(&binary).unwrap(), rng.u32(1..256));
                    (op, imm, fold::binary(op, words[0], words[1], imm).unwrap())
                }
            };
            let args = [Some(Value(0)), Some(Value(1)), Some(Value(2))];
            let inst = Inst::new(Op::Word(op), args, imm, Pc(0));
            let bound = bound(&inst, |value| bounds[value.0 as usize]);
            assert!(to_u256(result) <= to_u256(bound), "{op:?} #{imm} {words:?}: {result} {bound}");
            narrow += u32::from(bound != Word::MAX);
        }
        assert!(narrow > 100_000, "{narrow}");
    }
}
