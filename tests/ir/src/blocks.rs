//! What the builder makes of bytecode, run by the evaluator, against a plain interpreter of the same
//! toy host: the same stack, memory, gas and effects at the end, whatever the code.

use crate::host::{self, Compiled, Frame, Halt, interpret};
use crate::{hex, visible};
use kiln_abi::{ExitKind, Pc};
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

/// The interpreter's way with compiled code; counts how often it was entered and did not leave at once.
fn evaluate(frame: Frame, module: &Module, entered: &mut usize) -> (Halt, Frame) {
    let leaders: Vec<(Pc, bool)> =
        module.regions.iter().map(|region| (region.pc, region.is_jumpdest)).collect();
    host::evaluate(Compiled::new(frame, &module.exits, &leaders), |compiled| {
        let pc = compiled.frame.pc;
        let kind = enter(compiled, module);
        *entered += usize::from(compiled.frame.pc != pc);
        kind
    })
}

/// Compares what the builder makes of bytecode with the interpreter.
pub fn compare(code: Vec<u8>, gas: u64, costs: [u16; 256], entered: &mut usize) {
    let config = Config { spec: SpecId::AMSTERDAM, gas: costs, replaced: OpcodeSet::EMPTY };
    let limits = Limits::default();
    let blocks = Blocks::scan(&code, &config, &limits).expect("within the limits");
    let module = build(&code, &blocks, &config, &limits, &|_| true).expect("within the limits");
    assert_eq!(verify(&module), Ok(()), "{module}");
    let text = hex(&code);
    let frame = Frame::new(code, costs, gas);
    let expected = interpret(frame.clone());
    let found = evaluate(frame, &module, entered);
    assert_eq!(visible(found), visible(expected), "gas {gas}, code {text}\n{module}");
}

/// A gas table out of a generator.
pub fn costs(rng: &mut fastrand::Rng) -> [u16; 256] {
    let mut costs = [0; 256];
    costs.fill_with(|| rng.u16(1..9));
    (costs[0x00], costs[0xf3], costs[0xfd]) = (0, rng.u16(..2), 0);
    costs
}
