//! Compares the two compilers of regions: what their code takes to run, what compilation takes, how dense the
//! code is. `cargo run --release -p kiln-tier1 --features llvm --example regions -- [CODE.hex ...]`: without
//! files it runs loops of its own, with files it compiles all regions of these contracts.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use kiln_abi::{CodeObject, Context, ContinueOrLeave, ExitRecord, HelperTable, Pc, Word};
use kiln_ir::{
    Blocks, Config, Limits, OpcodeSet, SpecId,
    ssa::{self, Analysis, Choice, Function, Region},
};
use kiln_region_tests::support::{Machine, Program};
use kiln_tier1::{Compiler, Target};
use revm_primitives::{U256, hex};
use std::time::{Duration, Instant};

/// Timed runs; the shortest counts.
const RUNS: usize = 40;

fn config() -> Config {
    Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::default() }
}

fn functions(code: &[u8], heads: Option<&[u32]>) -> Vec<Function> {
    let config = config();
    let blocks = Blocks::scan(code, &config, &Limits::NONE).expect("in bounds");
    let analysis = Analysis::new(code, &blocks, &config, &Limits::NONE).expect("in bounds");
    let count = |_: Pc| 1;
    let regions = match heads {
        Some(heads) => {
            heads.iter().filter_map(|&head| Region::grow(&analysis, Pc(head), &count)).collect()
        }
        None => ssa::choose(&analysis, &count, Choice { hot: 1, regions_max: 64 }),
    };
    let build = |region: &Region| ssa::build(&analysis, region, &Limits::NONE);
    regions.iter().filter_map(|region| build(region).ok()).collect()
}

unsafe extern "C" fn keccak256(
    _: *mut Context,
    _: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave {
    // SAFETY: compiled code passes words of its own.
    unsafe { *p0 = Word(std::array::from_fn(|limb| (*p1).0[limb] ^ (*p2).0[limb] ^ 77)) };
    kiln_abi::CONTINUE
}

/// Loops of their own: a name, the code, and where the region begins.
fn loops() -> Vec<(&'static str, Vec<u8>, u32)> {
    let code = |text: &str| hex::decode(text.replace(' ', "")).expect("hexadecimal");
    vec![
        // n, a, b = n - 1, b, a + b
        ("fibonacci", code("600035 6000 6001 5b 90 81 01 91 6001 90 03 91 82 6007 57 00"), 0),
        // memory[0..64] = i, hash; hash = keccak(memory[0..64])
        (
            "memory and keccak",
            code(
                "612710 6000 5b 81 6000 52 80 6020 52 6040 6000 20 90 50 90 6001 90 03 90 81 6005 57 00",
            ),
            0,
        ),
        // Fixed-point arithmetic with signs.
        (
            "arithmetic",
            code(
                "612710 620f1234 6203d090 5b 81 81 02 620f4240 90 05 01 620f4243 90 07 90 6003 02 81 90 03 \
                 620f423f 90 07 80 6000 13 6033 57 6007 01 5b 90 91 6001 90 03 91 82 600b 57 00",
            ),
            0,
        ),
    ]
}

fn time(program: &Program, machine: &mut Machine) -> Duration {
    (machine.cx.gas, machine.cx.poll) = (u64::MAX / 2, u32::MAX);
    let before = Instant::now();
    program.run(machine, 0);
    before.elapsed()
}

fn run() {
    let mut llvm = Compiler::new(Target::Host).expect("supported");
    let mut cranelift = kiln_tier0::region::Compiler::new().expect("supported");
    for (name, code, head) in loops() {
        let function = functions(&code, Some(&[head])).remove(0);
        if std::env::var("IR").as_deref() == Ok(name) {
            println!("{function}\n{}", llvm.llvm_ir(&function, true).expect("compiles"));
        }
        let first = llvm.compile(&function, &Limits::NONE).expect("compiles");
        let second = cranelift.compile(&function, &Limits::NONE).expect("compiles");
        if let Some(path) =
            std::env::var_os("DUMP").filter(|_| std::env::var("NAME").as_deref() == Ok(name))
        {
            std::fs::write(path, &first.text[..first.code_len]).expect("written");
        }
        let bytes = [first.code_len, second.code_len];
        let programs = [first, second].map(|object| Program::load(object, &function.exits));
        let mut machine = Machine::new();
        // SAFETY: the table that `machine` has is a static.
        let helpers = HelperTable { keccak256, ..kiln_region_tests::run::HELPERS };
        machine.cx.helpers = &helpers;
        machine.calldata = U256::from(100_000).to_be_bytes_vec();
        let mut best = [Duration::MAX; 2];
        let mut results = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            for (index, program) in programs.iter().enumerate() {
                best[index] = best[index].min(time(program, &mut machine));
                results[index] = machine.words();
            }
        }
        assert_eq!(results[0], results[1], "{name}: both do the same");
        let [first, second] = best.map(|best| best.as_nanos() as f64);
        println!(
            "{name}: LLVM {:.1} us, Cranelift {:.1} us, ratio {:.2}; bytes {} and {}",
            first / 1000.0,
            second / 1000.0,
            second / first,
            bytes[0],
            bytes[1],
        );
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn measured<E>(
    functions: &[Function],
    mut compile: impl FnMut(&Function) -> Result<CodeObject, E>,
) -> (Duration, usize, usize) {
    let before = cpu_time();
    let (mut bytes, mut refused) = (0, 0);
    for function in functions {
        match compile(function) {
            Ok(object) => bytes += object.code_len,
            Err(_) => refused += 1,
        }
    }
    (cpu_time() - before, bytes, refused)
}

fn compile(path: &str) {
    let text = std::fs::read_to_string(path).expect("readable");
    let code = hex::decode(text.trim()).expect("hexadecimal");
    let functions = functions(&code, None);
    let instructions: u32 = functions.iter().map(|function| function.instructions).sum();
    let mut llvm = Compiler::new(Target::Host).expect("supported");
    let mut cranelift = kiln_tier0::region::Compiler::new().expect("supported");
    println!("{path}: {} regions, {instructions} instructions", functions.len());
    let made = [
        (
            "LLVM",
            measured(&functions, |function| llvm.compile(function, &Limits::NONE).map_err(drop)),
        ),
        (
            "Cranelift",
            measured(&functions, |function| {
                cranelift.compile(function, &Limits::NONE).map_err(drop)
            }),
        ),
    ];
    for (name, (time, bytes, refused)) in made {
        println!(
            "  {name}: {:.1} ms, {:.1} us an instruction; {:.1} bytes an instruction; {refused} refused",
            time.as_secs_f64() * 1e3,
            time.as_secs_f64() * 1e6 / f64::from(instructions),
            bytes as f64 / f64::from(instructions),
        );
    }
}

fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        run();
    }
    files.iter().for_each(|path| compile(path));
}
