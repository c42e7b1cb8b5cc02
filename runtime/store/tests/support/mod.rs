//! Artifacts that could have been made.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use fastrand::Rng;
use kiln_abi::{CodeObject, EntryTable, Pc};
use kiln_ir::{Config, JumpDests, OpcodeSet, SpecId};
use kiln_store::{Access, Artifact, ArtifactRegions, DecodeLimits, Digest, Key, Rank, Store};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};
use tempfile::TempDir;

pub fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.u8(..)).collect()
}

pub fn config(rng: &mut Rng) -> Config {
    let specs = [SpecId::FRONTIER, SpecId::CANCUN, SpecId::OSAKA, SpecId::AMSTERDAM];
    Config {
        spec: specs[rng.usize(..specs.len())],
        gas: std::array::from_fn(|_| rng.u16(..)),
        replaced: (0..rng.usize(..4)).map(|_| rng.u8(..)).collect::<OpcodeSet>(),
    }
}

/// Code with pushes and jump destinations.
pub fn bytecode(rng: &mut Rng, len: usize) -> Vec<u8> {
    let opcode = |rng: &mut Rng| match rng.u8(..4) {
        0 => 0x5b,
        1 => rng.u8(0x5f..0x80),
        _ => rng.u8(..),
    };
    (0..len).map(|_| opcode(rng)).collect()
}

/// Entries into so many bytes of machine code, one of them at `head`.
fn entries(rng: &mut Rng, code: &[u8], code_len: u32, head: usize) -> EntryTable {
    let dests = JumpDests::of(code);
    let mut pcs: Vec<_> = (0..rng.usize(..20)).map(|_| rng.usize(..code.len())).collect();
    pcs.push(head);
    // Tables are equal if they were made in the same order.
    pcs.sort_unstable();
    pcs.dedup();
    let mut table = EntryTable::new(code.len(), pcs.len());
    for pc in pcs {
        table.insert(Pc(pc as u32), rng.u32(1..code_len), dests.contains(pc) && rng.bool());
    }
    table.shrink();
    table
}

fn object(rng: &mut Rng, code: &[u8], head: usize) -> CodeObject {
    let code_len = rng.usize(2..300);
    let records = (code_len + rng.usize(..40)).next_multiple_of(4);
    let len = records + rng.usize(..200);
    CodeObject {
        text: bytes(rng, len),
        code_len,
        entries: entries(rng, code, code_len as u32, head),
        records,
        blocks: rng.usize(..9),
    }
}

pub fn regions(rng: &mut Rng, code: &[u8], rank: Rank) -> ArtifactRegions {
    let mut heads: Vec<_> = (0..rng.usize(..4)).map(|_| rng.usize(..code.len())).collect();
    heads.sort_unstable();
    heads.dedup();
    let objects = heads.into_iter().map(|pc| (Pc(pc as u32), object(rng, code, pc))).collect();
    ArtifactRegions { rank, instructions: rng.u32(..), objects }
}

/// Of a build.
pub fn artifact_of(rng: &mut Rng, build: Digest, text_bytes: usize) -> Artifact {
    let len = rng.usize(1..800);
    let bytecode = bytecode(rng, len);
    let config = config(rng);
    let rank = Rank::ALL[rng.usize(..3)];
    let code_len = (text_bytes as u32 / 2).max(2);
    Artifact {
        key: Key::new(&bytecode, &config, build, rank),
        config,
        created_s: rng.u64(..),
        text: bytes(rng, text_bytes.max(2)),
        code_len,
        entries: entries(rng, &bytecode, code_len, 0),
        blocks: rng.u32(..=len as u32),
        instructions: rng.u32(..),
        regions: (rank != Rank::BASELINE).then(|| regions(rng, &bytecode, rank)),
        bytecode,
    }
}

pub fn artifact(rng: &mut Rng) -> Artifact {
    let len = rng.usize(2..3000);
    artifact_of(rng, Digest::of(b"a build"), len)
}

pub const LIMITS: DecodeLimits = DecodeLimits {
    bytes_max: 1 << 20,
    code_bytes_max: 1 << 16,
    text_bytes_max: 1 << 19,
    regions_max: 16,
};

/// A store in a folder of its own.
pub fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path().join("store"), Access::ReadWrite).expect("a store");
    (folder, store)
}

/// Where an artifact is.
pub fn file(store: &Store, key: &Key) -> PathBuf {
    store.path().join("artifacts").join(key.to_string())
}

/// The names in a folder of the store.
pub fn names(store: &Store, folder: &str) -> Vec<String> {
    let files = std::fs::read_dir(store.path().join(folder)).expect("to list");
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        file.expect("a file").file_name().into_string().expect("text")
    };
    let mut names: Vec<_> = files.map(name).collect();
    names.sort();
    names
}

/// This test binary again, as the child of one test.
pub fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.stdout(Stdio::null());
    command
}

/// Where a child is to work, if this is one.
pub fn asked() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Set for children: where they work.
pub const CHILD: &str = "KILN_STORE_TEST_CHILD";
