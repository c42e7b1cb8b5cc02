//! Memory, calldata, the frame's environment, helpers, checks and jumps.

use kiln_abi::{Helper, HelperShape, POLL_BACK_EDGES, Pc, Records, Slot, Word};
use kiln_ir::{Bounds, Inst, Limits, Op, Operand, Target, Terminator};
use kiln_region_tests::support::*;
use revm_primitives::U256;

fn u(value: u64) -> U256 {
    U256::from(value)
}

/// A machine with memory, calldata and stack full of noise.
fn machine(seed: u64) -> Box<Machine> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut machine = Machine::new();
    machine.scramble(&mut rng);
    machine.memory.iter_mut().for_each(|byte| *byte = rng.u8(..));
    machine.calldata = std::iter::repeat_with(|| rng.u8(..)).take(100).collect();
    machine.address.iter_mut().for_each(|byte| *byte = rng.u8(..));
    machine.caller.iter_mut().for_each(|byte| *byte = rng.u8(..));
    machine.value = word(random(&mut rng));
    machine.cx.returndata_len = rng.u64(..1000);
    machine
}

fn single(builder: &mut Builder, inst: Inst) -> Program {
    builder.region(0, &[inst], Terminator::Exit(DONE));
    builder.program()
}

const FINISHED: Left = Left { exit: DONE, moved: 0 };
const SIDE_EXIT: Left = Left { exit: SIDE, moved: 0 };

/// Offsets into 256 bytes of memory: aligned and not, and the last that fit.
const OFFSETS: [u64; 9] = [0, 1, 31, 64, 95, 96, 104, 128, 223];

#[test]
fn mload_reads_covered_memory() {
    for offset in OFFSETS.into_iter().chain([224]) {
        for (dst, a) in [(-1, -2), (-1, -1), (9, -3), (1, -9), (9, 9)] {
            let mut machine = machine(offset);
            let at = offset as usize;
            let expected = U256::from_be_slice(&machine.memory[at..at + 32]);
            machine.set(a, u(offset));
            let program = single(&mut Builder::new(), inst(Op::Mload, Some(dst), &[slot(a)]));
            assert_eq!(program.run(&mut machine, 0), FINISHED);
            assert_eq!(machine.get(dst), expected, "{offset}");
            for checked in [false, true] {
                let mut builder = Builder::new();
                let a = builder.constant(u(offset));
                let inst = Inst { checked, ..inst(Op::Mload, Some(dst), &[a]) };
                let program = single(&mut builder, inst);
                machine.set(dst, u(7));
                assert_eq!(program.run(&mut machine, 0), FINISHED);
                assert_eq!(machine.get(dst), expected, "{offset}");
            }
            assert!(machine.host.calls.is_empty());
        }
    }
}

/// Slots, and constants of all kinds.
fn stored(builder: &mut Builder, machine: &mut Machine, kind: usize) -> (Operand, U256) {
    let constants = [
        U256::ZERO,
        u(0x80),
        u(u64::MAX),
        U256::from_limbs([0, 0, 0, 0x4e48_7b71_0000_0000]),
        U256::MAX - u(31),
    ];
    match constants.get(kind) {
        Some(&value) => (builder.constant(value), value),
        None => {
            let at = [-3, 9][kind - constants.len()];
            (slot(at), machine.get(at))
        }
    }
}

#[test]
fn mstore_writes_covered_memory() {
    for offset in OFFSETS.into_iter().chain([224]) {
        for kind in 0..7 {
            for at in [Some(-1), Some(12), None] {
                for checked in [false, true] {
                    let mut machine = machine(offset);
                    let mut builder = Builder::new();
                    let (value_operand, value) = stored(&mut builder, &mut machine, kind);
                    let a = match at {
                        Some(at) => {
                            machine.set(at, u(offset));
                            slot(at)
                        }
                        None => builder.constant(u(offset)),
                    };
                    let inst = Inst { checked, ..inst(Op::Mstore, None, &[a, value_operand]) };
                    let program = single(&mut builder, inst);
                    let mut expected = machine.memory.clone();
                    expected[offset as usize..][..32].copy_from_slice(&value.to_be_bytes::<32>());
                    let stack = machine.words();
                    assert_eq!(program.run(&mut machine, 0), FINISHED);
                    assert_eq!(machine.memory, expected, "{offset} {kind} {at:?}");
                    assert_eq!(machine.words(), stack);
                }
            }
        }
    }
}

#[test]
fn mstore8_writes_covered_memory() {
    for offset in [0, 100, 255] {
        for kind in 0..7 {
            for at in [Some(-1), Some(12), None] {
                let mut machine = machine(offset);
                let mut builder = Builder::new();
                let (value_operand, value) = stored(&mut builder, &mut machine, kind);
                let a = match at {
                    Some(at) => {
                        machine.set(at, u(offset));
                        slot(at)
                    }
                    None => builder.constant(u(offset)),
                };
                let program = single(&mut builder, inst(Op::Mstore8, None, &[a, value_operand]));
                let mut expected = machine.memory.clone();
                expected[offset as usize] = value.byte(0);
                assert_eq!(program.run(&mut machine, 0), FINISHED);
                assert_eq!(machine.memory, expected);
            }
        }
    }
}

/// The operations on memory, with the size they touch.
fn memory_operations(builder: &mut Builder, a: Operand) -> [(Inst, u64); 3] {
    let value = builder.constant(u(5));
    [
        (inst(Op::Mload, Some(-1), &[a]), 32),
        (inst(Op::Mstore, None, &[a, value]), 32),
        (inst(Op::Mstore8, None, &[a, slot(-4)]), 1),
    ]
}

#[test]
fn memory_behind_the_limit_is_expanded() {
    for which in 0..3 {
        for (offset, constant) in [(300, false), (300, true), (256, false), (256, true)] {
            let mut machine = machine(7);
            machine.memory = vec![0; 512];
            machine.memory[316] = 9;
            machine.set(-2, u(offset));
            let mut builder = Builder::new();
            let a = if constant { builder.constant(u(offset)) } else { slot(-2) };
            let (inst, size) = memory_operations(&mut builder, a)[which];
            let program = single(&mut builder, inst);
            machine.believed = Some(256);
            machine.host.expanded = 512;
            assert_eq!(program.run(&mut machine, 0), FINISHED, "{inst:?}");
            let [called] = &machine.host.calls[..] else { panic!("one call") };
            assert_eq!((called.helper, called.exit), (Helper::Expand, SIDE));
            let expected = if constant { (None, offset, size) } else { (Some(u(offset)), 0, size) };
            assert_eq!(called.expand, Some(expected));
            if which == 0 {
                let at = offset as usize;
                assert_eq!(machine.get(-1), U256::from_be_slice(&machine.memory[at..at + 32]));
            }
        }
    }
}

#[test]
fn refused_expansion_leaves_in_front_of_the_instruction() {
    let huge =
        [u(256), u(1 << 40), u(u64::MAX), U256::from(1) << 64, U256::from(1) << 255, U256::MAX];
    for which in 0..3 {
        for offset in huge {
            let mut machine = machine(8);
            machine.host.refuse = true;
            machine.set(-2, offset);
            let mut builder = Builder::new();
            let (inst, _) = memory_operations(&mut builder, slot(-2))[which];
            let program = single(&mut builder, inst);
            let (stack, memory) = (machine.words(), machine.memory.clone());
            assert_eq!(program.run(&mut machine, 0), SIDE_EXIT);
            assert_eq!((machine.words(), machine.memory.clone()), (stack, memory));
            assert_eq!(machine.host.calls.len(), 1);
        }
    }
}

#[test]
fn a_word_at_the_limit_is_not_covered() {
    let mut machine = machine(9);
    machine.host.refuse = true;
    for (offset, left) in [(224, FINISHED), (225, SIDE_EXIT)] {
        machine.set(-2, u(offset));
        for constant in [false, true] {
            let mut builder = Builder::new();
            let a = if constant { builder.constant(u(offset)) } else { slot(-2) };
            let program = single(&mut builder, inst(Op::Mload, Some(-1), &[a]));
            assert_eq!(program.run(&mut machine, 0), left);
        }
    }
}

#[test]
fn offsets_that_are_no_displacement_are_refused() {
    let mut builder = Builder::new();
    let a = builder.constant(u(1 << 31));
    builder.region(0, &[inst(Op::Mload, Some(0), &[a])], Terminator::Exit(DONE));
    assert!(kiln_tier0::compile(&LIBRARY, &builder.module, &Limits::default()).is_err());
}

#[test]
fn calldataload() {
    let beyond =
        [u(69), u(100), u(1 << 32), u(u64::MAX), u(u64::MAX - 31), U256::MAX, U256::from(1) << 64];
    for offset in [0, 4, 36, 67, 68].map(u).into_iter().chain(beyond) {
        for (dst, a) in [(-1, -2), (-1, -1), (9, -9)] {
            for constant in [false, true] {
                let mut machine = machine(10);
                machine.host.writes = true;
                machine.host.result = u(0xabcd);
                machine.set(a, offset);
                let mut builder = Builder::new();
                let a = if constant { builder.constant(offset) } else { slot(a) };
                let program = single(
                    &mut builder,
                    Inst { exit: None, ..inst(Op::Calldataload, Some(dst), &[a]) },
                );
                assert_eq!(program.run(&mut machine, 0), FINISHED);
                if offset <= u(68) {
                    let at = offset.to::<usize>();
                    let expected = U256::from_be_slice(&machine.calldata[at..at + 32]);
                    assert_eq!(machine.get(dst), expected);
                    assert!(machine.host.calls.is_empty());
                } else {
                    assert_eq!(machine.get(dst), u(0xabcd));
                    let [called] = &machine.host.calls[..] else { panic!("one call") };
                    assert_eq!(called.helper, Helper::Calldataload);
                    assert_eq!(called.words[1..], [Some(offset), None]);
                }
            }
        }
    }
}

#[test]
fn environment() {
    for dst in [-1, 9] {
        let read = |op, imm| {
            let mut machine = machine(11);
            machine.cx.gas = 4321;
            let program = single(&mut Builder::new(), Inst { imm, ..inst(op, Some(dst), &[]) });
            let mut expected = machine.words();
            assert_eq!(program.run(&mut machine, 0), FINISHED);
            expected[(HEIGHT as isize + dst as isize) as usize] = word(machine.get(dst));
            assert_eq!(machine.words(), expected, "only the destination is written");
            (machine.get(dst), machine)
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
        assert_eq!(read(Op::Gas, 1_000_000).0, u(1_004_321));
    }
}

#[test]
fn pure_helpers() {
    let mut rng = fastrand::Rng::with_seed(12);
    for &helper in Helper::ALL {
        let count = match helper.shape() {
            HelperShape::Pure1 => 1,
            HelperShape::Pure2 => 2,
            HelperShape::Pure3 => 3,
            _ => continue,
        };
        for round in 0..24 {
            let mut machine = machine(round);
            let mut builder = Builder::new();
            let slots = [[-1, -2, -3], [-9, 1, 8], [-1, -1, 9]][round as usize % 3];
            let dst = [-1, 9, -2][round as usize / 3 % 3];
            let operands: Vec<_> = (0..count)
                .map(|i| {
                    if rng.bool() {
                        let value = random(&mut rng);
                        (builder.constant(value), value)
                    } else {
                        (slot(slots[i]), machine.get(slots[i]))
                    }
                })
                .collect();
            let args: Vec<_> = operands.iter().map(|operand| operand.0).collect();
            let program = single(&mut builder, inst(Op::Pure(helper), Some(dst), &args));
            let expected = match operands[..] {
                [(_, a)] => mock1(a),
                [(_, a), (_, b)] if helper == Helper::Mul => a.wrapping_mul(b),
                [(_, a), (_, b)] => mock2(a, b),
                _ => mock3(operands[0].1, operands[1].1, operands[2].1),
            };
            assert_eq!(program.run(&mut machine, 0), FINISHED);
            assert_eq!(machine.get(dst), expected, "{helper:?}");
        }
    }
}

#[test]
fn guarded_helpers() {
    use Helper::*;
    // With destination and operands, with operands only.
    let cases = [
        (Exp, true, 2),
        (Keccak256, true, 2),
        (Sload, true, 1),
        (Tload, true, 1),
        (Calldataload, true, 1),
        (Tstore, false, 2),
        (Calldatacopy, false, 3),
        (Codecopy, false, 3),
        (Returndatacopy, false, 3),
        (Mcopy, false, 3),
    ];
    for (helper, has_dst, count) in cases {
        for refuse in [false, true] {
            // It never refuses, so its callers name no exit.
            if helper == Calldataload && refuse {
                continue;
            }
            let mut machine = machine(13);
            machine.host.refuse = refuse;
            machine.host.writes = has_dst;
            machine.host.result = u(99);
            let mut builder = Builder::new();
            let constant = builder.constant(u(1234));
            let args = [slot(-9), constant, slot(1)];
            let values = [machine.get(-9), u(1234), machine.get(1)];
            let dst = has_dst.then_some(-2);
            let program = single(&mut builder, inst(Op::Guarded(helper), dst, &args[..count]));
            let before = machine.get(-2);
            let left = program.run(&mut machine, 0);
            assert_eq!(left, if refuse { SIDE_EXIT } else { FINISHED }, "{helper:?}");
            let [called] = &machine.host.calls[..] else { panic!("one call") };
            let mut words: Vec<_> = values[..count].iter().map(|&value| Some(value)).collect();
            if has_dst {
                words.insert(0, Some(before));
                assert_eq!(machine.get(-2), if refuse { before } else { u(99) });
            } else if helper == Tstore {
                words.insert(0, None);
            }
            words.resize(3, None);
            assert_eq!(called.words[..], words, "{helper:?}");
            if helper != Calldataload {
                assert_eq!(called.exit, SIDE);
            }
        }
    }
}

#[test]
fn instruction_helpers() {
    for helper in [Helper::Sstore, Helper::Log, Helper::Instruction] {
        for refuse in [false, true] {
            let mut machine = machine(14);
            machine.host.refuse = refuse;
            let program = single(&mut Builder::new(), inst(Op::Instruction(helper), None, &[]));
            let left = program.run(&mut machine, 0);
            assert_eq!(left, if refuse { SIDE_EXIT } else { FINISHED });
            let [called] = &machine.host.calls[..] else { panic!("one call") };
            assert_eq!((called.helper, called.exit), (helper, SIDE));
            assert_eq!(called.height, Some(HEIGHT));
        }
    }
}

#[test]
fn the_check_guards_the_block() {
    // Gas, words needed, room needed; whether it passes with a stack of 40 words and 1000 gas.
    let cases = [
        (0, 0, 0, true),
        (1000, 0, 0, true),
        (1001, 0, 0, false),
        (3, 40, 0, true),
        (3, 41, 0, false),
        (127, 0, 984, true),
        (128, 0, 984, true),
        (128, 0, 985, false),
        (0, 3, 984, true),
        (0, 3, 985, false),
        (0, 41, 3, false),
        (0, 40, 3, true),
        (5, 2, 1, true),
        (1001, 2, 1, false),
        (5, 41, 1, false),
        (5, 2, 985, false),
        (0, 41, 0, false),
        (0, 0, 985, false),
    ];
    for (gas, need, grow, passes) in cases {
        let mut builder = Builder::new();
        let region = builder.region(0, &[], Terminator::Exit(DONE));
        (region.gas, region.need, region.grow) = (gas, need, grow);
        let program = builder.program();
        let mut machine = Machine::new();
        machine.cx.gas = 1000;
        let left = program.run(&mut machine, 0);
        let (exit, charged) = if passes { (DONE, gas) } else { (ENTRY, 0) };
        assert_eq!(left, Left { exit, moved: 0 }, "{gas} {need} {grow}");
        assert_eq!(machine.cx.gas, 1000 - u64::from(charged));
    }
    // More gas than a signed number holds.
    let mut builder = Builder::new();
    builder.region(0, &[], Terminator::Exit(DONE)).gas = 9;
    let mut machine = Machine::new();
    machine.cx.gas = u64::MAX;
    assert_eq!(builder.program().run(&mut machine, 0), FINISHED);
    assert_eq!(machine.cx.gas, u64::MAX - 9);
}

#[test]
fn jumps_between_regions() {
    let mut builder = Builder::new();
    let one = builder.constant(u(1));
    let zero = builder.constant(U256::ZERO);
    // @0: s0 = 1, and up by one; @10: count s-1 down until zero; @20: out.
    let push = inst(Op::Copy, Some(0), &[one]);
    builder.region(0, &[push], Terminator::Jump(Target::Region(1))).height = 1;
    let sub = inst(Op::Sub, Some(-2), &[slot(-2), one]);
    let again = Terminator::Branch {
        cond: kiln_ir::Cond::Ne,
        a: slot(-2),
        b: zero,
        taken: Target::Back { region: 1, exit: SIDE },
        next: Target::Region(2),
    };
    builder.region(10, &[sub], again).gas = 10;
    builder.region(20, &[], Terminator::Jump(Target::Region(3))).height = -1;
    builder.region(30, &[], Terminator::Exit(DONE));
    let program = builder.program();
    let mut machine = machine(15);
    machine.set(-1, u(12));
    assert_eq!(program.run(&mut machine, 0), FINISHED);
    assert_eq!((machine.get(-1), machine.get(0)), (U256::ZERO, u(1)));
    assert_eq!(machine.cx.gas, 1_000_000 - 120);
    assert_eq!(program.run(&mut machine, 20), Left { exit: DONE, moved: -1 });
}

/// A loop that counts s-1 down from `rounds`; its back-edge is a JUMPI or a JUMP.
fn countdown(branches: bool) -> Program {
    let mut builder = Builder::new();
    let one = builder.constant(u(1));
    let zero = builder.constant(U256::ZERO);
    let sub = inst(Op::Sub, Some(-1), &[slot(-1), one]);
    let back = Target::Back { region: 0, exit: SIDE };
    let (cond, taken, next) = match branches {
        true => (kiln_ir::Cond::Ne, back, Target::Region(1)),
        false => (kiln_ir::Cond::Eq, Target::Region(2), Target::Region(1)),
    };
    let end = Terminator::Branch { cond, a: slot(-1), b: zero, taken, next };
    builder.region(10, &[sub], end).gas = 3;
    let behind = if branches { Terminator::Exit(DONE) } else { Terminator::Jump(back) };
    builder.region(20, &[], behind).gas = 1;
    builder.region(30, &[], Terminator::Exit(DONE));
    builder.program()
}

#[test]
fn back_edges_count_down_and_leave() {
    for (branches, gas) in [(true, 3), (false, 4)] {
        let program = countdown(branches);
        let mut machine = machine(15);
        machine.set(-1, u(5_000));
        let (mut polls, mut rounds) = (0, 0);
        loop {
            machine.cx.poll = POLL_BACK_EDGES;
            machine.cx.gas = 1_000_000;
            let left = program.run(&mut machine, 10);
            let ran = (5_000 - rounds).min(u64::from(POLL_BACK_EDGES) + 1);
            rounds += ran;
            assert_eq!(machine.get(-1), u(5_000 - rounds));
            let done = left == FINISHED;
            let last = if done && !branches { 1 } else { 0 };
            let behind = if done && branches { 1 } else { 0 };
            assert_eq!(1_000_000 - machine.cx.gas, ran * gas - last + behind, "{branches}");
            if done {
                break;
            }
            assert_eq!((left, machine.cx.poll), (SIDE_EXIT, u32::MAX));
            polls += 1;
        }
        assert_eq!((polls, rounds), (4, 5_000));
    }
}

#[test]
fn computed_jumps() {
    let mut builder = Builder::new();
    let dynamic = |dest| Terminator::JumpDynamic { dest: Slot(dest), exit: SIDE };
    builder.region(0, &[], dynamic(-1)).height = -1;
    builder.region(8, &[], dynamic(-9)).height = 2;
    builder.region(500, &[], Terminator::Exit(DONE)).is_jumpdest = true;
    builder.region(600, &[], Terminator::Exit(OTHER));
    let program = builder.program();
    let mut machine = machine(16);
    let no = [0, 8, 468, 499, 501, 532, 600, 1000, 1001, 1002, u64::MAX, 1 << 32 | 500].map(u);
    let wide = [1, 2, 3].map(|limb| U256::from(1) << (64 * limb as usize) | u(500));
    for (pc, dest, moved) in [(0, -1, -1), (8, -9, 2)] {
        machine.set(dest, u(500));
        assert_eq!(program.run(&mut machine, pc), Left { exit: DONE, moved });
        for dest_pc in no.into_iter().chain(wide) {
            machine.set(dest, dest_pc);
            assert_eq!(program.run(&mut machine, pc), Left { exit: SIDE, moved }, "{dest_pc}");
        }
    }
}

#[test]
fn many_exits_have_stubs_of_their_own() {
    let mut builder = Builder::new();
    let exits: Vec<_> = (0..700).map(|_| builder.exit()).collect();
    for (i, &exit) in exits.iter().enumerate().filter(|(i, _)| i % 3 != 0 || i % 50 == 0) {
        builder.region(i as u32, &[], Terminator::JumpDynamic { dest: Slot(-1), exit });
    }
    let program = builder.program();
    let mut machine = Machine::new();
    machine.set(-1, U256::MAX);
    for (i, &exit) in exits.iter().enumerate().filter(|(i, _)| i % 3 != 0 || i % 50 == 0) {
        assert_eq!(program.run(&mut machine, i), Left { exit, moved: 0 });
    }
}

#[test]
fn malformed_modules_are_refused() {
    type Break = fn(&mut Builder);
    let cases: [Break; 9] = [
        |b| _ = b.region(0, &[inst(Op::Add, None, &[slot(0), slot(1)])], Terminator::Exit(DONE)),
        |b| _ = b.region(0, &[inst(Op::Add, Some(0), &[slot(0)])], Terminator::Exit(DONE)),
        |b| {
            let missing = Operand::Const(kiln_ir::ConstId(9));
            _ = b.region(0, &[inst(Op::Copy, Some(0), &[missing])], Terminator::Exit(DONE));
        },
        |b| _ = b.region(0, &[], Terminator::Exit(kiln_abi::ExitId(99))),
        |b| _ = b.region(0, &[], Terminator::Jump(Target::Region(99))),
        |b| _ = b.region(2000, &[], Terminator::Exit(DONE)),
        |b| _ = b.region(0, &[inst(Op::Pure(Helper::Sload), Some(0), &[])], Terminator::Exit(DONE)),
        |b| {
            let inst = Inst { exit: None, ..inst(Op::Mload, Some(0), &[slot(-1)]) };
            _ = b.region(0, &[inst], Terminator::Exit(DONE));
        },
        |b| b.region(0, &[], Terminator::Exit(DONE)).insts_len = 5,
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let mut builder = Builder::new();
        case(&mut builder);
        let refused = kiln_tier0::compile(&LIBRARY, &builder.module, &Limits::default());
        assert!(refused.is_err(), "case {number} compiles");
    }
}

#[test]
fn the_object_tells_what_it_holds() {
    let mut builder = Builder::new();
    let wide = builder.constant(U256::MAX >> 3);
    let insts = [inst(Op::Copy, Some(0), &[wide])];
    builder.region(4, &insts, Terminator::Exit(DONE)).is_jumpdest = true;
    let object = builder.program().object.clone();
    assert_eq!(object.blocks, 1);
    assert_eq!(object.entries.len(), 1);
    assert!(object.entries.is_jumpdest(4));
    let pool = object.code_len.next_multiple_of(32);
    assert_eq!(object.records, pool + Word::BYTES);
    let mut records = Records::default();
    assert!(records.pack(&builder.module.exits));
    assert_eq!(object.records + records.bytes(), object.text.len());
    assert_eq!(Pc(4), builder.module.regions[0].pc);
}

#[test]
fn text_over_the_limit_is_refused_within_a_block() {
    let mut builder = Builder::new();
    let wide = builder.constant(U256::MAX >> 3);
    for at in 0..100 {
        let exit = builder.exit();
        builder.region(at, &[inst(Op::Add, Some(-1), &[slot(-1), wide])], Terminator::Exit(exit));
    }
    let limits = Limits { text_ratio_max: 4, text_bytes_free: 1000, ..Limits::default() };
    let whole = kiln_tier0::compile(&LIBRARY, &builder.module, &Limits::NONE).unwrap();
    let one = whole.text.len() / 100;
    match kiln_tier0::compile(&LIBRARY, &builder.module, &limits) {
        Err(kiln_tier0::CompileError::Text { is, max: 1400 }) => {
            assert!((1401..1400 + 2 * one).contains(&is), "{is}, {one} a block");
        }
        other => panic!("{other:?}"),
    }
    // What is measured in the end is what there is, but for padding and the ends of stub groups.
    let enough = Limits { text_ratio_max: 0, text_bytes_free: whole.text.len(), ..limits };
    assert!(kiln_tier0::compile(&LIBRARY, &builder.module, &enough).is_ok());
    let short = Limits { text_bytes_free: whole.text.len() - 100, ..enough };
    assert!(kiln_tier0::compile(&LIBRARY, &builder.module, &short).is_err());
}

#[test]
fn compilation_that_is_called_off_stops_at_the_next_block() {
    let mut builder = Builder::new();
    (0..100).for_each(|at| _ = builder.region(at, &[], Terminator::Exit(DONE)));
    let asked = std::cell::Cell::new(0);
    let cancelled = || asked.replace(asked.get() + 1) == 50;
    let bounds = Bounds { limits: &Limits::default(), cancelled: &cancelled };
    let refused = kiln_tier0::compile(&LIBRARY, &builder.module, bounds);
    assert_eq!(refused.err(), Some(kiln_tier0::CompileError::Cancelled(kiln_ir::Cancelled)));
    assert_eq!(asked.get(), 51);
}
