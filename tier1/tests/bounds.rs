//! What hostile code costs: regions of it compile to a bounded amount of LLVM IR and text, or are refused.

use kiln_abi::Pc;
use kiln_ir::{
    Blocks, Config, Limits, OpcodeSet, SpecId,
    ssa::{self, Analysis, Choice, Function},
};
use kiln_tier1::{CompileError, Compiler, Target};

/// Lines of LLVM IR for each instruction, and besides: a little more than there may be instructions.
const LINES_RATIO_MAX: usize = 48;
const LINES_FREE: usize = 4096;
/// Bytes of machine code for each instruction, and besides.
const TEXT_RATIO_MAX: usize = 256;
const TEXT_FREE: usize = 4096;

fn functions(code: &[u8]) -> Vec<Function> {
    let config = Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::default() };
    let blocks = Blocks::scan(code, &config, &Limits::NONE).expect("in bounds");
    let analysis = Analysis::new(code, &blocks, &config, &Limits::NONE).expect("in bounds");
    let count = |_: Pc| 1;
    let regions = ssa::choose(&analysis, &count, Choice { hot: 1, regions_max: 4 });
    let build = |region| ssa::build(&analysis, region, &Limits::default());
    regions.iter().filter_map(|region| build(region).ok()).collect()
}

/// Compiles all regions of a code; gives how many did and how many were refused.
fn check(name: &str, code: &[u8]) -> (usize, usize) {
    let mut compiler = Compiler::new(Target::Host).expect("the target is supported");
    let (mut compiled, mut refused) = (0, 0);
    for function in functions(code) {
        let instructions = function.instructions as usize;
        match compiler.compile(&function, &Limits::default()) {
            Ok(object) => {
                let max = TEXT_RATIO_MAX * instructions + TEXT_FREE;
                assert!(object.code_len <= max, "{name}: {} of {max}", object.code_len);
                let lines =
                    compiler.llvm_ir(&function, false).expect("it compiled").lines().count();
                let max = LINES_RATIO_MAX * instructions + LINES_FREE;
                assert!(lines <= max, "{name}: {lines} of {max}");
                compiled += 1;
            }
            Err(CompileError::TooLarge | CompileError::Text { .. }) => refused += 1,
            Err(other) => panic!("{name}: {other}"),
        }
    }
    (compiled, refused)
}

/// `PUSH1 n CALLDATALOAD`
fn load(n: u8) -> [u8; 3] {
    [0x60, n, 0x35]
}

/// Two words, an operation on them again and again, and a store of what it gives.
fn repeated(op: &[u8], times: usize) -> Vec<u8> {
    let mut code = [load(0), load(32)].concat();
    (0..times).for_each(|_| code.extend(op));
    code.extend([0x60, 0x00, 0x55, 0x00]);
    code
}

#[test]
fn giant_blocks() {
    for (name, op, times) in [
        ("MUL", &[0x81, 0x02][..], 280),
        ("SDIV", &[0x81, 0x05], 280),
        ("ADDMOD", &[0x81, 0x81, 0x08], 180),
        ("SHL", &[0x81, 0x1b], 280),
        ("CALLDATALOAD", &[0x35], 560),
        ("MLOAD", &[0x51], 560),
        ("SLOAD", &[0x54], 560),
        ("MSTORE", &[0x81, 0x81, 0x52, 0x81, 0x01], 110),
    ] {
        let (compiled, refused) = check(name, &repeated(op, times));
        assert_eq!((compiled, refused), (1, 0), "{name}");
    }
}

#[test]
fn constants() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut code = Vec::new();
    for at in 0..180u16 {
        code.push(0x7f);
        code.extend(std::iter::repeat_with(|| rng.u8(..)).take(32));
        code.push(0x61);
        code.extend((32 * at).to_be_bytes());
        code.push(0x52);
    }
    code.push(0x00);
    assert_eq!(check("constants", &code), (1, 0));
}

#[test]
fn deep_stacks() {
    // Words that every access to memory may leave with.
    let mut code = Vec::new();
    for n in 0..50 {
        code.extend(load(n));
    }
    for n in 0..100 {
        code.extend([0x60, n, 0x51, 0x50]);
    }
    code.push(0x00);
    let (compiled, refused) = check("deep stacks", &code);
    assert_eq!(compiled + refused, 1);
    // The same, and they change all the time.
    let mut code = Vec::new();
    for n in 0..40 {
        code.extend(load(n));
    }
    for n in 0..100 {
        code.extend([0x8f - n % 16, 0x51, 0x9f - n % 16, 0x50]);
    }
    code.push(0x00);
    let (compiled, refused) = check("changing stacks", &code);
    assert_eq!(compiled + refused, 1);
}

#[test]
fn dense_jumps() {
    let mut rng = fastrand::Rng::with_seed(2);
    for (blocks, words) in [(200, 0), (120, 14)] {
        let mut code = Vec::new();
        for n in 0..words {
            code.extend(load(n));
        }
        let (first, size) = (code.len(), 8);
        for n in 0..blocks {
            let to = (first + size * rng.usize(..blocks)) as u16;
            code.push(0x5b);
            match words {
                0 => code.extend(load(n as u8)),
                _ => code.extend([0x90 + (n % 13) as u8, 0x82, 0x5b]),
            }
            code.push(0x61);
            code.extend(to.to_be_bytes());
            code.push(0x57);
        }
        code.push(0x00);
        let (compiled, refused) = check("dense jumps", &code);
        assert!(compiled + refused >= 1, "{compiled} {refused}");
    }
}

#[test]
fn jumps_that_are_not_resolved() {
    let mut code = Vec::new();
    for n in 0..100 {
        code.extend([0x5b]);
        code.extend(load(n));
        code.extend(load(n.wrapping_add(32)));
        code.extend([0x57]);
    }
    code.extend([0x5b, 0x60, 0x00, 0x35, 0x56]);
    let (compiled, refused) = check("unresolved jumps", &code);
    assert!(compiled >= 1 && refused == 0);
}

#[test]
fn code_for_any_cpu_has_no_more_than_its_instructions() {
    // The same region for both targets; neither refers to anything but what the loader knows.
    let function = functions(&repeated(&[0x81, 0x04], 50)).remove(0);
    for target in [Target::Host, Target::Baseline] {
        let mut compiler = Compiler::new(target).expect("the target is supported");
        let object = compiler.compile(&function, &Limits::default()).expect("it compiles");
        assert!(object.code_len > 0 && object.records >= object.code_len);
        let elf = compiler.object_bytes(&function, &Limits::default()).expect("it compiles");
        assert_eq!(elf[..4], *b"\x7fELF");
        let text = compiler.llvm_ir(&function, true).expect("it compiles");
        assert!(text.contains("define i64 @body(") && !text.contains("udiv i256"));
    }
}
