//! What the builder makes of small programs, and that its work is bounded on hostile ones.

use core::cell::Cell;
use kiln_abi::{ExitKind, Pc, Slot, Source};
use kiln_ir::{
    Blocks, Bounds, BuildError, Cancelled, Cond, Config, Limits, Module, Op, OpcodeSet, Operand,
    SpecId, Target, Terminator, build, parse, verify,
};

fn config(spec: SpecId) -> Config {
    Config { spec, gas: [3; 256], replaced: OpcodeSet::EMPTY }
}

fn module(code: &[u8]) -> Module {
    module_with(code, &config(SpecId::AMSTERDAM))
}

fn module_with(code: &[u8], config: &Config) -> Module {
    let limits = Limits::default();
    let blocks = Blocks::scan(code, config, &limits).unwrap();
    let module = build(code, &blocks, config, &limits, &|_| true).unwrap();
    if let Err(error) = verify(&module) {
        panic!("{error}\n{module}");
    }
    module
}

fn ops(module: &Module) -> Vec<Op> {
    module.insts.iter().map(|inst| inst.op).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn stack_shuffling_emits_nothing() {
    // PUSH1 1, PUSH1 2, DUP2, SWAP1, POP, POP, POP, STOP
    let module = module(&hex("6001 6002 81 90 50 50 50 00"));
    assert!(module.insts.is_empty());
    assert_eq!((module.regions[0].need, module.regions[0].grow), (0, 3));
    let Terminator::Exit(exit) = module.regions[0].terminator else { panic!("no exit") };
    assert_eq!(module.exits.exit(exit).kind, ExitKind::Stop);
}

#[test]
fn constants_fold_and_truncated_pushes_are_padded_on_the_right() {
    // PUSH1 3, PUSH1 4, MUL, SSTORE-less end: PUSH2 42 (truncated)
    let module = module(&hex("6003 6004 02 6142"));
    assert!(module.insts.is_empty());
    assert!(module.exits.pool.contains(&12.into()));
    assert!(module.exits.pool.contains(&0x4200.into()));
}

#[test]
fn comparisons_fuse_with_iszero_and_jumpi() {
    // CALLER, CALLVALUE, LT, ISZERO, PUSH1 9, JUMPI, STOP, 00, JUMPDEST(9), STOP
    let module = module(&hex("33 34 10 15 6008 57 00 5b 00"));
    assert_eq!(ops(&module), [Op::Caller, Op::CallValue]);
    let Terminator::Branch { cond, a, b, taken, .. } = module.regions[0].terminator else {
        panic!("no branch: {:?}", module.regions[0])
    };
    // CALLVALUE < CALLER, negated.
    assert_eq!((cond, a, b), (Cond::Uge, Operand::Slot(Slot(1)), Operand::Slot(Slot(0))));
    assert!(matches!(taken, Target::Region(_)));
}

#[test]
fn a_comparison_somebody_else_holds_is_not_taken_back() {
    // CALLER, CALLVALUE, LT, DUP1, PUSH1 8, JUMPI, STOP, JUMPDEST(8), STOP
    let module = module(&hex("33 34 10 80 6008 57 00 5b 00"));
    assert_eq!(ops(&module), [Op::Caller, Op::CallValue, Op::Set(Cond::Ult)]);
}

#[test]
fn a_jumpi_to_nowhere_leaves_in_front_of_itself() {
    // CALLER, PUSH1 0, JUMPI, STOP
    let module = module(&hex("33 6000 57 00"));
    let region = &module.regions[0];
    let Terminator::Branch { taken: Target::Exit(exit), .. } = region.terminator else {
        panic!("no side exit: {region:?}")
    };
    let exit = *module.exits.exit(exit);
    assert_eq!((exit.pc, exit.kind, exit.gas_back), (Pc(3), ExitKind::Interpret, 3));
    assert_eq!((exit.moved, exit.height), (0, 2));
    let fixups = module.exits.fixups(&exit);
    assert!(fixups.iter().all(|fixup| matches!(fixup.source, Source::Const(_))));
    assert_eq!(fixups.len(), 2);
}

#[test]
fn swaps_across_a_block_end_are_moved_in_parallel() {
    // SWAP1, JUMPDEST, STOP: a cycle of two.
    let module = module(&hex("90 5b 00"));
    assert_eq!(ops(&module), [Op::Copy, Op::Copy, Op::Copy]);
    assert_eq!((module.regions[0].need, module.regions[0].height), (2, 0));
}

#[test]
fn gas_due_later_is_given_back() {
    // CALLER, MLOAD, POP, STOP: 3 gas each.
    let module = module(&hex("33 51 50 00"));
    let mload = module.insts.iter().find(|inst| inst.op == Op::Mload).unwrap();
    let exit = module.exits.exit(mload.exit.unwrap());
    assert_eq!((module.regions[0].gas, exit.gas_back, exit.rest), (12, 9, 6));
}

#[test]
fn gas_adds_what_is_not_yet_due() {
    // GAS, POP, STOP
    let module = module(&hex("5a 50 00"));
    assert_eq!((module.insts[0].op, module.insts[0].imm), (Op::Gas, 6));
}

#[test]
fn memory_known_within_the_block_is_not_checked_again() {
    // MSTORE(0x20, CALLER), MLOAD(0), MLOAD(0x21)
    let module = module(&hex("33 6020 52 6000 51 6021 51 00"));
    let checked: Vec<bool> =
        module.insts.iter().filter(|i| i.op != Op::Caller).map(|i| i.checked).collect();
    assert_eq!(checked, [true, false, true]);
}

#[test]
fn division_by_powers_of_two_is_a_shift() {
    // CALLER / 16, CALLER % 16 (divisor below on the stack)
    let module = module(&hex("6010 33 04 6010 33 06 00"));
    assert_eq!(ops(&module), [Op::Caller, Op::ShrImm, Op::Caller, Op::And]);
}

#[test]
fn an_address_mask_on_an_address_is_nothing() {
    let mut code = hex("33 73");
    code.extend([0xff; 20]);
    code.extend(hex("16 00"));
    assert_eq!(ops(&module(&code)), [Op::Caller]);
}

#[test]
fn what_is_replaced_or_not_activated_is_the_interpreters() {
    let mut replaced = config(SpecId::CANCUN);
    replaced.replaced.insert(0x01);
    // CALLER, CALLER, ADD, POP, STOP
    let module = module_with(&hex("33 33 01 50 00"), &replaced);
    let Terminator::Exit(exit) = module.regions[0].terminator else { panic!("no exit") };
    assert_eq!(module.exits.exit(exit).pc, Pc(2));
    assert_eq!(module.regions[1].pc, Pc(3));
    // CALLER, PUSH0 before Shanghai
    let module = module_with(&hex("33 5f 00"), &config(SpecId::LONDON));
    assert_eq!((module.regions.len(), module.regions[0].gas), (1, 3));
}

#[test]
fn a_block_no_stack_satisfies_is_left_out() {
    let mut code = vec![0x50; 1025];
    code.push(0);
    assert!(module(&code).regions.is_empty());
    assert_eq!(module(&vec![0x50; 1024]).regions[0].need, 1024);
    assert!(module(&vec![0x5f; 1025]).regions.is_empty());
    assert_eq!(module(&vec![0x5f; 1024]).regions[0].grow, 1024);
    // SWAP16 needs 17 words. What other blocks there are is built.
    let mixed = |pushes: usize| [vec![0x8f], vec![0x5f; pushes], hex("00 5b 00")].concat();
    assert_eq!(module(&mixed(1007)).regions.len(), 2);
    assert_eq!(module(&mixed(1008)).regions.len(), 1);
}

#[test]
fn work_is_proportional_to_the_code() {
    let repeat = |unit: &[u8], len: usize| unit.repeat(len / unit.len());
    let mut deep = repeat(&[0x5f], 900);
    // Every MLOAD leaves through an exit, under a deep stack of constants.
    deep.extend(repeat(&[0x33, 0x51, 0x50], 3 * 30_000));
    let hostile: [&[u8]; 8] = [
        &repeat(&[0x5b], 128 << 10),
        &repeat(&[0x60, 0x00, 0x56], 128 << 10),
        &repeat(&[0x5f, 0x5f, 0x57], 128 << 10),
        &repeat(&[0x9f], 128 << 10),
        &repeat(&[0x8f, 0x9e, 0x51], 128 << 10),
        &repeat(&[0xe6, 0x5b], 128 << 10),
        &repeat(&[0xe8, 0x01, 0x33, 0x52], 128 << 10),
        &deep,
    ];
    for code in hostile {
        let module = module(code);
        let bound = code.len() + 1024;
        assert!(module.regions.len() <= bound);
        assert!(module.insts.len() <= 8 * bound, "{:x?}: {}", &code[..4], module.insts.len());
        assert!(module.exits.exits.len() <= 3 * bound);
        let fixups = module.exits.fixups.len();
        assert!(fixups <= 52 * bound, "{:x?}: {fixups}", &code[..4]);
    }
}

#[test]
fn code_over_the_limits_is_refused() {
    let limits = Limits { code_bytes_max: 8, ..Limits::default() };
    let config = config(SpecId::CANCUN);
    let error = Blocks::scan(&[0; 9], &config, &limits).unwrap_err();
    assert_eq!(error, BuildError::Limit { what: "code bytes", is: 9, max: 8 });
    let limits = Limits { insts_max: 1, ..Limits::default() };
    let code = hex("33 33 01 00");
    let blocks = Blocks::scan(&code, &config, &limits).unwrap();
    assert!(matches!(
        build(&code, &blocks, &config, &limits, &|_| true),
        Err(BuildError::Limit { what: "IR instructions", .. })
    ));
}

#[test]
fn only_selected_blocks_are_built_and_the_rest_are_exits() {
    // PUSH1 3, JUMP, JUMPDEST(3), STOP
    let code = hex("6003 56 5b 00");
    let config = config(SpecId::CANCUN);
    let limits = Limits::default();
    let blocks = Blocks::scan(&code, &config, &limits).unwrap();
    let module = build(&code, &blocks, &config, &limits, &|pc| pc == Pc(0)).unwrap();
    let Terminator::Jump(Target::Exit(exit)) = module.regions[0].terminator else {
        panic!("no exit: {:?}", module.regions)
    };
    let exit = module.exits.exit(exit);
    assert_eq!((exit.pc, exit.kind), (Pc(3), ExitKind::Resume));
}

/// Bytes that decode to runs of stack operations, memory accesses and jumps more often than noise.
fn random_code(rng: &mut fastrand::Rng) -> Vec<u8> {
    let len = rng.usize(1..400);
    let mut code = Vec::with_capacity(len + 33);
    while code.len() < len {
        match rng.u8(..16) {
            0..=3 => code.extend([0x60, rng.u8(..)]),
            4 => code.push(rng.u8(0x80..=0x8f)),
            5 | 6 => code.push(rng.u8(0x90..=0x9f)),
            7 => code.push(rng.u8(0x01..=0x1e)),
            8 => code.push(*rng.choice(&[0x51, 0x52, 0x53, 0x5a, 0x50, 0x15]).unwrap()),
            9 => code.push(*rng.choice(&[0x54, 0x55, 0x20, 0x5c, 0x5e, 0xa1]).unwrap()),
            10 => code.push(rng.u8(0x30..=0x4b)),
            11 => code.extend([0x61, 0, rng.u8(..), rng.u8(0x56..=0x57)]),
            12 => code.push(0x5b),
            13 => code.extend([rng.u8(0xe6..=0xe8), rng.u8(..)]),
            14 => code.push(*rng.choice(&[0x56, 0x57, 0x00, 0xf1, 0xf3]).unwrap()),
            _ => code.push(rng.u8(..)),
        }
    }
    code
}

#[test]
fn whatever_is_built_verifies_and_survives_its_text() {
    let mut rng = fastrand::Rng::with_seed(0x6b69_6c6e);
    for spec in [SpecId::FRONTIER, SpecId::LONDON, SpecId::AMSTERDAM] {
        for _ in 0..4000 {
            let code = random_code(&mut rng);
            let module = module_with(&code, &config(spec));
            assert_eq!(parse(&module.to_string()).unwrap(), module, "{code:02x?}");
        }
    }
}

#[test]
fn jumps_at_or_below_themselves_poll() {
    // JUMPDEST(0), CALLER, PUSH1 0, JUMPI; PUSH1 8, JUMP; JUMPDEST(8), PUSH1 8, JUMP
    let module = module(&hex("5b 33 6000 57 6008 56 5b 6008 56"));
    let resumes = |target: Target, pc: Pc| {
        let Target::Back { region, exit } = target else { panic!("{target:?} does not poll") };
        let exit = module.exits.exit(exit);
        assert_eq!(module.regions[region as usize].pc, pc);
        assert_eq!((exit.pc, exit.kind, exit.gas_back), (pc, ExitKind::Resume, 0));
    };
    let Terminator::Branch { taken, next, .. } = module.regions[0].terminator else {
        panic!("no branch: {:?}", module.regions[0])
    };
    resumes(taken, Pc(0));
    assert_eq!(next, Target::Region(1));
    assert_eq!(module.regions[1].terminator, Terminator::Jump(Target::Region(2)));
    let Terminator::Jump(itself) = module.regions[2].terminator else { panic!("no jump") };
    resumes(itself, Pc(8));
}

#[test]
fn work_that_is_called_off_stops_at_the_next_block() {
    let code = hex("5b 3d 50").repeat(100);
    let (config, limits) = (config(SpecId::CANCUN), Limits::default());
    let blocks = Blocks::scan(&code, &config, &limits).unwrap();
    assert_eq!(blocks.blocks.len(), 100);
    for stop in [0, 1, 50] {
        let asked = Cell::new(0);
        let cancelled = || asked.replace(asked.get() + 1) == stop;
        let bounds = Bounds { limits: &limits, cancelled: &cancelled };
        let at = |block: u32| Pc(block * 3);
        let dests = || blocks.jump_dests.clone();
        let parts = Blocks::at_leaders(&code, dests(), (0..100).map(at), &config, bounds);
        assert_eq!((parts.err(), asked.take()), (Some(BuildError::Cancelled(Cancelled)), stop + 1));
        let module = build(&code, &blocks, &config, bounds, &|_| true);
        assert_eq!(
            (module.err(), asked.take()),
            (Some(BuildError::Cancelled(Cancelled)), stop + 1)
        );
        let scanned = Blocks::scan(&code, &config, bounds);
        assert_eq!(
            (scanned.err(), asked.take()),
            (Some(BuildError::Cancelled(Cancelled)), stop + 1)
        );
    }
}
