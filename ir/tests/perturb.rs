//! Perturbed builds pass the verifiers, and each option changes what is built as it says.

use kiln_ir::ssa::{self, Analysis, Choice, Function};
use kiln_ir::{
    Blocks, Config, Limits, Module, Op, OpcodeSet, Operand, Perturb, SpecId,
    TINY_BLOCK_INSTRUCTIONS, Target, Terminator, build, parse, verify,
};
use kiln_ir_tests::program;

fn config() -> Config {
    let mut gas = [3; 256];
    (gas[0x00], gas[0xf3], gas[0xfd]) = (0, 0, 0);
    Config { spec: SpecId::AMSTERDAM, gas, replaced: OpcodeSet::EMPTY }
}

/// What a program is built to: block IR, and a region wherever there can be one.
struct Built {
    blocks: Blocks,
    module: Module,
    functions: Vec<Function>,
}

fn built(code: &[u8], perturb: Perturb) -> Built {
    let (config, limits) = (config(), Limits { perturb, ..Limits::default() });
    let text = || {
        let code: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{perturb}, code {code}")
    };
    let blocks = Blocks::scan(code, &config, &limits).expect("within the limits");
    let module = build(code, &blocks, &config, &limits, &|_| true).expect("within the limits");
    if let Err(error) = verify(&module) {
        panic!("{error}\n{}\n{module}", text());
    }
    assert_eq!(parse(&module.to_string()).as_ref(), Ok(&module), "{}\n{module}", text());
    let analysis = Analysis::new(code, &blocks, &config, &limits).expect("within the limits");
    let choice = Choice { hot: 1, regions_max: 1 << 16 };
    let mut functions = Vec::new();
    for region in ssa::choose(&analysis, &|_| 1, choice) {
        let Ok(function) = ssa::build(&analysis, &region, &limits) else { continue };
        assert_eq!(ssa::verify(&function), Ok(()), "{}\n{function}", text());
        functions.push(function);
    }
    Built { blocks, module, functions }
}

/// Programs of all kinds, and what they are built to.
fn all(perturb: Perturb, mut look: impl FnMut(Built)) {
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..1_500 {
        look(built(&program(&mut rng, round % 40), perturb));
        let bytes: Vec<u8> = (0..rng.usize(..99)).map(|_| rng.u8(..)).collect();
        look(built(&bytes, perturb));
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../workloads/bytecode");
    for file in std::fs::read_dir(folder).expect("the shipped workloads") {
        let path = file.expect("a folder entry").path();
        let text = std::fs::read_to_string(&path).expect("bytecode in hexadecimal");
        let digits = text.trim().trim_start_matches("0x");
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16);
        let code: Result<Vec<u8>, _> = (0..digits.len()).step_by(2).map(byte).collect();
        look(built(&code.expect("hexadecimal"), perturb));
    }
}

fn perturb(text: &str) -> Perturb {
    text.parse().expect("the text of options")
}

/// Whether an operation has a slower way.
fn has_slow_path(op: Op) -> bool {
    match op {
        Op::Mul
        | Op::ShlImm
        | Op::ShrImm
        | Op::SarImm
        | Op::ByteImm
        | Op::SignextendImm
        | Op::Mload
        | Op::Mstore
        | Op::Mstore8
        | Op::Calldataload
        | Op::Guarded(_) => true,
        Op::Instruction(helper) => helper != kiln_abi::Helper::Instruction,
        _ => false,
    }
}

#[test]
fn everything_together_verifies() {
    let mut functions = 0;
    all(Perturb::ALL, |built| functions += built.functions.len());
    assert!(functions > 10_000, "{functions}");
    for bits in 1..15 {
        let perturb = Perturb::from_bits(bits).expect("bits of options");
        let mut rng = fastrand::Rng::with_seed(bits.into());
        for _ in 0..100 {
            built(&program(&mut rng, 30), perturb);
        }
    }
}

#[test]
fn no_inline_has_slow_paths_only() {
    let (mut slow, mut fast) = (0, 0);
    all(perturb("no-inline"), |built| {
        for inst in &built.module.insts {
            assert!(!has_slow_path(inst.op), "{inst:?}\n{}", built.module);
            slow += usize::from(matches!(inst.op, Op::Pure(_) | Op::Instruction(_)));
        }
        for inst in built.functions.iter().flat_map(|function| &function.blocks) {
            for inst in &inst.insts {
                assert!(!matches!(inst.op, ssa::Op::Word(op) if has_slow_path(op)), "{inst:?}");
            }
        }
    });
    all(Perturb::NONE, |built| {
        fast += built.module.insts.iter().filter(|inst| has_slow_path(inst.op)).count();
    });
    assert!(slow > 5_000 && fast > 5_000, "{slow} slow paths, {fast} fast ones");
}

#[test]
fn tiny_regions_are_tiny() {
    let (mut blocks, mut functions) = (0, 0);
    all(perturb("tiny-regions"), |built| {
        for block in &built.blocks.blocks {
            assert!(block.instructions as usize <= TINY_BLOCK_INSTRUCTIONS, "{block:?}");
        }
        for function in &built.functions {
            // The entry, the block, and one for each further prediction of a computed jump.
            assert!(function.blocks.len() <= 2, "{function}");
        }
        blocks += built.blocks.blocks.len();
        functions += built.functions.len();
    });
    all(Perturb::NONE, |built| {
        assert!(built.functions.len() <= built.blocks.blocks.len());
        blocks = blocks.saturating_sub(built.blocks.blocks.len());
        functions = functions.saturating_sub(built.functions.len());
    });
    assert!(blocks > 10_000 && functions > 10_000, "{blocks} more blocks, {functions} regions");
}

#[test]
fn every_exit_leaves_at_each_end() {
    let targets = |module: &Module| -> Vec<Target> {
        let targets = module.regions.iter().flat_map(|region| match region.terminator {
            Terminator::Jump(target) => vec![target],
            Terminator::Branch { taken, next, .. } => vec![taken, next],
            Terminator::JumpDynamic { .. } => panic!("a computed jump in compiled code"),
            Terminator::Exit(_) => Vec::new(),
        });
        targets.collect()
    };
    let mut ways_out = 0;
    all(perturb("every-exit"), |built| {
        for target in targets(&built.module) {
            assert!(matches!(target, Target::Exit(_)), "{target:?}\n{}", built.module);
            ways_out += 1;
        }
    });
    assert!(ways_out > 10_000, "{ways_out}");
}

#[test]
fn spill_keeps_nothing() {
    let (mut spilled, mut kept) = (0, 0);
    all(perturb("spill"), |built| {
        for inst in &built.module.insts {
            // A constant is written where it belongs, and read from there.
            let constants = inst.args.iter().flatten().filter(|a| matches!(a, Operand::Const(_)));
            let own_zero = matches!(inst.op, Op::Set(_));
            assert!(inst.op == Op::Copy || own_zero || constants.count() == 0, "{inst:?}");
        }
        spilled += built.module.insts.len();
        let exits = built.module.exits.exits.iter();
        assert!(exits.clone().all(|exit| exit.fixups_len <= 2), "{}", built.module);
        for block in built.functions.iter().flat_map(|function| &function.blocks[1..]) {
            let ops = block.insts.iter().map(|inst| inst.op);
            assert!(ops.clone().all(|op| op != ssa::Op::Narrow), "{block:?}");
        }
    });
    all(Perturb::NONE, |built| kept += built.module.insts.len());
    assert!(spilled > 2 * kept, "{spilled} instructions, {kept} without");
}
