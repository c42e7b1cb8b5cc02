//! Blocks, edges, gas, polls, ways out.

use crate::{
    Refused, backend,
    build::{Builder, HEAD, ones},
    run::{compile, machine, run},
    support::{self, HEIGHT},
    world::World,
};
use kiln_abi::{ExitId, POLL_BACK_EDGES, STACK_LIMIT, Slot, Word};
use kiln_ir::{
    Bounds, Cond, Limits, Op,
    ssa::{BlockId, Function, Store, Target, Terminator, Value},
};
use revm_primitives::U256;

fn u(value: u64) -> U256 {
    U256::from(value)
}

fn to(block: BlockId, args: &[Value]) -> Target {
    Target::Block { block, args: args.to_vec() }
}

fn back(block: BlockId, args: &[Value], exit: ExitId) -> Target {
    Target::Back { block, args: args.to_vec(), exit }
}

/// The loop of a Fibonacci contract: `n, a, b = n - 1, b, a + b` until `n` is 0. `n` has so many bits;
/// it lies in slot -1, the results go to slots 0 and 1, the height at the poll to slots 2 to 4.
pub fn fibonacci(bits: usize) -> (Builder, ExitId, ExitId) {
    let mut builder = Builder::new(1, 6);
    let first = builder.block(10);
    let head = builder.block(3);
    let body = builder.block(20);
    let n = builder.narrow_slot(first, -1, ones(bits));
    let [zero, one] = [0, 1].map(|value| builder.constant(u(value)));
    builder.end(first, Terminator::Jump(to(head, &[n, zero, one])));

    let n = builder.param(head, ones(bits));
    let [a, b] = [(); 2].map(|()| builder.param(head, U256::MAX));
    let done = builder.exit(&[(0, a), (1, b)]);
    let (taken, next) = (Target::Exit(done), to(body, &[]));
    builder.end(head, Terminator::Branch { cond: Cond::Eq, a: n, b: zero, taken, next });

    let sum = builder.word(body, Op::Add, &[a, b], 0);
    let sub = kiln_ir::ssa::Op::Word(Op::Sub);
    let less = builder.inst(body, sub, &[n, one], 0, Some(ones(bits)), None).unwrap();
    let polled = builder.exit(&[(2, less), (3, b), (4, sum)]);
    builder.end(body, Terminator::Jump(back(head, &[less, b, sum], polled)));
    (builder, done, polled)
}

fn expected_fibonacci(n: u64) -> (U256, U256) {
    (0..n).fold((U256::ZERO, u(1)), |(a, b), _| (b, a.wrapping_add(b)))
}

pub fn loops_carry_words() {
    for bits in [16, 64, 100, 256] {
        let (builder, done, _) = fibonacci(bits);
        let program = compile(&builder.function);
        for n in [0, 1, 2, 93, 94, 187, 400, 1000] {
            let mut machine = machine();
            machine.set(-1, u(n));
            let left = run(&program, &mut machine);
            assert_eq!(left.exit, done);
            assert_eq!((machine.get(0), machine.get(1)), expected_fibonacci(n), "{n}, {bits} bits");
            assert_eq!(machine.cx.gas, 1_000_000 - 10 - 3 * (n + 1) - 20 * n);
            assert_eq!(machine.cx.poll, POLL_BACK_EDGES - n as u32);
        }
    }
}

pub fn back_edges_poll() {
    let (builder, done, polled) = fibonacci(64);
    let program = compile(&builder.function);
    for poll in [0, 1, 5] {
        let mut machine = machine();
        machine.cx.poll = poll;
        machine.set(-1, u(100));
        assert_eq!(run(&program, &mut machine).exit, polled);
        let rounds = u64::from(poll) + 1;
        let (a, b) = expected_fibonacci(rounds);
        assert_eq!([2, 3, 4].map(|slot| machine.get(slot)), [u(100 - rounds), a, b]);
        assert_eq!(machine.cx.poll, u32::MAX);
        assert_eq!(machine.cx.gas, 1_000_000 - 10 - 23 * rounds);
    }
    let mut machine = machine();
    machine.cx.poll = 5;
    machine.set(-1, u(5));
    assert_eq!(run(&program, &mut machine).exit, done);
}

pub fn blocks_charge_gas_or_are_left() {
    let (builder, done, _) = fibonacci(64);
    let gas_exits: Vec<_> =
        builder.function.blocks.iter().map(|block| block.gas_exit.unwrap()).collect();
    let program = compile(&builder.function);
    for (gas, exit, left) in [
        (0, gas_exits[0], 0),
        (9, gas_exits[0], 9),
        (10, gas_exits[1], 0),
        (12, gas_exits[1], 2),
        (13, gas_exits[2], 0),
        (32, gas_exits[2], 19),
        (33, gas_exits[1], 0),
        (36, done, 0),
        (u64::MAX, done, u64::MAX - 36),
    ] {
        let mut machine = machine();
        machine.cx.gas = gas;
        machine.set(-1, u(1));
        assert_eq!(run(&program, &mut machine).exit, exit, "{gas}");
        assert_eq!(machine.cx.gas, left);
    }
}

/// A loop of one block: `n, a, b = n - 1, b, a + b` while `n` is not `last`. With `more`, the way out of the poll
/// writes a word that the next round is not given.
fn round_loop(last: u64, more: bool, bits: usize) -> Builder {
    let mut builder = Builder::new(3, 4);
    let first = builder.block(10);
    let round = builder.block(23);
    let behind = builder.block(2);
    let n = builder.narrow_slot(first, -1, ones(bits));
    let [a, outer] = [-2, -3].map(|slot| builder.slot(first, slot));
    builder.end(first, Terminator::Jump(to(round, &[n, a, outer])));

    let n = builder.param(round, ones(bits));
    let [a, b] = [(); 2].map(|()| builder.param(round, U256::MAX));
    let short = builder.function.blocks[round.0 as usize].gas_exit.unwrap();
    let sum = builder.word(round, Op::Add, &[a, b], 0);
    let product = builder.word(round, Op::Mul, &[a, b], 0);
    let last = builder.constant(u(last));
    let one = builder.constant(u(1));
    let sub = kiln_ir::ssa::Op::Word(Op::Sub);
    let less = builder.inst(round, sub, &[n, one], 0, Some(ones(bits)), None).unwrap();
    let polled = match more {
        true => builder.exit(&[(0, less), (1, b), (2, sum), (3, product)]),
        false => builder.exit(&[(0, less), (1, b), (2, sum), (-1, outer)]),
    };
    builder.end(
        round,
        Terminator::Branch {
            cond: Cond::Ne,
            a: n,
            b: last,
            taken: back(round, &[less, b, sum], polled),
            next: to(behind, &[]),
        },
    );
    let done = builder.exit(&[(0, less), (1, product), (2, sum)]);
    builder.end(behind, Terminator::Jump(Target::Exit(done)));
    // The way out of the gas, which was made with the block, writes what the round was given.
    let stores = [(0, n), (1, a), (2, b)].map(|(slot, value)| Store { slot: Slot(slot), value });
    let function = &mut builder.function;
    let at = function.stores_end[short.0 as usize] as usize;
    function.stores.splice(at..at, stores);
    function.stores_end[short.0 as usize..].iter_mut().for_each(|end| *end += 3);
    function.exits.exits.iter_mut().skip(1).for_each(|exit| exit.height = 4);
    builder
}

pub fn loops_of_one_block_leave_where_they_must() {
    let mut rng = fastrand::Rng::with_seed(4);
    for (last, more, bits) in
        [(0, false, 256), (1, false, 64), (1, true, 64), (0, true, 256), (1, false, 256)]
    {
        let function = round_loop(last, more, bits).function;
        let program = compile(&function);
        let mut run = |gas, poll, n| {
            let mut expected = World::new(&mut rng, &[], &function.exits);
            expected.stack = vec![Word([7, 8, 9, 10]); STACK_LIMIT];
            expected.height = 3;
            let words = [u(3), u(5) << 200, u(n)];
            expected
                .stack
                .iter_mut()
                .zip(words)
                .for_each(|(slot, word)| *slot = support::word(word));
            (expected.gas, expected.poll) = (gas, poll);
            let mut native = expected.clone();
            let exit = kiln_ir::ssa::eval::run(&function, &mut expected);
            let what = (gas, poll, n, last, more, bits);
            assert_eq!(native.run(&program, 0), exit, "{what:?}");
            assert_eq!(native.state(), expected.state(), "{what:?}");
        };
        for poll in [0, 1, 2, 3, 5, 1000, u32::MAX - 1, u32::MAX] {
            for n in 1..6 {
                for gas in 0..180 {
                    run(gas, poll, n);
                }
                run(1 << 40, poll, n);
            }
            if poll < 10 {
                run(u64::MAX, poll, 1 << 40);
            }
        }
    }
}

pub fn the_head_checks_the_stack() {
    let (mut builder, done, _) = fibonacci(64);
    builder.function.need = 3;
    builder.function.grow = 7;
    let program = compile(&builder.function);
    for (height, exit) in [
        (0, HEAD),
        (2, HEAD),
        (3, done),
        (HEIGHT, done),
        (STACK_LIMIT - 7, done),
        (STACK_LIMIT - 6, HEAD),
        (STACK_LIMIT, HEAD),
    ] {
        let mut machine = machine();
        machine.height = height;
        if height > 0 {
            machine.set(-1, u(3));
        }
        let before = machine.stack.clone();
        assert_eq!(run(&program, &mut machine).exit, exit, "{height}");
        if exit == HEAD {
            assert!(machine.stack == before && machine.cx.gas == 1_000_000);
        }
    }
}

pub fn branches_of_all_kinds() {
    for cond in Cond::ALL {
        for kinds in 0..9 {
            let mut builder = Builder::new(0, 0);
            let first = builder.block(0);
            let left = builder.block(0);
            let right = builder.block(0);
            let a = builder.narrow_slot(first, -1, ones(128));
            let b = builder.slot(first, -2);
            let [p, q] = [left, right].map(|block| builder.param(block, ones(256)));
            let polled = builder.exit(&[(3, a)]);
            let [yes, no] = [builder.exit(&[(1, p)]), builder.exit(&[(2, q)])];
            let [out_yes, out_no] = [builder.exit(&[(4, b)]), builder.exit(&[(5, a)])];
            builder.end(left, Terminator::Jump(Target::Exit(yes)));
            builder.end(right, Terminator::Jump(Target::Exit(no)));
            let target = |kind, block, args: &[Value], exit| match kind {
                0 => to(block, args),
                1 => back(block, args, polled),
                _ => Target::Exit(exit),
            };
            let taken = target(kinds / 3, left, &[b], out_yes);
            let next = target(kinds % 3, right, &[a], out_no);
            builder.end(first, Terminator::Branch { cond, a, b, taken, next });
            let program = compile(&builder.function);
            for (x, y) in [(1, 2), (2, 1), (2, 2)] {
                let mut machine = machine();
                machine.set(-1, u(x));
                machine.set(-2, u(y));
                let holds = kiln_ir::fold::compare(cond, &x.into(), &y.into());
                let expected = match (holds, kinds / 3, kinds % 3) {
                    (true, 2, _) => (out_yes, 4, y),
                    (true, ..) => (yes, 1, y),
                    (false, _, 2) => (out_no, 5, x),
                    (false, ..) => (no, 2, x),
                };
                let exit = run(&program, &mut machine).exit;
                assert_eq!(
                    (exit, expected.1, machine.get(expected.1)),
                    (expected.0, expected.1, u(expected.2))
                );
            }
        }
    }
}

pub fn parameters_are_exchanged() {
    let mut builder = Builder::new(0, 0);
    let first = builder.block(0);
    let head = builder.block(0);
    let words = [-1, -2, -3].map(|slot| builder.slot(first, slot));
    let count = builder.narrow_slot(first, -4, ones(8));
    builder.end(first, Terminator::Jump(to(head, &[words[0], words[1], words[2], count])));
    let [a, b, c] = [(); 3].map(|()| builder.param(head, U256::MAX));
    let n = builder.param(head, ones(8));
    let one = builder.constant(u(1));
    let zero = builder.constant(u(0));
    let sub = kiln_ir::ssa::Op::Word(Op::Sub);
    let less = builder.inst(head, sub, &[n, one], 0, Some(ones(8)), None).unwrap();
    let done = builder.exit(&[(0, a), (1, b), (2, c)]);
    let next = back(head, &[b, c, a, less], HEAD);
    let taken = Target::Exit(done);
    builder.end(head, Terminator::Branch { cond: Cond::Eq, a: less, b: zero, taken, next });
    let program = compile(&builder.function);
    for rounds in 1..8u64 {
        let mut machine = machine();
        let words = [u(11) << 200, u(22) << 130, u(33)];
        (1..).zip(words).for_each(|(slot, word): (i16, _)| machine.set(-slot, word));
        machine.set(-4, u(rounds));
        assert_eq!(run(&program, &mut machine).exit, done);
        let mut expected = words;
        expected.rotate_left((rounds - 1) as usize % 3);
        assert_eq!([0, 1, 2].map(|slot| machine.get(slot)), expected);
    }
}

pub fn compilations_are_bounded() {
    let (builder, ..) = fibonacci(64);
    let compile = |function: &Function, limits: &Limits| backend().compile(function, limits.into());
    let limits = Limits { text_ratio_max: 0, text_bytes_free: 100, ..Limits::NONE };
    let refused = compile(&builder.function, &limits);
    assert!(matches!(refused, Err(Refused::Text { is: 101.., max: 100 })), "{refused:?}");
    let mut large = Builder::new(0, 40);
    let block = large.block(0);
    let words: Vec<_> = (0..40).map(|slot| large.slot(block, slot)).collect();
    for at in 0..40 {
        let stores: Vec<_> = (0..40).map(|slot| (slot, words[(at + slot) as usize % 40])).collect();
        let exit = large.exit(&stores);
        let (at, load) = (large.constant(u(at as u64)), kiln_ir::ssa::Op::Word(Op::Mload));
        large.inst(block, load, &[at], 0, Some(U256::MAX), Some(exit));
    }
    let refused = compile(&large.function, &Limits::NONE);
    assert_eq!(refused, Err(Refused::TooLarge));
    let cancelled = Bounds { limits: &Limits::NONE, cancelled: &|| true };
    let refused = backend().compile(&builder.function, cancelled);
    assert_eq!(refused, Err(Refused::Cancelled));
    let object = compile(&builder.function, &Limits::NONE).unwrap();
    assert_eq!(object.blocks, 3);
    assert!(object.code_len <= object.records && object.records < object.text.len());
}

pub fn malformed_functions_are_refused() {
    let compile = |function: &Function| backend().compile(function, (&Limits::NONE).into());
    let refused = |change: &dyn Fn(&mut Builder)| {
        let (mut builder, ..) = fibonacci(64);
        change(&mut builder);
        match compile(&builder.function) {
            Err(Refused::Malformed(what)) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|b| b.function.blocks[2].insts[0].args[1] = None), "an operand is missing");
    assert_eq!(
        refused(&|b| b.function.blocks[2].insts[0].args[1] = Some(Value(99))),
        "no such value"
    );
    assert_eq!(refused(&|b| b.function.blocks[1].gas_exit = None), "an exit is missing");
    assert_eq!(
        refused(&|b| b.function.blocks[0].terminator = Terminator::Jump(to(BlockId(7), &[]))),
        "no such block"
    );
    assert_eq!(
        refused(&|b| b.function.blocks[0].terminator = Terminator::Jump(to(BlockId(1), &[]))),
        "an edge with other arguments than parameters"
    );
    assert_eq!(
        refused(&|b| b.function.blocks[0].terminator = Terminator::Jump(Target::Exit(ExitId(99)))),
        "no such exit"
    );
    assert_eq!(refused(&|b| b.function.blocks.clear()), "an operand is missing");
    let (builder, ..) = fibonacci(64);
    assert!(compile(&builder.function).is_ok());
}
