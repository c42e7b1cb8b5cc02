//! How long it takes to open a store, to list what is in it, and to load from it:
//! `cargo run --release -p kiln-store --example index -- [ARTIFACTS] [BYTES]`, 10,000 of 20,000 bytes by itself. The
//! files were just written, so they are in the page cache.
#![expect(clippy::print_stdout, reason = "prints what it measures")]

use kiln_abi::{EntryTable, Pc};
use kiln_ir::{Config, OpcodeSet, SpecId};
use kiln_store::{Access, Artifact, CollectPlan, DecodeLimits, Digest, Key, Rank, Store};
use std::{error::Error, time::Instant};

/// Timed runs; the shortest counts.
const RUNS: u32 = 9;

fn artifact(nth: usize, bytes: usize) -> Artifact {
    let config = Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::EMPTY };
    let mut bytecode = vec![0x5b; bytes / 10 + 8];
    bytecode[..8].copy_from_slice(&(nth as u64).to_le_bytes());
    let mut entries = EntryTable::new(bytecode.len(), bytes / 100);
    for pc in (40..bytecode.len()).step_by(32) {
        entries.insert(Pc(pc as u32), pc as u32, true);
    }
    Artifact {
        key: Key::new(&bytecode, &config, Digest::of(b"a build"), Rank::BASELINE),
        config,
        created_s: 0,
        text: vec![0x90; bytes],
        code_len: bytes as u32,
        entries,
        blocks: 1,
        instructions: 1,
        regions: None,
        bytecode,
    }
}

/// The shortest of several runs.
fn timed<T>(what: &str, mut run: impl FnMut() -> T) {
    let time = |_| {
        let began = Instant::now();
        let answer = run();
        let time = began.elapsed();
        drop(answer);
        time
    };
    let time = (0..RUNS).map(time).min().unwrap_or_default();
    println!("{what}: {:.2} ms", time.as_secs_f64() * 1e3);
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1);
    let mut number = |default| numbers.next().map_or(Ok(default), |text| text.parse());
    let (count, bytes) = (number(10_000)?, number(20_000)?);
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), Access::ReadWrite)?;
    // As the store would, but not synced: that is what takes long.
    for nth in 0..count {
        let artifact = artifact(nth, bytes);
        let path = store.path().join("artifacts").join(artifact.key.to_string());
        std::fs::write(path, artifact.encode())?;
    }
    let limits = DecodeLimits::default();
    let keys = store.keys()?;
    assert_eq!(keys.len(), count);
    println!("{count} artifacts of {bytes} bytes of text");
    timed("open", || Store::open(folder.path(), Access::ReadOnly));
    timed("keys", || store.keys());
    timed("sizes and times", || store.list());
    timed("one pass that finds nothing to do", || {
        store.collect(&CollectPlan::new(u64::MAX, Digest::default()), &|| false)
    });
    let mut next = keys.iter().cycle();
    timed("load of one", || next.next().map(|key| store.load(key, &limits)));
    let mut nth = count;
    timed("save of one, synced", || {
        nth += 1;
        store.save(&artifact(nth, bytes))
    });
    Ok(())
}
