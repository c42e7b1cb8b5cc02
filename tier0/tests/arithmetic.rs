//! Every operation on words, in all its operand kinds and encodings, against reference arithmetic.

use kiln_ir::{Cond, Inst, Op, Operand, Target, Terminator};
use kiln_region_tests::stencil::{holds, sar};
use kiln_region_tests::support::*;
use revm_primitives::U256;

/// Slots with short and long displacements.
const NEAR: [i16; 3] = [-1, -3, 2];
const FAR: [i16; 3] = [-7, 5, 9];

/// Constants of all kinds: small, one limb, negative, masks, wide.
fn constants() -> Vec<U256> {
    let one = U256::from(1);
    let mut constants = edges();
    constants.extend([3, 0x60, 96, 127, 128, 0xff, 1_000_000_007].map(U256::from));
    constants.push(U256::from(0x0de0_b6b3_a764_0000u64));
    constants.push(U256::MAX - U256::from(31));
    constants.push((one << 160) - one);
    constants.push(U256::from_limbs([1, 2, 3, 0x4e48_7b71_0000_0000]));
    constants
}

/// Runs one instruction for many operand values. `dst`, `a`, `b` are slots, and may be equal.
fn check(
    inst: Inst,
    builder: &mut Builder,
    values: &[(U256, U256)],
    expected: impl Fn(U256, U256) -> U256,
) {
    builder.region(0, &[inst], Terminator::Exit(DONE));
    let program = builder.program();
    let mut machine = Machine::new();
    let mut rng = fastrand::Rng::with_seed(1);
    machine.scramble(&mut rng);
    let slot_of = |operand: Option<Operand>| match operand {
        Some(Operand::Slot(slot)) => Some(slot.0),
        _ => None,
    };
    let [a, b] = [slot_of(inst.args[0]), slot_of(inst.args[1])];
    let dst = inst.dst.unwrap().0;
    for &(mut x, y) in values {
        if let Some(a) = a {
            machine.set(a, x);
        }
        if let Some(b) = b {
            machine.set(b, y);
            if a == Some(b) {
                x = y;
            }
        }
        let mut after = machine.words();
        after[(HEIGHT as isize + dst as isize) as usize] = word(expected(x, y));
        let left = program.run(&mut machine, 0);
        assert_eq!(left, Left { exit: DONE, moved: 0 });
        assert_eq!(machine.words(), after, "{inst:?} of {x:#x}, {y:#x}: {:#x}", machine.get(dst));
    }
}

fn pairs(rng: &mut fastrand::Rng) -> Vec<(U256, U256)> {
    let edges = edges();
    let mut pairs: Vec<_> =
        edges.iter().flat_map(|&a| edges.iter().map(move |&b| (a, b))).collect();
    pairs.extend((0..300).map(|_| (random(rng), random(rng))));
    pairs.extend((0..50).map(|_| {
        let a = random(rng);
        (a, a)
    }));
    pairs
}

/// Destination and operand slots: apart, aliasing, near, far, and mixed.
fn arrangements() -> Vec<[i16; 3]> {
    let mut all = Vec::new();
    for [d, a, b] in [NEAR, FAR, [-1, -7, 2], [9, -1, 2], [2, -1, 9], [9, 5, -1]] {
        all.extend([[d, a, b], [a, a, b], [b, a, b], [d, a, a], [a, a, a]]);
    }
    all
}

fn binary(op: Op, expected: fn(U256, U256) -> U256) {
    let mut rng = fastrand::Rng::with_seed(2);
    let pairs = pairs(&mut rng);
    for [d, a, b] in arrangements() {
        let inst = inst(op, Some(d), &[slot(a), slot(b)]);
        check(inst, &mut Builder::new(), &pairs, expected);
    }
    for constant in constants() {
        let values: Vec<_> = pairs.iter().step_by(7).map(|&(a, _)| (a, constant)).collect();
        let swapped: Vec<_> = values.iter().map(|&(a, b)| (b, a)).collect();
        for [d, a, _] in [NEAR, FAR, [-1, -7, 0], [9, -1, 0], [-1, -1, 0], [9, 9, 0]] {
            let mut builder = Builder::new();
            let b = builder.constant(constant);
            check(inst(op, Some(d), &[slot(a), b]), &mut builder, &values, expected);
            let mut builder = Builder::new();
            let b = builder.constant(constant);
            check(inst(op, Some(d), &[b, slot(a)]), &mut builder, &swapped, expected);
        }
        let mut builder = Builder::new();
        let (a, b) = (builder.constant(constant), builder.constant(pairs[99].1));
        let values = [(constant, pairs[99].1)];
        check(inst(op, Some(-2), &[a, b]), &mut builder, &values, expected);
    }
}

fn unary(op: Op, imm: u32, expected: impl Fn(U256) -> U256) {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut values: Vec<_> = edges().into_iter().map(|a| (a, a)).collect();
    values.extend((0..60).map(|_| (random(&mut rng), U256::ZERO)));
    for [d, a] in [[-1, -3], [-7, 5], [-1, 9], [9, -1], [-2, -2], [7, 7]] {
        let inst = Inst { imm, ..inst(op, Some(d), &[slot(a)]) };
        check(inst, &mut Builder::new(), &values, |a, _| expected(a));
    }
    for constant in [U256::from(5), U256::MAX << 200usize] {
        let mut builder = Builder::new();
        let a = builder.constant(constant);
        let inst = Inst { imm, ..inst(op, Some(1), &[a]) };
        check(inst, &mut builder, &[(constant, U256::ZERO)], |a, _| expected(a));
    }
}

#[test]
fn add() {
    binary(Op::Add, U256::wrapping_add);
}

#[test]
fn sub() {
    binary(Op::Sub, U256::wrapping_sub);
}

#[test]
fn mul() {
    binary(Op::Mul, U256::wrapping_mul);
}

#[test]
fn and() {
    binary(Op::And, |a, b| a & b);
}

#[test]
fn or() {
    binary(Op::Or, |a, b| a | b);
}

#[test]
fn xor() {
    binary(Op::Xor, |a, b| a ^ b);
}

#[test]
fn not() {
    unary(Op::Not, 0, |a| !a);
}

#[test]
fn copy() {
    unary(Op::Copy, 0, |a| a);
    for constant in constants() {
        for dst in [-1, 9] {
            let mut builder = Builder::new();
            let a = builder.constant(constant);
            let inst = inst(Op::Copy, Some(dst), &[a]);
            check(inst, &mut builder, &[(constant, U256::ZERO)], |a, _| a);
        }
    }
}

#[test]
fn shifts_by_all_amounts() {
    for amount in 1..256u32 {
        let by = amount as usize;
        unary(Op::ShlImm, amount, |a| a << by);
        unary(Op::ShrImm, amount, |a| a >> by);
        unary(Op::SarImm, amount, |a| sar(a, by));
    }
}

#[test]
fn bytes_and_sign_extensions() {
    for index in 0..32u32 {
        unary(Op::ByteImm, index, |a| U256::from(a.byte(31 - index as usize)));
    }
    for index in 0..31u32 {
        let up = 248 - 8 * index as usize;
        unary(Op::SignextendImm, index, |a| sar(a << up, up));
    }
}

#[test]
fn comparisons_as_words() {
    macro_rules! all {
        ($($cond:ident),*) => {
            $(binary(Op::Set(Cond::$cond), |a, b| U256::from(holds(Cond::$cond, a, b) as u64));)*
        };
    }
    all!(Eq, Ne, Ult, Ugt, Ule, Uge, Slt, Sgt, Sle, Sge);
}

/// Runs a branch that ends a block which moved the stack pointer.
fn check_branch(
    builder: &mut Builder,
    cond: Cond,
    a: Operand,
    b: Operand,
    height: i16,
    values: &[(U256, U256)],
) {
    let (taken, next) = (Target::Exit(SIDE), Target::Exit(OTHER));
    builder.region(0, &[], Terminator::Branch { cond, a, b, taken, next }).height = height;
    let program = builder.program();
    let mut machine = Machine::new();
    machine.scramble(&mut fastrand::Rng::with_seed(4));
    for &(x, y) in values {
        for (operand, value) in [(a, x), (b, y)] {
            if let Operand::Slot(slot) = operand {
                machine.set(slot.0, value);
            }
        }
        let before = machine.words();
        let left = program.run(&mut machine, 0);
        let exit = if holds(cond, x, y) { SIDE } else { OTHER };
        assert_eq!(
            left,
            Left { exit, moved: height as isize },
            "{a:?} {cond} {b:?}: {x:#x}, {y:#x}"
        );
        assert_eq!(machine.words(), before);
    }
}

#[test]
fn comparisons_as_branches() {
    let pairs = pairs(&mut fastrand::Rng::with_seed(5));
    for cond in Cond::ALL {
        for (a, b, height) in [(-1, -2, -2), (-9, -2, 1), (-1, 6, 0), (7, -8, -3)] {
            check_branch(&mut Builder::new(), cond, slot(a), slot(b), height, &pairs);
        }
        for constant in constants() {
            let values: Vec<_> = pairs.iter().step_by(11).map(|&(a, _)| (a, constant)).collect();
            let swapped: Vec<_> = values.iter().map(|&(a, b)| (b, a)).collect();
            for (a, height) in [(-1, -1), (-9, 0), (8, 3)] {
                let mut builder = Builder::new();
                let b = builder.constant(constant);
                check_branch(&mut builder, cond, slot(a), b, height, &values);
                let mut builder = Builder::new();
                let b = builder.constant(constant);
                check_branch(&mut builder, cond, b, slot(a), height, &swapped);
            }
            let mut builder = Builder::new();
            let (a, b) = (builder.constant(constant), builder.constant(pairs[77].1));
            check_branch(&mut builder, cond, a, b, 0, &[(constant, pairs[77].1)]);
        }
    }
}
