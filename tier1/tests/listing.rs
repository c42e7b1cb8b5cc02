//! Listings: what code is made from changes nothing of it, and labelled IR is IR.

use inkwell::{context::Context, memory_buffer::MemoryBuffer};
use kiln_abi::Pc;
use kiln_ir::{
    Blocks, Config, Limits, OpcodeSet, SpecId,
    ssa::{self, Analysis, Choice, Function, Origin},
};
use kiln_tier1::{Compiler, Target};
use revm_primitives::hex;

/// Counts down from its first word, with accesses to memory.
const LOOP: &str = "600035 5b 80 6020 52 6001 90 03 80 6020 51 01 6003 57 00";
/// Regions of a real contract that are looked at: the largest make the test slow.
const REGIONS_MAX: usize = 12;

fn functions(code: &[u8]) -> Vec<Function> {
    let config = Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::default() };
    let blocks = Blocks::scan(code, &config, &Limits::NONE).expect("in bounds");
    let analysis = Analysis::new(code, &blocks, &config, &Limits::NONE).expect("in bounds");
    let choice = Choice { hot: 1, regions_max: REGIONS_MAX };
    let regions = ssa::choose(&analysis, &|_| 1, choice);
    let build = |region| ssa::build(&analysis, region, &Limits::default());
    regions.iter().filter_map(|region| build(region).ok()).collect()
}

fn codes() -> Vec<Vec<u8>> {
    let real = include_str!("../../workloads/bytecode/Exchange.hex").trim();
    let real = hex::decode(real.trim_start_matches("0x")).expect("hexadecimal");
    vec![hex::decode(LOOP.replace(' ', "")).expect("hexadecimal"), real]
}

#[test]
fn what_code_is_made_from_changes_nothing_of_it() {
    let (limits, mut compiler) = (Limits::default(), Compiler::new(Target::Host).unwrap());
    // Of head, charges, instructions, ends, ways out.
    let (mut compared, mut kinds) = (0, [0; 5]);
    for function in codes().iter().flat_map(|code| functions(code)) {
        let traced = compiler.trace(&function, &limits).unwrap();
        assert!(traced.object == compiler.compile(&function, &limits).unwrap(), "{function}");
        let origins = &traced.origins;
        assert!(origins.is_sorted_by(|a, b| a.0 < b.0), "{origins:?}");
        assert_eq!(origins[0], (0, Origin::Frame));
        assert!(origins.last().unwrap().0 <= traced.object.code_len);
        // Each is one that the function has.
        for (_, origin) in origins {
            let insts = || function.blocks.iter().flat_map(|block| &block.insts);
            match *origin {
                Origin::Inst(pc) => assert!(insts().any(|inst| inst.pc == pc), "{pc}"),
                Origin::Charge(block) | Origin::End(block) => {
                    assert!((block.0 as usize) < function.blocks.len());
                }
                _ => {}
            }
            match origin {
                Origin::Head => kinds[0] += 1,
                Origin::Charge(_) => kinds[1] += 1,
                Origin::Inst(_) => kinds[2] += 1,
                Origin::End(_) => kinds[3] += 1,
                Origin::Exits => kinds[4] += 1,
                _ => {}
            }
        }
        compared += 1;
    }
    assert!(compared > 4, "{compared}");
    assert!(kinds.iter().all(|&kind| kind >= compared / 2), "{kinds:?} of {compared}");
}

#[test]
fn labelled_ir_is_ir() {
    let mut compiler = Compiler::new(Target::Host).unwrap();
    let label = |pc: Pc| format!("instruction at {pc}");
    let mut labels = 0;
    for function in codes().iter().flat_map(|code| functions(code)) {
        let text = compiler.labelled_llvm_ir(&function, &Limits::default(), &label).unwrap();
        labels += text.lines().filter(|line| line.starts_with("  ; instruction at @")).count();
        assert!(!text.contains("!dbg") && !text.contains("= !DI"), "{text}");
        let (context, mut text) = (Context::create(), text.into_bytes());
        text.push(0);
        let buffer = MemoryBuffer::create_from_memory_range_copy(&text, "listing");
        let module = context.create_module_from_ir(buffer).expect("LLVM reads it");
        module.verify().expect("it is valid");
    }
    assert!(labels > 100, "{labels}");
}
