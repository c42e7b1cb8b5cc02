//! Arithmetic on words, with shortcuts for what real contracts compute: most operands fit 64 or 128
//! bits.

use super::{guarded, read, to_usize_saturated, write};
use kiln_abi::{Context, ContinueOrLeave, ExitRecord, Word};
use revm::{
    interpreter::{
        Host,
        instructions::i256::{i256_div, i256_mod},
    },
    primitives::U256,
};

/// Both words as 128-bit numbers, if they are such.
#[inline(always)]
fn narrow(a: &U256, b: &U256) -> Option<(u128, u128)> {
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (*a.as_limbs(), *b.as_limbs());
    if a2 | a3 | b2 | b3 != 0 {
        return None;
    }
    Some((a0 as u128 | (a1 as u128) << 64, b0 as u128 | (b1 as u128) << 64))
}

#[inline(always)]
fn wide(value: u128) -> U256 {
    U256::from_limbs([value as u64, (value >> 64) as u64, 0, 0])
}

fn quotient(a: U256, b: U256) -> U256 {
    if b.is_zero() {
        return U256::ZERO;
    }
    match narrow(&a, &b) {
        Some((a, b)) => match (u64::try_from(a), u64::try_from(b)) {
            (Ok(a), Ok(b)) => wide((a / b) as u128),
            _ => wide(a / b),
        },
        None => a.wrapping_div(b),
    }
}

fn remainder(a: U256, b: U256) -> U256 {
    if b.is_zero() {
        return U256::ZERO;
    }
    match narrow(&a, &b) {
        Some((a, b)) => match (u64::try_from(a), u64::try_from(b)) {
            (Ok(a), Ok(b)) => wide((a % b) as u128),
            _ => wide(a % b),
        },
        None => a.wrapping_rem(b),
    }
}

fn extend_sign(index: U256, value: U256) -> U256 {
    if index >= U256::from(31) {
        return value;
    }
    let bits = 8 * index.as_limbs()[0] as usize + 8;
    let unused = 256 - bits;
    (value << unused).arithmetic_shr(unused)
}

fn byte_at(index: U256, value: U256) -> U256 {
    match to_usize_saturated(index) {
        index @ 0..32 => U256::from(value.byte(31 - index)),
        _ => U256::ZERO,
    }
}

fn shift_left(amount: U256, value: U256) -> U256 {
    match to_usize_saturated(amount) {
        amount @ 0..256 => value << amount,
        _ => U256::ZERO,
    }
}

fn shift_right(amount: U256, value: U256) -> U256 {
    match to_usize_saturated(amount) {
        amount @ 0..256 => value >> amount,
        _ => U256::ZERO,
    }
}

fn shift_right_signed(amount: U256, value: U256) -> U256 {
    match to_usize_saturated(amount) {
        amount @ 0..256 => value.arithmetic_shr(amount),
        _ if value.bit(255) => U256::MAX,
        _ => U256::ZERO,
    }
}

/// A power of two by a shift, the rest by revm's own multiplication ladder.
fn power(base: U256, exponent: U256) -> U256 {
    if base == U256::from(2) { shift_left(exponent, U256::ONE) } else { base.pow(exponent) }
}

macro_rules! pure {
    ($($(#[$doc:meta])* $name:ident($($operand:ident),*) = $body:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// `dst` points to a word that may be written, the operands to words; they may be the
            /// same.
            pub(super) unsafe extern "C" fn $name(dst: *mut Word, $($operand: *const Word),*) {
                // SAFETY: the caller's. All operands are read before the destination is written.
                unsafe {
                    $(let $operand = read($operand);)*
                    write(dst, $body);
                }
            }
        )*
    };
}

pure! {
    /// MUL.
    mul(a, b) = a.wrapping_mul(b);
    /// DIV.
    div(a, b) = quotient(a, b);
    /// SDIV.
    sdiv(a, b) = i256_div(a, b);
    /// MOD.
    rem(a, b) = remainder(a, b);
    /// SMOD.
    smod(a, b) = i256_mod(a, b);
    /// ADDMOD.
    addmod(a, b, c) = a.add_mod(b, c);
    /// MULMOD.
    mulmod(a, b, c) = a.mul_mod(b, c);
    /// SIGNEXTEND.
    signextend(a, b) = extend_sign(a, b);
    /// BYTE.
    byte(a, b) = byte_at(a, b);
    /// SHL.
    shl(a, b) = shift_left(a, b);
    /// SHR.
    shr(a, b) = shift_right(a, b);
    /// SAR.
    sar(a, b) = shift_right_signed(a, b);
    /// CLZ.
    clz(a) = U256::from(a.leading_zeros());
}

/// EXP.
///
/// # Safety
/// As [`kiln_abi::Guarded3Fn`]: `p0` the destination, `p1` the base, `p2` the exponent.
pub(super) unsafe extern "C" fn exp<H: Host>(
    cx: *mut Context,
    _exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: the caller's.
    unsafe {
        let (base, exponent) = (read(p1), read(p2));
        guarded::<H>(cx, |scope| {
            scope.charge(scope.host.gas_params().exp_cost(exponent))?;
            write(p0, power(base, exponent));
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_abi::{Pure1Fn, Pure2Fn, Pure3Fn};

    fn words() -> Vec<U256> {
        let one = U256::ONE;
        let mut words = vec![U256::ZERO, U256::MAX, U256::MAX >> 1, one << 255];
        for shift in [0, 1, 4, 5, 8, 63, 64, 65, 127, 128, 191, 192, 254] {
            words.extend([one << shift, (one << shift) - one, (one << shift) + one]);
        }
        words.extend((0..24u64).map(|i| {
            let limb =
                |k: u64| (i * 7 + k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(i as u32);
            let keep = i % 4 + 1;
            U256::from_limbs([0, 1, 2, 3].map(|k| if k < keep { limb(k) } else { 0 }))
        }));
        words.extend((0..40).map(U256::from));
        words.extend([255u64, 256, 257].map(U256::from));
        words
    }

    fn word(value: U256) -> Word {
        Word(*value.as_limbs())
    }

    fn check2(name: &str, helper: Pure2Fn, reference: impl Fn(U256, U256) -> U256) {
        for a in words() {
            for b in words() {
                let expected = word(reference(a, b));
                let (x, mut y) = (word(a), word(b));
                let mut dst = Word::ZERO;
                // SAFETY: three words on this stack.
                unsafe { helper(&mut dst, &x, &y) };
                assert_eq!(dst, expected, "{name} {a:#x} {b:#x}");
                let shared: *mut Word = &mut y;
                // SAFETY: the destination may be an operand.
                unsafe { helper(shared, &x, shared) };
                assert_eq!(y, expected, "{name} {a:#x} {b:#x}, in place");
            }
        }
    }

    #[test]
    fn binary_helpers_agree_with_plain_definitions() {
        let zero = U256::ZERO;
        check2("mul", mul, |a, b| a.wrapping_mul(b));
        check2("div", div, |a, b| a.checked_div(b).unwrap_or(zero));
        check2("rem", rem, |a, b| a.checked_rem(b).unwrap_or(zero));
        check2("sdiv", sdiv, |a, b| {
            let negative = |x: U256| x.bit(255);
            let abs = |x: U256| if x.bit(255) { x.wrapping_neg() } else { x };
            let q = abs(a).checked_div(abs(b)).unwrap_or(zero);
            if negative(a) != negative(b) { q.wrapping_neg() } else { q }
        });
        check2("smod", smod, |a, b| {
            let abs = |x: U256| if x.bit(255) { x.wrapping_neg() } else { x };
            let r = abs(a).checked_rem(abs(b)).unwrap_or(zero);
            if a.bit(255) { r.wrapping_neg() } else { r }
        });
        check2("signextend", signextend, |a, b| {
            if a >= U256::from(31) {
                return b;
            }
            let bit = 8 * a.to::<usize>() + 7;
            let mask = (U256::ONE << bit) - U256::ONE;
            if b.bit(bit) { b | !mask } else { b & mask }
        });
        check2("byte", byte, |a, b| {
            if a < U256::from(32) {
                U256::from(b.to_be_bytes::<32>()[a.to::<usize>()])
            } else {
                zero
            }
        });
    }

    #[test]
    fn shifts_agree_with_plain_definitions() {
        let small = |a: U256| (a < U256::from(256)).then(|| a.to::<usize>());
        check2("shl", shl, |a, b| small(a).map_or(U256::ZERO, |a| b << a));
        check2("shr", shr, |a, b| small(a).map_or(U256::ZERO, |a| b >> a));
        check2("sar", sar, |a, b| {
            let ones = if b.bit(255) { U256::MAX } else { U256::ZERO };
            small(a).map_or(ones, |a| if a == 0 { b } else { b >> a | ones << (256 - a) })
        });
        let helper: Pure1Fn = clz;
        for a in words() {
            let mut x = word(a);
            let shared: *mut Word = &mut x;
            // SAFETY: the destination may be the operand.
            unsafe { helper(shared, shared) };
            assert_eq!(x, Word::from_u64(a.leading_zeros() as u64));
        }
    }

    #[test]
    fn modular_helpers_use_wide_intermediates() {
        let check = |name, helper: Pure3Fn, a: U256, b: U256, c: U256, expected: U256| {
            let (x, y, mut z) = (word(a), word(b), word(c));
            let shared: *mut Word = &mut z;
            // SAFETY: the destination may be an operand.
            unsafe { helper(shared, &x, &y, shared) };
            assert_eq!(z, word(expected), "{name} {a:#x} {b:#x} {c:#x}");
        };
        let (max, two) = (U256::MAX, U256::from(2));
        check("addmod", addmod, max, max, two, U256::ZERO);
        check("addmod", addmod, max, two, max, two);
        check("addmod", addmod, max, two, U256::ZERO, U256::ZERO);
        check("mulmod", mulmod, max, max, U256::from(12), U256::from(9));
        check("mulmod", mulmod, max, max, U256::ZERO, U256::ZERO);
    }

    #[test]
    fn powers() {
        for base in [0u64, 1, 2, 3, 10, 256].map(U256::from).into_iter().chain([U256::MAX]) {
            let mut expected = U256::ONE;
            for exponent in 0..300u64 {
                assert_eq!(power(base, U256::from(exponent)), expected, "{base}^{exponent}");
                expected = expected.wrapping_mul(base);
            }
        }
        assert_eq!(power(U256::from(2), U256::MAX), U256::ZERO);
        assert_eq!(power(U256::MAX, U256::MAX), U256::MAX);
    }
}
