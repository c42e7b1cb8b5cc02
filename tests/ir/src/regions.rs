//! SSA regions, run by their evaluator, against a plain interpreter of the same toy host: the same
//! stack, memory, gas and effects at the end, whatever the code and wherever regions begin.

use crate::blocks::costs;
use crate::host::{self, Compiled, Frame, Halt, interpret};
use crate::{hex, visible};
use kiln_abi::{ExitId, Helper, Pc, Word};
use kiln_ir::ssa::{self, Analysis, Function, Region};
use kiln_ir::{Blocks, Config, Limits, OpcodeSet, SpecId};

impl ssa::eval::Machine for Compiled<'_> {
    fn guarded_value(&mut self, _: Helper, exit: ExitId, args: [Option<Word>; 3]) -> Option<Word> {
        self.act(exit, args)
    }
}

/// How the engines come to the same end.
#[derive(Debug, Default)]
pub struct Seen {
    /// Times a function was entered and did not leave at once.
    pub entered: usize,
    /// Blocks of all functions.
    pub blocks: usize,
    /// Functions that loop.
    pub loops: usize,
}

/// The functions of some heads of a program.
fn functions(
    code: &[u8],
    config: &Config,
    rng: &mut fastrand::Rng,
    seen: &mut Seen,
) -> Vec<Function> {
    let limits = Limits::default();
    let blocks = Blocks::scan(code, config, &limits).expect("within the limits");
    let analysis = Analysis::new(code, &blocks, config, &limits).expect("within the limits");
    let seed = rng.u64(..);
    // Some blocks are cold, and left out.
    let count = |pc: Pc| u64::from(pc.0).wrapping_mul(seed) >> 60;
    let mut functions = Vec::new();
    for block in &blocks.blocks {
        if rng.u8(..3) == 0 {
            continue;
        }
        let Some(region) = Region::grow(&analysis, block.start, &count) else { continue };
        let Ok(function) = ssa::build(&analysis, &region, &limits) else { continue };
        let text = || format!("{function}\ncode {}", hex(code));
        assert_eq!(ssa::verify(&function), Ok(()), "{}", text());
        seen.blocks += function.blocks.len();
        seen.loops += usize::from(region.loops());
        functions.push(function);
    }
    functions
}

/// Runs a frame with functions where there are some.
fn evaluate(frame: Frame, functions: &[Function], seen: &mut Seen) -> (Halt, Frame) {
    let none = Default::default();
    host::evaluate(Compiled::new(frame, &none, &[]), |compiled| {
        let pc = compiled.frame.pc;
        let function = functions.iter().find(|function| function.pc.0 as usize == pc)?;
        compiled.begin();
        compiled.exits = &function.exits;
        let before = compiled.frame.gas;
        let exit = ssa::eval::run(function, compiled);
        let record = *function.exits.exit(exit);
        compiled.canonical(exit, u64::from(record.gas_back));
        seen.entered += usize::from(compiled.frame.gas != before);
        Some(record.kind)
    })
}

/// Compares functions of some heads of a program with the interpreter.
pub fn compare(code: Vec<u8>, gas: u64, rng: &mut fastrand::Rng, seen: &mut Seen) {
    let costs = costs(rng);
    // Replaced instructions are the interpreter's, wherever they stand.
    let replaced = if rng.u8(..4) == 0 { 0..rng.usize(1..4) } else { 0..0 };
    let replaced: OpcodeSet = replaced.map(|_| rng.u8(..)).collect();
    let config = Config { spec: SpecId::AMSTERDAM, gas: costs, replaced };
    let functions = functions(&code, &config, rng, seen);
    let text = hex(&code);
    let frame = Frame::new(code, costs, gas);
    let expected = interpret(frame.clone());
    let found = evaluate(frame, &functions, seen);
    let (found, expected) = (visible(found), visible(expected));
    if found != expected {
        let functions: String = functions.iter().map(Function::to_string).collect();
        panic!("gas {gas}, code {text}\nfound {found:?}\nexpected {expected:?}\n{functions}");
    }
}
