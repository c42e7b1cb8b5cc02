//! Memory, calldata, the frame's environment, helpers.

use crate::{
    build::{Builder, ones},
    run::{compile, machine as empty_machine, run},
    support::{Called, HEIGHT, Machine, number, random, word},
};
use kiln_abi::{ExitId, Helper};
use kiln_ir::{
    Op,
    ssa::{self, BlockId, Target, Terminator, Value},
};
use revm_primitives::U256;

fn u(value: u64) -> U256 {
    U256::from(value)
}

/// A machine with memory, calldata and stack full of noise.
fn machine(seed: u64) -> Box<Machine> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut machine = empty_machine();
    machine.scramble(&mut rng);
    machine.memory.iter_mut().for_each(|byte| *byte = rng.u8(..));
    machine.calldata = std::iter::repeat_with(|| rng.u8(..)).take(100).collect();
    machine.address.iter_mut().for_each(|byte| *byte = rng.u8(..));
    machine.caller.iter_mut().for_each(|byte| *byte = rng.u8(..));
    machine.value = word(random(&mut rng));
    machine.cx.returndata_len = rng.u64(..1000);
    machine
}

/// How an offset is known: as a constant, or as a stack word (slot -2) of so many bits.
#[derive(Clone, Copy, Debug)]
enum Known {
    Constant,
    Bits(usize),
}

const KNOWN: [Known; 4] = [Known::Constant, Known::Bits(32), Known::Bits(64), Known::Bits(256)];

impl Known {
    fn fits(self, offset: U256) -> bool {
        match self {
            Self::Constant => true,
            Self::Bits(bits) => offset <= ones(bits),
        }
    }

    fn operand(self, builder: &mut Builder, block: BlockId, offset: U256) -> Value {
        match self {
            Self::Constant => builder.constant(offset),
            Self::Bits(bits) => builder.narrow_slot(block, -2, ones(bits)),
        }
    }
}

const ACCESSES: [(Op, u64); 3] = [(Op::Mload, 32), (Op::Mstore, 32), (Op::Mstore8, 1)];

/// One access at `offset`: what it leaves through if refused, and when it is done. A word goes to slot 3.
fn access(op: Op, known: Known, offset: U256, checked: bool) -> (Builder, ExitId, ExitId) {
    let mut builder = Builder::new(0, 0);
    let block = builder.block(0);
    let at = known.operand(&mut builder, block, offset);
    let value = builder.slot(block, -1);
    let side = builder.exit(&[(6, value)]);
    let exit = checked.then_some(side);
    let op = ssa::Op::Word(op);
    let done = if op == ssa::Op::Word(Op::Mload) {
        let word = builder.inst(block, op, &[at], 0, Some(U256::MAX), exit).unwrap();
        if !checked {
            builder.unchecked(block);
        }
        builder.exit(&[(3, word)])
    } else {
        builder.inst(block, op, &[at, value], 0, None, exit);
        if !checked {
            builder.unchecked(block);
        }
        builder.exit(&[])
    };
    builder.end(block, Terminator::Jump(Target::Exit(done)));
    (builder, side, done)
}

/// What memory holds behind an access.
fn expected(machine: &Machine, op: Op, at: usize) -> Vec<u8> {
    let (mut memory, value) = (machine.memory.clone(), machine.get(-1));
    match op {
        Op::Mstore => memory[at..at + 32].copy_from_slice(&value.to_be_bytes::<32>()),
        Op::Mstore8 => memory[at] = value.byte(0),
        _ => {}
    }
    memory
}

pub fn covered_memory_is_accessed() {
    for (op, size) in ACCESSES {
        for offset in [0, 1, 31, 64, 95, 104, 223, 224, 255] {
            for known in KNOWN {
                for checked in [false, true] {
                    if offset + size > 256 || matches!(known, Known::Bits(65..)) && !checked {
                        continue;
                    }
                    let mut machine = machine(offset);
                    let at = offset as usize;
                    machine.set(-2, u(offset));
                    let (builder, _, done) = access(op, known, u(offset), checked);
                    let memory = expected(&machine, op, at);
                    let left = run(&compile(&builder.function), &mut machine);
                    assert_eq!((left.exit, machine.cx.gas), (done, 1_000_000));
                    assert_eq!(machine.memory, memory, "{op:?} {offset} {known:?}");
                    if op == Op::Mload {
                        assert_eq!(machine.get(3), U256::from_be_slice(&memory[at..at + 32]));
                    }
                    assert!(machine.host.calls.is_empty());
                }
            }
        }
    }
}

pub fn words_of_few_limbs_and_constants_are_stored() {
    for value in [U256::ZERO, u(5), u(u64::MAX), U256::MAX - u(31), u(7) << 192] {
        for bits in [8, 64, 128, 256] {
            let mut builder = Builder::new(0, 0);
            let block = builder.block(0);
            let [a, b] = [0, 64].map(|at| builder.constant(u(at)));
            let constant = builder.constant(value);
            let narrow = builder.narrow_slot(block, -1, ones(bits));
            let store = ssa::Op::Word(Op::Mstore);
            for (at, value) in [(a, constant), (b, narrow)] {
                let exit = builder.exit(&[]);
                builder.inst(block, store, &[at, value], 0, None, Some(exit));
            }
            let load = ssa::Op::Word(Op::Mload);
            let exit = builder.exit(&[]);
            let max = ones(bits);
            let word = builder.inst(block, load, &[b], 0, Some(max), Some(exit)).unwrap();
            let done = builder.exit(&[(1, word)]);
            builder.end(block, Terminator::Jump(Target::Exit(done)));
            let mut machine = machine(1);
            let narrow = machine.get(-1) & ones(bits);
            machine.set(-1, narrow);
            let mut memory = machine.memory.clone();
            memory[..32].copy_from_slice(&value.to_be_bytes::<32>());
            memory[64..96].copy_from_slice(&narrow.to_be_bytes::<32>());
            assert_eq!(run(&compile(&builder.function), &mut machine).exit, done);
            assert_eq!((machine.memory.clone(), machine.get(1)), (memory, narrow));
        }
    }
}

pub fn memory_behind_the_limit_is_expanded() {
    for (op, size) in ACCESSES {
        for offset in [256, 300] {
            for known in KNOWN {
                let mut machine = machine(7);
                machine.memory.resize(512, 9);
                machine.set(-2, u(offset));
                machine.believed = Some(256);
                machine.host.expanded = 512;
                let (builder, side, done) = access(op, known, u(offset), true);
                let memory = expected(&machine, op, offset as usize);
                assert_eq!(run(&compile(&builder.function), &mut machine).exit, done);
                let [called] = &machine.host.calls[..] else { panic!("one call") };
                assert_eq!((called.helper, called.exit), (Helper::Expand, side));
                assert_eq!(called.expand, Some((None, offset, size)));
                assert_eq!(machine.memory, memory);
                if op == Op::Mload {
                    let at = offset as usize;
                    assert_eq!(machine.get(3), U256::from_be_slice(&memory[at..at + 32]));
                }
            }
        }
    }
}

pub fn refused_expansion_leaves_in_front_of_the_instruction() {
    let wide = [U256::from(1) << 64, U256::from(1) << 255, U256::MAX];
    let offsets = [256, 1 << 30, 1 << 40, u64::MAX].map(u).into_iter().chain(wide);
    for offset in offsets {
        for (op, _) in ACCESSES {
            for known in KNOWN.into_iter().filter(|known| known.fits(offset)) {
                let mut machine = machine(8);
                machine.host.refuse = true;
                machine.set(-2, offset);
                let (builder, side, _) = access(op, known, offset, true);
                let (mut stack, memory) = (machine.words(), machine.memory.clone());
                stack[HEIGHT + 6] = word(machine.get(-1));
                assert_eq!(run(&compile(&builder.function), &mut machine).exit, side);
                assert_eq!((machine.words(), machine.memory.clone()), (stack, memory));
                assert_eq!(machine.cx.gas, 1_000_000);
                assert_eq!(machine.host.calls.len(), usize::from(offset <= u(u64::MAX)));
            }
        }
    }
}

/// A function of one operation whose result goes to slot 3.
fn single(op: Op, args: &[Option<U256>], imm: u32) -> Builder {
    let mut builder = Builder::new(0, 0);
    let block = builder.block(0);
    let mut operands = Vec::new();
    for (slot, arg) in (2..).zip(args) {
        operands.push(match *arg {
            Some(value) => builder.constant(value),
            None => builder.slot(block, -slot),
        });
    }
    let word = builder.word(block, op, &operands, imm);
    let done = builder.exit(&[(3, word)]);
    builder.end(block, Terminator::Jump(Target::Exit(done)));
    builder
}

pub fn calldata_is_loaded() {
    let beyond =
        [u(69), u(100), u(1 << 32), u(u64::MAX), u(u64::MAX - 31), U256::MAX, U256::from(1) << 64];
    for offset in [0, 4, 36, 67, 68].map(u).into_iter().chain(beyond) {
        for constant in [None, Some(offset)] {
            let mut machine = machine(10);
            machine.host.writes = true;
            machine.host.result = u(0xabcd);
            machine.set(-2, offset);
            let builder = single(Op::Calldataload, &[constant], 0);
            run(&compile(&builder.function), &mut machine);
            if offset <= u(68) {
                let at = offset.to::<usize>();
                assert_eq!(machine.get(3), U256::from_be_slice(&machine.calldata[at..at + 32]));
                assert!(machine.host.calls.is_empty());
            } else {
                assert_eq!(machine.get(3), u(0xabcd));
                let [called] = &machine.host.calls[..] else { panic!("one call") };
                assert_eq!(called.helper, Helper::Calldataload);
                assert_eq!(called.words[1..], [Some(offset), None]);
            }
        }
    }
}

pub fn the_environment_is_read() {
    let read = |op, imm| {
        let mut machine = machine(11);
        machine.cx.gas = 4321;
        let builder = single(op, &[], imm);
        run(&compile(&builder.function), &mut machine);
        (machine.get(3), machine)
    };
    let (address, machine) = read(Op::Address, 0);
    assert_eq!(address, U256::from_be_slice(&machine.address));
    let (caller, machine) = read(Op::Caller, 0);
    assert_eq!(caller, U256::from_be_slice(&machine.caller));
    let (value, machine) = read(Op::CallValue, 0);
    assert_eq!(value, number(machine.value));
    assert_eq!(read(Op::Calldatasize, 0).0, u(100));
    let (size, machine) = read(Op::Returndatasize, 0);
    assert_eq!(size, u(machine.cx.returndata_len));
    assert_eq!(read(Op::Msize, 0).0, u(256));
    assert_eq!(read(Op::Gas, 0).0, u(4321));
    assert_eq!(read(Op::Gas, 77).0, u(4398));
}

pub fn guarded_helpers_act_or_leave() {
    use Helper::*;
    let cases = [
        (Exp, true, 2),
        (Keccak256, true, 2),
        (Sload, true, 1),
        (Tload, true, 1),
        (Tstore, false, 2),
        (Calldatacopy, false, 3),
        (Codecopy, false, 3),
        (Returndatacopy, false, 3),
        (Mcopy, false, 3),
    ];
    for (helper, has_dst, count) in cases {
        for refuse in [false, true] {
            let mut machine = machine(13);
            machine.host.refuse = refuse;
            machine.host.writes = has_dst;
            machine.host.result = u(99);
            let mut builder = Builder::new(0, 0);
            let block = builder.block(7);
            let constant = builder.constant(u(1234));
            let args = [builder.slot(block, -2), constant, builder.narrow_slot(block, -3, ones(8))];
            machine.set(-3, u(200));
            let values = [machine.get(-2), u(1234), u(200)];
            let side = builder.exit(&[(6, args[0])]);
            let max = has_dst.then_some(U256::MAX);
            let op = ssa::Op::Word(Op::Guarded(helper));
            let word = builder.inst(block, op, &args[..count], 0, max, Some(side));
            let done = match word {
                Some(word) => builder.exit(&[(3, word), (4, args[0])]),
                None => builder.exit(&[(4, args[0])]),
            };
            builder.end(block, Terminator::Jump(Target::Exit(done)));
            let exit = run(&compile(&builder.function), &mut machine).exit;
            assert_eq!(exit, if refuse { side } else { done }, "{helper:?}");
            assert_eq!(machine.get(if refuse { 6 } else { 4 }), values[0]);
            assert_eq!(machine.cx.gas, 1_000_000 - 7);
            if has_dst && !refuse {
                assert_eq!(machine.get(3), u(99));
            }
            let [Called { words, exit, .. }] = machine.host.calls[..] else { panic!("one call") };
            assert_eq!(exit, side);
            let given: Vec<_> = match helper {
                Sload | Tload => vec![words[1]],
                _ => words[3 - count..].to_vec(),
            };
            assert_eq!(given, values[..count].iter().map(|&word| Some(word)).collect::<Vec<_>>());
        }
    }
}

pub fn helpers_see_and_take_gas() {
    // The expansion takes gas; what follows charges what is left.
    unsafe extern "C" fn expand(
        cx: *mut kiln_abi::Context,
        _: kiln_abi::ExitRecord,
        _: *const kiln_abi::Word,
        _: u64,
        _: u64,
    ) -> u64 {
        // SAFETY: the context the region was entered with.
        unsafe {
            assert_eq!((*cx).gas, 900);
            (*cx).gas -= 300;
            (*cx).mem_word_limit = 1 << 20;
        }
        kiln_abi::CONTINUE
    }
    let mut machine = machine(3);
    machine.believed = Some(0);
    // SAFETY: the table that `machine` has lives as long as the test.
    let table = kiln_abi::HelperTable { expand, ..unsafe { *machine.cx.helpers } };
    machine.cx.helpers = &table;
    let mut builder = Builder::new(0, 0);
    let first = builder.block(100);
    let second = builder.block(50);
    let at = builder.constant(u(32));
    let side = builder.exit(&[]);
    let load = ssa::Op::Word(Op::Mload);
    let word = builder.inst(first, load, &[at], 0, Some(U256::MAX), Some(side)).unwrap();
    builder.end(first, Terminator::Jump(Target::Block { block: second, args: Vec::new() }));
    let gas = builder.word(second, Op::Gas, &[], 0);
    let done = builder.exit(&[(1, gas), (2, word)]);
    builder.end(second, Terminator::Jump(Target::Exit(done)));
    let program = compile(&builder.function);
    machine.cx.gas = 1000;
    assert_eq!(run(&program, &mut machine).exit, done);
    assert_eq!((machine.cx.gas, machine.get(1)), (550, u(550)));
    assert_eq!(machine.get(2), U256::from_be_slice(&machine.memory[32..64]));
}

pub fn instructions_run_on_the_canonical_stack() {
    for helper in [Helper::Sstore, Helper::Log, Helper::Instruction] {
        for refuse in [false, true] {
            let mut machine = machine(14);
            machine.host.refuse = refuse;
            let mut builder = Builder::new(0, 0);
            let block = builder.block(5);
            let [a, b] = [builder.slot(block, -1), builder.slot(block, -2)];
            let sum = builder.word(block, Op::Add, &[a, b], 0);
            let exit = builder.exit(&[(0, sum), (-2, a)]);
            builder.inst(block, ssa::Op::Run(helper), &[], 0, None, Some(exit));
            // What lies there now, not what was read in front of it.
            let again = builder.slot(block, -2);
            let done = builder.exit(&[(4, again), (5, sum), (6, b)]);
            builder.end(block, Terminator::Jump(Target::Exit(done)));
            let (x, y) = (machine.get(-1), machine.get(-2));
            let left = run(&compile(&builder.function), &mut machine);
            assert_eq!(left.exit, if refuse { exit } else { done });
            let sum = x.wrapping_add(y);
            assert_eq!((machine.get(0), machine.get(-2)), (sum, x));
            if !refuse {
                assert_eq!([4, 5, 6].map(|slot| machine.get(slot)), [x, sum, y]);
            }
            let [called] = &machine.host.calls[..] else { panic!("one call") };
            assert_eq!((called.helper, called.exit), (helper, exit));
            assert_eq!(called.height, Some(HEIGHT));
            assert_eq!(machine.cx.gas, 1_000_000 - 5);
        }
    }
}
