//! Every operation on words, by operands of all widths, against reference arithmetic.

use crate::{
    build::{Builder, ones},
    run::{compile, machine, run},
    support::{edges, number, random, word},
};
use kiln_abi::{Helper, Word};
use kiln_ir::{
    Cond, Op, fold,
    ssa::{self, Target, Terminator},
};
use revm_primitives::U256;

/// Widths that values are known to have: each number of limbs, and what just does not fit.
const WIDTHS: [usize; 10] = [1, 8, 63, 64, 65, 128, 129, 160, 192, 256];

/// An operand: a stack word of so many bits, or a constant.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Bits(usize),
    Const(U256),
}

fn constants() -> Vec<U256> {
    let one = U256::from(1);
    vec![
        U256::ZERO,
        one,
        U256::from(2),
        U256::from(1_000_000_007u64),
        U256::from(u64::MAX),
        one << 64,
        (one << 128) - one,
        one << 128,
        (one << 160) - one,
        U256::MAX - U256::from(31),
        U256::MAX,
        one << 255,
        U256::from_limbs([0, u64::MAX, 5, 0x4e48_7b71_0000_0000]),
    ]
}

fn reference(op: Op, args: [U256; 3], imm: u32) -> U256 {
    let [a, b, c] = args.map(word);
    number(match op {
        Op::Pure(helper) => fold::pure(helper, a, b, c),
        op => fold::binary(op, a, b, imm).expect("a data operation"),
    })
}

/// Compiles `op` once for operands of these kinds, and compares many results. The result goes to slot 1.
fn check(op: Op, kinds: &[Kind], imm: u32, rng: &mut fastrand::Rng) {
    let mut builder = Builder::new(0, 0);
    let block = builder.block(0);
    let mut args = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        args.push(match *kind {
            Kind::Bits(256) => builder.slot(block, -1 - index as i16),
            Kind::Bits(bits) => builder.narrow_slot(block, -1 - index as i16, ones(bits)),
            Kind::Const(value) => builder.constant(value),
        });
    }
    let result = builder.word(block, op, &args, imm);
    let done = builder.exit(&[(1, result)]);
    builder.end(block, Terminator::Jump(Target::Exit(done)));
    let program = compile(&builder.function);
    let mut machine = machine();
    machine.scramble(rng);
    let edges = edges();
    for round in 0..60 {
        let mut values = [U256::ZERO; 3];
        for (index, kind) in kinds.iter().enumerate() {
            values[index] = match *kind {
                Kind::Const(value) => value,
                Kind::Bits(bits) => {
                    let value = match rng.u8(..4) {
                        0 if index > 0 => values[index - 1],
                        0 | 1 => edges[rng.usize(..edges.len())],
                        2 if round % 2 == 0 => U256::from(rng.u64(..300)),
                        _ => random(rng),
                    };
                    value & ones(bits)
                }
            };
            if let Kind::Bits(_) = kind {
                machine.set(-1 - index as i16, values[index]);
            }
        }
        let before = machine.words();
        let left = run(&program, &mut machine);
        assert_eq!((left.exit, left.moved), (done, 0));
        let expected = reference(op, values, imm);
        assert_eq!(machine.get(1), expected, "{op:?} {imm} {kinds:?} of {values:x?}");
        machine.set(1, number(before[crate::support::HEIGHT + 1]));
        assert_eq!(machine.words(), before);
    }
}

fn kinds() -> Vec<Kind> {
    let widths = WIDTHS.map(Kind::Bits).into_iter();
    widths.chain(constants().into_iter().map(Kind::Const)).collect()
}

/// All pairs of widths, and of widths with constants on either side.
fn pairs(op: Op) {
    let mut rng = fastrand::Rng::with_seed(7);
    for a in kinds() {
        for b in kinds() {
            match (a, b) {
                (Kind::Const(_), Kind::Const(_)) => {}
                _ => check(op, &[a, b], 0, &mut rng),
            }
        }
    }
}

pub fn sums() {
    pairs(Op::Add);
}

pub fn differences() {
    pairs(Op::Sub);
}

/// Where the minuend is known to be no less, the difference is as narrow as it.
pub fn narrow_differences() {
    let mut rng = fastrand::Rng::with_seed(2);
    for bits in WIDTHS {
        for less in WIDTHS.into_iter().filter(|&less| less <= bits) {
            let mut builder = Builder::new(0, 0);
            let block = builder.block(0);
            let a = builder.narrow_slot(block, -1, ones(bits));
            let b = builder.narrow_slot(block, -2, ones(less));
            let sub = ssa::Op::Word(Op::Sub);
            let result = builder.inst(block, sub, &[a, b], 0, Some(ones(bits)), None).unwrap();
            let done = builder.exit(&[(1, result)]);
            builder.end(block, Terminator::Jump(Target::Exit(done)));
            let program = compile(&builder.function);
            let mut machine = machine();
            for _ in 0..100 {
                let (a, b) = (random(&mut rng) & ones(bits), random(&mut rng) & ones(less));
                let (a, b) = (a.max(b), a.min(b));
                machine.set(-1, a);
                machine.set(-2, b);
                assert_eq!(run(&program, &mut machine).exit, done);
                assert_eq!(machine.get(1), a - b, "{a:#x} - {b:#x}, {bits} and {less} bits");
            }
        }
    }
}

pub fn products() {
    pairs(Op::Mul);
    pairs(Op::Pure(Helper::Mul));
}

pub fn masks() {
    [Op::And, Op::Or, Op::Xor].into_iter().for_each(pairs);
}

pub fn quotients_and_remainders() {
    [Helper::Div, Helper::Rem].map(Op::Pure).into_iter().for_each(pairs);
}

pub fn signed_quotients_and_remainders() {
    [Helper::Sdiv, Helper::Smod].map(Op::Pure).into_iter().for_each(pairs);
}

pub fn signed_operands_of_one_limb_need_no_helper() {
    let mut rng = fastrand::Rng::with_seed(3);
    let values: Vec<_> = [0, 1, 2, 7, i64::MAX, i64::MIN, -1, -2, -1000]
        .into_iter()
        .map(|value| {
            U256::from(value as u64) | if value < 0 { U256::MAX << 64 } else { U256::ZERO }
        })
        .collect();
    for helper in [Helper::Sdiv, Helper::Smod] {
        for &a in &values {
            for &b in &values {
                let constant = Kind::Const(b);
                check(Op::Pure(helper), &[Kind::Const(a), Kind::Bits(256)], 0, &mut rng);
                check(Op::Pure(helper), &[Kind::Bits(256), constant], 0, &mut rng);
            }
        }
    }
}

pub fn comparisons() {
    for cond in Cond::ALL {
        pairs(Op::Set(cond));
    }
}

pub fn complements() {
    let mut rng = fastrand::Rng::with_seed(5);
    WIDTHS.into_iter().for_each(|bits| check(Op::Not, &[Kind::Bits(bits)], 0, &mut rng));
}

pub fn shifts_by_constants() {
    let mut rng = fastrand::Rng::with_seed(5);
    for op in [Op::ShlImm, Op::ShrImm, Op::SarImm] {
        for bits in WIDTHS {
            for imm in [1, 7, 8, 63, 64, 65, 96, 127, 128, 160, 191, 192, 193, 224, 254, 255] {
                check(op, &[Kind::Bits(bits)], imm, &mut rng);
            }
        }
    }
}

pub fn bytes_and_sign_extensions() {
    let mut rng = fastrand::Rng::with_seed(5);
    for bits in WIDTHS {
        for imm in 0..32 {
            check(Op::ByteImm, &[Kind::Bits(bits)], imm, &mut rng);
            if imm < 31 {
                check(Op::SignextendImm, &[Kind::Bits(bits)], imm, &mut rng);
            }
        }
    }
}

pub fn operations_of_helpers() {
    let mut rng = fastrand::Rng::with_seed(9);
    for helper in [Helper::Signextend, Helper::Byte, Helper::Shl, Helper::Sar] {
        for bits in WIDTHS {
            for amount in [8, 256] {
                check(Op::Pure(helper), &[Kind::Bits(amount), Kind::Bits(bits)], 0, &mut rng);
            }
        }
    }
    for bits in WIDTHS {
        check(Op::Pure(Helper::Clz), &[Kind::Bits(bits)], 0, &mut rng);
        for helper in [Helper::Addmod, Helper::Mulmod] {
            let kinds = [Kind::Bits(256), Kind::Bits(bits), Kind::Bits(128)];
            check(Op::Pure(helper), &kinds, 0, &mut rng);
        }
    }
}

pub fn known_operands_are_folded() {
    let mut rng = fastrand::Rng::with_seed(9);
    for a in constants() {
        for b in constants() {
            let kinds = [a, b].map(Kind::Const);
            for op in [Op::Add, Op::Sub, Op::Mul, Op::And, Op::Set(Cond::Slt)] {
                check(op, &kinds, 0, &mut rng);
            }
            for helper in [Helper::Div, Helper::Smod] {
                check(Op::Pure(helper), &kinds, 0, &mut rng);
            }
        }
    }
    assert_eq!(fold::binary(Op::Add, Word::ONE, Word::ONE, 0), Some(Word::from_u64(2)));
}
