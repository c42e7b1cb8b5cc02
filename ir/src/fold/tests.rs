use super::*;

const MIN: Word = Word([0, 0, 0, SIGN]);
const HUGE: Word = Word([0, 0, 0, 1]);
const TWO_64: Word = Word([0, 1, 0, 0]);
const NONE: Word = Word::ZERO;

fn word(value: u64) -> Word {
    Word::from_u64(value)
}

fn minus(value: u64) -> Word {
    sub(Word::ZERO, word(value))
}

fn pure2(helper: Helper, a: Word, b: Word) -> Word {
    pure(helper, a, b, NONE)
}

#[test]
fn divides_by_zero() {
    for a in [word(0), word(7), Word::MAX, MIN, HUGE] {
        for helper in [Helper::Div, Helper::Sdiv, Helper::Rem, Helper::Smod] {
            assert_eq!(pure2(helper, a, Word::ZERO), Word::ZERO, "{helper:?} {a}");
        }
        assert_eq!(pure(Helper::Addmod, a, Word::MAX, Word::ZERO), Word::ZERO);
        assert_eq!(pure(Helper::Mulmod, a, Word::MAX, Word::ZERO), Word::ZERO);
    }
}

#[test]
fn divides_with_signs() {
    assert_eq!(pure2(Helper::Sdiv, MIN, Word::MAX), MIN);
    assert_eq!(pure2(Helper::Smod, MIN, Word::MAX), Word::ZERO);
    assert_eq!(pure2(Helper::Sdiv, minus(7), word(2)), minus(3));
    assert_eq!(pure2(Helper::Sdiv, word(7), minus(2)), minus(3));
    assert_eq!(pure2(Helper::Sdiv, minus(7), minus(2)), word(3));
    assert_eq!(pure2(Helper::Smod, minus(7), word(2)), minus(1));
    assert_eq!(pure2(Helper::Smod, word(7), minus(2)), word(1));
    assert_eq!(pure2(Helper::Div, HUGE, TWO_64), Word([0, 0, 1, 0]));
    assert_eq!(pure2(Helper::Rem, Word::MAX, TWO_64), word(u64::MAX));
}

#[test]
fn wide_intermediates() {
    assert_eq!(pure(Helper::Addmod, Word::MAX, Word::MAX, word(10)), word(0));
    assert_eq!(pure(Helper::Addmod, Word::MAX, word(2), Word::MAX), word(2));
    assert_eq!(pure(Helper::Mulmod, Word::MAX, Word::MAX, word(12)), word(9));
    assert_eq!(pure(Helper::Mulmod, Word::MAX, Word::MAX, Word::MAX), word(0));
}

#[test]
fn shifts_at_the_edges() {
    for amount in [word(256), TWO_64, MIN, Word::MAX] {
        assert_eq!(pure2(Helper::Shl, amount, Word::MAX), Word::ZERO);
        assert_eq!(pure2(Helper::Shr, amount, Word::MAX), Word::ZERO);
        assert_eq!(pure2(Helper::Sar, amount, MIN), Word::MAX);
        assert_eq!(pure2(Helper::Sar, amount, HUGE), Word::ZERO);
    }
    assert_eq!(pure2(Helper::Shl, word(255), word(3)), MIN);
    assert_eq!(pure2(Helper::Shr, word(255), MIN), word(1));
    assert_eq!(pure2(Helper::Sar, word(255), MIN), Word::MAX);
    assert_eq!(pure2(Helper::Sar, word(1), minus(3)), minus(2));
    assert_eq!(pure2(Helper::Sar, word(0), MIN), MIN);
    assert_eq!(binary(Op::ShlImm, word(1), NONE, 64), Some(TWO_64));
    assert_eq!(binary(Op::ShrImm, TWO_64, NONE, 64), Some(word(1)));
    assert_eq!(binary(Op::SarImm, MIN, NONE, 255), Some(Word::MAX));
}

#[test]
fn bytes_and_signs() {
    let value = Word([0x0706_0504_0302_0180, 0, 0, 0xaabb << 48]);
    assert_eq!(pure2(Helper::Byte, word(31), value), word(0x80));
    assert_eq!(pure2(Helper::Byte, word(0), value), word(0xaa));
    assert_eq!(pure2(Helper::Byte, word(1), value), word(0xbb));
    assert_eq!(pure2(Helper::Byte, word(32), value), Word::ZERO);
    assert_eq!(pure2(Helper::Byte, TWO_64, value), Word::ZERO);
    assert_eq!(pure2(Helper::Signextend, word(0), value), minus(0x80));
    assert_eq!(pure2(Helper::Signextend, word(1), value), word(0x0180));
    assert_eq!(pure2(Helper::Signextend, word(30), Word([0, 0, 0, 0x80 << 48])).0[3], 0xff80 << 48);
    for at in [word(31), word(32), TWO_64, Word::MAX] {
        assert_eq!(pure2(Helper::Signextend, at, value), value);
    }
    assert_eq!(pure2(Helper::Signextend, word(7), word(7)), word(7));
    assert_eq!(binary(Op::ByteImm, value, NONE, 31), Some(word(0x80)));
    assert_eq!(binary(Op::SignextendImm, value, NONE, 0), Some(minus(0x80)));
}

#[test]
fn counts_leading_zeros() {
    assert_eq!(pure(Helper::Clz, Word::ZERO, NONE, NONE), word(256));
    assert_eq!(pure(Helper::Clz, word(1), NONE, NONE), word(255));
    assert_eq!(pure(Helper::Clz, MIN, NONE, NONE), word(0));
}

#[test]
fn exponents() {
    for exponent in [Word::ZERO, word(1), word(256), Word::MAX] {
        assert_eq!(exp(Word::ONE, exponent), Word::ONE);
    }
    assert_eq!(exp(Word::ZERO, Word::ZERO), Word::ONE);
    assert_eq!(exp(Word::ZERO, word(5)), Word::ZERO);
    assert_eq!(exp(word(2), word(255)), MIN);
    assert_eq!(exp(word(2), word(256)), Word::ZERO);
    assert_eq!(exp(word(256), word(8)), TWO_64);
    assert_eq!(exp(Word::MAX, Word::MAX), Word::MAX);
}

#[test]
fn wraps() {
    assert_eq!(binary(Op::Add, Word::MAX, word(1), 0), Some(Word::ZERO));
    assert_eq!(binary(Op::Sub, Word::ZERO, word(1), 0), Some(Word::MAX));
    assert_eq!(binary(Op::Mul, Word::MAX, Word::MAX, 0), Some(Word::ONE));
    assert_eq!(binary(Op::Not, Word::ZERO, NONE, 0), Some(Word::MAX));
    assert_eq!(binary(Op::And, word(6), word(3), 0), Some(word(2)));
    assert_eq!(binary(Op::Or, word(6), word(3), 0), Some(word(7)));
    assert_eq!(binary(Op::Xor, word(6), word(3), 0), Some(word(5)));
    assert_eq!(binary(Op::Gas, word(6), word(3), 0), None);
}

#[test]
fn compares() {
    let ordered = [MIN, minus(2), minus(1), word(0), word(1), TWO_64, HUGE];
    for (i, a) in ordered.iter().enumerate() {
        for (j, b) in ordered.iter().enumerate() {
            assert_eq!(compare(Cond::Slt, a, b), i < j, "{a} {b}");
            assert_eq!(compare(Cond::Ult, a, b), to_u256(*a) < to_u256(*b), "{a} {b}");
            for cond in Cond::ALL {
                let holds = compare(cond, a, b);
                assert_eq!(compare(cond.negate(), a, b), !holds);
                assert_eq!(compare(cond.swap(), b, a), holds);
                assert_eq!(binary(Op::Set(cond), *a, *b, 0), Some(word(holds as u64)));
            }
        }
    }
}
