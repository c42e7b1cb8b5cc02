//! Artifacts are read as they were written, and what is not one is refused.

mod support;

use fastrand::Rng;
use kiln_store::{Access, Artifact, DecodeLimits, Loaded, Store};
use support::artifact;

const LIMITS: DecodeLimits = DecodeLimits {
    bytes_max: 1 << 20,
    code_bytes_max: 1 << 16,
    text_bytes_max: 1 << 16,
    regions_max: 16,
};

#[test]
fn what_is_written_is_read() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..500 {
        let artifact = artifact(&mut rng);
        let bytes = artifact.encode();
        assert!(Artifact::decode(&bytes, &artifact.key, &LIMITS).as_ref() == Ok(&artifact));
        assert!(artifact.encode() == bytes);
    }
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/store/");
    let store = Store::open(&path, Access::ReadWrite).expect("a store");
    let mut rng = Rng::with_seed(2);
    let mut artifacts: Vec<_> = (0..50).map(|_| artifact(&mut rng)).collect();
    for artifact in &artifacts {
        assert_eq!(store.load(&artifact.key, &LIMITS).expect("to read"), Loaded::Missing);
        let bytes = store.save(artifact).expect("to write");
        assert_eq!(bytes, artifact.encode().len() as u64);
    }
    let again = Store::open(&path, Access::ReadOnly).expect("the store");
    for store in [&store, &again] {
        for artifact in &artifacts {
            let loaded = store.load(&artifact.key, &LIMITS).expect("to read");
            assert!(loaded.found().is_some_and(|loaded| *artifact == loaded));
        }
        let mut keys = store.keys().expect("to list");
        keys.sort();
        artifacts.sort_by_key(|artifact| artifact.key);
        assert!(keys.iter().eq(artifacts.iter().map(|artifact| &artifact.key)));
    }
}
