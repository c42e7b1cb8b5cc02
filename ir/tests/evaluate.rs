//! What the builder makes of bytecode, run by the evaluator, against a plain interpreter of the same
//! toy host: the same stack, memory, gas and effects at the end, whatever the code.

mod host;

use host::{Compiled, Frame, Halt, code, interpret, program};
use kiln_abi::{ExitKind, Pc, STACK_LIMIT, Word};
use kiln_ir::eval::run;
use kiln_ir::{Blocks, Config, Limits, Module, OpcodeSet, SpecId, build, verify};

/// Runs compiled code from the frame's pc, where there is any; what the host does next.
fn enter(compiled: &mut Compiled<'_>, module: &Module) -> Option<ExitKind> {
    let at = |region: &kiln_ir::Region| region.pc.0 as usize == compiled.frame.pc;
    let region = module.regions.iter().position(at)?;
    compiled.begin();
    let exit = run(module, region, compiled);
    let record = *module.exits.exit(exit);
    compiled.canonical(exit, u64::from(record.gas_back));
    Some(record.kind)
}

/// The same with compiled code; counts how often it was entered and did not leave at once.
fn evaluate(frame: Frame, module: &Module, entered: &mut usize) -> (Halt, Frame) {
    let words = vec![Word::ZERO; STACK_LIMIT];
    let leaders: Vec<(Pc, bool)> =
        module.regions.iter().map(|region| (region.pc, region.is_jumpdest)).collect();
    let exits = &module.exits;
    let mut compiled = Compiled { exits, leaders: &leaders, frame, words, sp: 0, polls: 3 };
    loop {
        let pc = compiled.frame.pc;
        let kind = enter(&mut compiled, module);
        *entered += usize::from(compiled.frame.pc != pc);
        if kind == Some(ExitKind::Resume) {
            continue;
        }
        let opcode = compiled.frame.opcode();
        let expected = match opcode {
            0x00 => Some(ExitKind::Stop),
            0xf3 => Some(ExitKind::Return),
            0xfd => Some(ExitKind::Revert),
            _ => None,
        };
        if let Some(kind @ (ExitKind::Stop | ExitKind::Return | ExitKind::Revert)) = kind {
            assert_eq!(Some(kind), expected);
        }
        if let Err(halt) = compiled.frame.step() {
            return (halt, compiled.frame);
        }
    }
}

fn compare(code: Vec<u8>, gas: u64, costs: [u16; 256], entered: &mut usize) {
    let config = Config { spec: SpecId::AMSTERDAM, gas: costs, replaced: OpcodeSet::EMPTY };
    let limits = Limits::default();
    let blocks = Blocks::scan(&code, &config, &limits).expect("within the limits");
    let module = build(&code, &blocks, &config, &limits, &|_| true).expect("within the limits");
    assert_eq!(verify(&module), Ok(()), "{module}");
    let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
    let stack = Vec::new();
    let frame = Frame { code, costs, pc: 0, stack, gas, memory: Vec::new(), effects: Vec::new() };
    let expected = interpret(frame.clone());
    let found = evaluate(frame, &module, entered);
    let seen = |(halt, frame): (Halt, Frame)| {
        // Nothing reads the words that a frame leaves behind; where compiled code knows how it will
        // end, it does not write them.
        let ends = matches!(halt, Halt::Stop | Halt::Return | Halt::Revert | Halt::Jump);
        let stack = if ends { Vec::new() } else { frame.stack };
        (halt, frame.pc, frame.gas, frame.memory, frame.effects, stack)
    };
    assert_eq!(seen(found), seen(expected), "gas {gas}, code {hex}\n{module}");
}

#[test]
fn random_code() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut entered = 0;
    let rounds = 20_000;
    for _ in 0..rounds {
        let mut costs = [0; 256];
        costs.fill_with(|| rng.u16(1..9));
        (costs[0x00], costs[0xf3], costs[0xfd]) = (0, rng.u16(..2), 0);
        compare(code(&mut rng), rng.u64(..2_000), costs, &mut entered);
    }
    assert!(entered > rounds / 2, "compiled code was hardly ever entered: {entered}");
}

#[test]
fn structured_code() {
    let mut rng = fastrand::Rng::with_seed(6);
    let mut entered = 0;
    let rounds = 2_000;
    for _ in 0..rounds {
        let mut costs = [0; 256];
        costs.fill_with(|| rng.u16(1..9));
        (costs[0x00], costs[0xf3], costs[0xfd]) = (0, rng.u16(..2), 0);
        let (budget, gas) = (rng.usize(1..40), rng.u64(..20_000));
        compare(program(&mut rng, budget), gas, costs, &mut entered);
    }
    assert!(entered > rounds, "compiled code was hardly ever entered: {entered}");
}
