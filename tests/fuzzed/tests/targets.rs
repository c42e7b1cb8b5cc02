//! Every fuzz target over its committed seeds and over bytes from a seeded generator, so that none can rot; and the
//! seeds, which come from the case files and from what the harnesses write themselves.
//!
//! With `KILN_TEST_BLESS` set, the seeds are written. `KILN_TEST_CASES` and `KILN_TEST_SEED` say how many inputs and
//! which: where there is no nightly toolchain, this is the fuzzing there is, without coverage.

use fastrand::Rng;
use kiln_fuzzed::{TARGETS, Target, bytes_of};
use kiln_harness::{Case, asm};
use kiln_ir::SpecId;
use kiln_ir_tests::{program, text};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names and contents of the seeds of a target.
type Seeds = BTreeMap<String, Vec<u8>>;

/// Inputs of a target that are made of its seeds, and bytes of one.
const INPUTS: u64 = 400;
const BYTES_MAX: usize = 400;
/// Of cases that run on all engines, where LLVM takes long.
const CASES: u64 = 40;
/// Bytes of all seeds together.
const SEED_BYTES_MAX: usize = 300 << 10;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn folder(target: &str) -> PathBuf {
    repository().join("fuzz/seeds").join(target)
}

fn committed(target: &str) -> Seeds {
    let Ok(files) = std::fs::read_dir(folder(target)) else { return Seeds::new() };
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("a seed can be read"))
    };
    files.map(|file| read(file.expect("its entries can be listed").path())).collect()
}

/// The code of every case file of a trap.
fn cases() -> Seeds {
    let files = std::fs::read_dir(repository().join("tests/cases")).expect("the case files");
    let paths = files.map(|file| file.expect("its entries can be listed").path());
    let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // What was found by fuzzing is no trap: a new one needs no new seed.
    paths
        .filter(|path| !name(path).starts_with("found_"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a case file can be read");
            let case: Case = text.parse().expect("a case file parses");
            (name(&path), bytes_of(&case))
        })
        .collect()
}

/// Texts of modules, and code behind each of the bytes that say what becomes of it.
fn modules() -> Seeds {
    let mut seeds = Seeds::new();
    let sources = [
        (
            "arith",
            "PUSH 1 CALLDATALOAD PUSH 2 ADD DUP1 MUL PUSH -1 SUB PUSH 3 SHL PUSH 0 MSTORE STOP",
        ),
        ("branch", "PUSH 0 CALLDATALOAD DUP1 PUSH 5 LT PUSH @a JUMPI POP a: JUMPDEST ISZERO STOP"),
        ("loop", "PUSH 9 a: JUMPDEST PUSH 1 SWAP1 SUB DUP1 PUSH @a JUMPI STOP"),
        ("dynamic", "PUSH 0 CALLDATALOAD JUMP JUMPDEST PUSH 32 PUSH 0 KECCAK256 PUSH 0 SSTORE GAS"),
        (
            "memory",
            "PUSH 64 MLOAD DUP1 PUSH 0 MSTORE8 MSIZE PUSH 0 PUSH 0 RETURNDATACOPY PUSH 0 REVERT",
        ),
        ("deep", "24*( PC ) 0xe680 0xe781 0xe801 0xe85b ADD STOP"),
        (
            "host",
            "CALLER ADDRESS CALLVALUE CALLDATASIZE PUSH 7 TLOAD SLOAD DUP2 EXP PUSH 0 PUSH 0 LOG1",
        ),
    ];
    for (name, source) in sources {
        let code = asm::assemble(source).expect("it assembles");
        let module = text::check(&code, &text::config(SpecId::AMSTERDAM));
        seeds.insert(format!("text_{name}"), module.to_string().into_bytes());
        for kind in 0..3 {
            seeds.insert(format!("code_{name}_{kind}"), [&[kind, 99, kind], &*code].concat());
        }
    }
    let mut rng = Rng::with_seed(1);
    for nth in 0..9 {
        let code = program(&mut rng, 12);
        seeds.insert(format!("program_{nth}"), [&[nth, 250, nth], &*code].concat());
    }
    seeds
}

fn environments() -> Seeds {
    let all = kiln_runtime::VARIABLES.iter().filter_map(|variable| {
        let value = variable.value(&kiln_runtime::Config::default())?;
        Some(format!("{}={value}", variable.name))
    });
    let all: Vec<_> = all.collect();
    let texts = [
        ("defaults", all.join("\n")),
        ("sizes", "KILN_CODE_BYTES_MAX=64M\nKILN_CODE_LEN_MAX=3k".to_owned()),
        ("tiers", "KILN_FIRST_TIER=tier1\nKILN_TOP_TIER=baseline\nKILN_BACKEND=native".to_owned()),
        ("force", "KILN_FORCE=exit=3,swap=1,evict=7,promote".to_owned()),
        ("unknown", "KILN_BACKENDS=native\nPATH=/bin\nKILN_TEST_SEED=1".to_owned()),
        ("worker", "KILN_TIER1_WORKER=/no/such/worker".to_owned()),
    ];
    texts.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect()
}

fn sequences() -> Seeds {
    let mut rng = Rng::with_seed(2);
    let bytes = |nth| (0..8 + 4 * nth).map(|_| rng.u8(..)).collect();
    let all: Vec<Vec<u8>> = (0..24).map(bytes).collect();
    all.into_iter().enumerate().map(|(nth, bytes)| (format!("{nth:02}"), bytes)).collect()
}

fn messages() -> Seeds {
    let mut seeds = Seeds::new();
    for (name, payload) in kiln_tier1::worker::testing::messages() {
        let frame = [&(payload.len() as u32).to_le_bytes(), &*payload].concat();
        seeds.insert(format!("{name}_frame"), frame);
        seeds.insert(name.to_owned(), payload);
    }
    seeds
}

fn artifacts() -> Seeds {
    let seeds = kiln_store::testing::seeds();
    seeds.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// The seeds that a target should have.
fn seeds(target: &str) -> Seeds {
    match target {
        "artifact" => artifacts(),
        "bytes" => cases(),
        "config" => environments(),
        "ir" => modules(),
        "stencils" => sequences(),
        "wire" => messages(),
        target => panic!("{target} has no seeds"),
    }
}

#[test]
fn seeds_are_committed() {
    let mut bytes = 0;
    for (target, _) in TARGETS {
        let seeds = seeds(target);
        bytes += seeds.values().map(Vec::len).sum::<usize>();
        if std::env::var_os("KILN_TEST_BLESS").is_some() {
            let folder = folder(target);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).expect("the folder of seeds");
            for (name, bytes) in &seeds {
                std::fs::write(folder.join(name), bytes).expect("a seed can be written");
            }
        }
        assert!(committed(target) == seeds, "{target}: run this test with KILN_TEST_BLESS=1");
    }
    assert!(bytes < SEED_BYTES_MAX, "{bytes}");
}

/// A few bytes changed, and pieces of another seed put in.
fn mutated(rng: &mut Rng, seeds: &[&Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    // Some begin with a whole gas table: cut off within it they would say little.
    let bytes_max = bytes.len().max(BYTES_MAX);
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 => {
                let other = seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.u8(..8);
                }
            }
        }
    }
    bytes.truncate(bytes_max);
    bytes
}

fn run(target: &str) {
    let (_, run): (_, Target) =
        *TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let seeds = committed(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds.values().for_each(|seed| run(seed));
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let mut rng = Rng::with_seed(number("KILN_TEST_SEED").unwrap_or(3));
    let seeds: Vec<_> = seeds.values().collect();
    let inputs = if target == "bytes" { CASES } else { INPUTS };
    for nth in 0..number("KILN_TEST_CASES").unwrap_or(inputs) {
        let bytes = match nth % 8 {
            0 => (0..rng.usize(..BYTES_MAX)).map(|_| rng.u8(..)).collect(),
            _ => mutated(&mut rng, &seeds),
        };
        run(&bytes);
    }
}

#[test]
fn artifact() {
    run("artifact");
}

#[test]
fn bytes() {
    run("bytes");
}

#[test]
fn config() {
    run("config");
}

#[test]
fn ir() {
    run("ir");
}

#[test]
fn stencils() {
    run("stencils");
}

#[test]
fn wire() {
    run("wire");
}

/// The crate of the targets has all of these, and a dictionary for each that has words.
#[test]
fn every_target_is_one_of_cargo_fuzz() {
    let fuzz = repository().join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the manifest");
    let listed: BTreeSet<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
    for (target, _) in TARGETS {
        assert!(listed.contains(&*format!("{target}.rs\"")), "{target} is not in fuzz/Cargo.toml");
        let source = fuzz.join("fuzz_targets").join(format!("{target}.rs"));
        let source = std::fs::read_to_string(source).expect("its source");
        assert!(source.contains(&format!("kiln_fuzzed::{target}")), "{target}");
    }
    for dictionary in ["artifact", "bytes", "config", "ir"] {
        assert!(fuzz.join("dict").join(format!("{dictionary}.dict")).exists(), "{dictionary}");
    }
}
