//! Artifacts are read as they were written, and what is not one is refused, set aside, and missing from then on.

mod support;

use fastrand::Rng;
use kiln_abi::{CodeObject, EntryTable, Pc};
use kiln_store::{
    Access, Artifact, BadReason, DecodeError, DecodeLimits, Digest, Key, Loaded, Rank, Store,
};
use std::{fs, path::Path};
use support::{LIMITS, artifact, file, names, store};

/// Bytes of the header.
const HEADER: usize = 56;

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
        assert!(store.load(&artifact.key, &LIMITS).expect("to read") == Loaded::Missing);
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
    // Another version of it, and none.
    let other = Artifact { created_s: 5, ..artifacts[0].clone() };
    store.save(&other).expect("to write");
    assert!(store.load(&other.key, &LIMITS).expect("to read").found().as_ref() == Some(&other));
    assert_eq!(store.remove(&other.key).ok(), Some(true));
    assert_eq!(store.remove(&other.key).ok(), Some(false));
    assert!(store.load(&other.key, &LIMITS).expect("to read") == Loaded::Missing);
    assert!(names(&store, "tmp").is_empty() && names(&store, "aside").is_empty());
}

#[test]
fn every_flipped_bit_is_seen() {
    let mut rng = Rng::with_seed(3);
    for rank in Rank::ALL {
        let artifact = std::iter::repeat_with(|| support::artifact(&mut rng))
            .find(|artifact| artifact.key.rank == rank)
            .expect("one of each");
        let bytes = artifact.encode();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let read = Artifact::decode(&bytes, &artifact.key, &LIMITS);
            let error = read.expect_err("a flipped bit");
            let expected = match at {
                0..8 => matches!(error, DecodeError::Magic(_)),
                8..12 => matches!(error, DecodeError::Version { ours: 1, .. }),
                12..24 => matches!(error, DecodeError::Length { .. } | DecodeError::Malformed(_)),
                _ => matches!(error, DecodeError::Hash(_)),
            };
            assert!(expected, "byte {at}: {error}");
        }
        for len in 0..bytes.len() {
            let read = Artifact::decode(&bytes[..len], &artifact.key, &LIMITS);
            assert!(matches!(read, Err(DecodeError::Length { .. })), "{len} bytes");
        }
        for more in [1, 7, 4096] {
            let bytes = [&*bytes, &vec![0; more]].concat();
            let read = Artifact::decode(&bytes, &artifact.key, &LIMITS);
            assert!(matches!(read, Err(DecodeError::Length { .. })), "{more} more");
        }
    }
}

/// Where the parts of an artifact begin and end in its file, by name.
fn places(artifact: &Artifact) -> Vec<(&'static str, usize)> {
    let bytes = artifact.encode();
    let head = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    let bytecode = HEADER + head;
    let text = bytecode + artifact.bytecode.len();
    let entries = text + artifact.text.len();
    let regions = entries + 9 * artifact.entries.len();
    vec![
        ("magic", 0),
        ("version", 8),
        ("length of the manifest", 12),
        ("length of the payload", 16),
        ("hash", 24),
        ("key", HEADER),
        ("manifest", HEADER + 200),
        ("end of the manifest", bytecode - 1),
        ("bytecode", bytecode),
        ("text", text),
        ("entries", entries),
        ("regions", regions),
        ("last byte", bytes.len() - 1),
    ]
}

/// One that has everything.
fn full(rng: &mut Rng) -> Artifact {
    let has_all = |artifact: &Artifact| {
        artifact.regions.as_ref().is_some_and(|regions| !regions.objects.is_empty())
    };
    std::iter::repeat_with(|| artifact(rng)).find(has_all).expect("one with regions")
}

/// What is in the place of an artifact is refused for such a reason, set aside as it is, and missing from then on.
fn refused(store: &Store, key: &Key, what: &str, reason: impl FnOnce(&DecodeError) -> bool) {
    let path = file(store, key);
    let contents = fs::read(&path).expect("what is there");
    let read_only = Store::open(store.path(), Access::ReadOnly).expect("the store");
    for (store, is_set_aside) in [(&read_only, false), (store, true)] {
        let loaded = store.load(key, &LIMITS).expect("to read");
        let Loaded::Bad(bad) = loaded else { panic!("{what}: it was not refused") };
        let BadReason::Decode(error) = &bad.reason else { panic!("{what}: {bad}") };
        assert!(is_set_aside || reason_is_told(&bad.to_string(), &path, error), "{what}: {bad}");
        assert_eq!((bad.set_aside, &bad.path), (is_set_aside, &path), "{what}");
        assert_eq!(path.exists(), !is_set_aside, "{what}");
        if is_set_aside {
            assert!(bad.to_string().ends_with(" (set aside)"), "{bad}");
            let aside = fs::read(store.path().join("aside").join(key.to_string()));
            assert!(aside.expect("it is set aside") == contents, "{what}");
            assert!(store.load(key, &LIMITS).expect("to read") == Loaded::Missing, "{what}");
            assert!(reason(error), "{what}: {bad}");
            return;
        }
    }
}

fn reason_is_told(text: &str, path: &Path, error: &DecodeError) -> bool {
    text == format!("{}: {error}", path.display())
}

#[test]
fn damage_is_set_aside_wherever_it_is() {
    let (_folder, store) = store();
    let mut rng = Rng::with_seed(4);
    let artifact = full(&mut rng);
    let path = file(&store, &artifact.key);
    for (what, at) in places(&artifact) {
        store.save(&artifact).expect("to write");
        let mut bytes = fs::read(&path).expect("its file");
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).expect("to damage it");
        refused(&store, &artifact.key, what, DecodeError::is_damage);
        for len in [at, at + 1] {
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes[..len.min(bytes.len() - 1)]).expect("to cut it off");
            let is_length = |error: &_| matches!(error, DecodeError::Length { .. });
            refused(&store, &artifact.key, what, is_length);
        }
    }
    store.save(&artifact).expect("to write");
    let bytes = fs::read(&path).expect("its file");
    fs::write(&path, [&*bytes, b"\0"].concat()).expect("to write behind it");
    refused(&store, &artifact.key, "appended", |error| matches!(error, DecodeError::Length { .. }));
    fs::write(&path, b"").expect("to empty it");
    refused(&store, &artifact.key, "empty", |error| matches!(error, DecodeError::Length { .. }));
}

#[test]
fn an_artifact_under_another_name_is_refused() {
    let (_folder, store) = store();
    let mut rng = Rng::with_seed(5);
    let (one, other) = (artifact(&mut rng), artifact(&mut rng));
    let keys = [
        Key { code_hash: [1; 32], ..one.key },
        Key { baked: Digest([1; 16]), ..one.key },
        Key { build: Digest([1; 16]), ..one.key },
        Key {
            rank: if one.key.rank == Rank::TIER1 { Rank::BASELINE } else { Rank::TIER1 },
            ..one.key
        },
    ];
    let is_other =
        |error: &DecodeError| matches!(error, DecodeError::OtherKey { is } if **is == one.key);
    for key in keys {
        store.save(&one).expect("to write");
        fs::rename(file(&store, &one.key), file(&store, &key)).expect("to rename it");
        refused(&store, &key, "renamed", is_other);
        assert!(store.load(&one.key, &LIMITS).expect("to read") == Loaded::Missing);
    }
    // Two that change places.
    store.save(&one).expect("to write");
    store.save(&other).expect("to write");
    let [a, b] = [&one, &other].map(|artifact| file(&store, &artifact.key));
    let (one_bytes, other_bytes) = (fs::read(&a).expect("a"), fs::read(&b).expect("b"));
    fs::write(a, other_bytes).expect("to write");
    fs::write(b, one_bytes).expect("to write");
    refused(&store, &one.key, "swapped", |error| matches!(error, DecodeError::OtherKey { .. }));
    refused(&store, &other.key, "swapped", is_other);
}

/// With all hashes right: who wrote it had a fault.
#[test]
fn what_can_not_be_is_refused_by_what_it_is() {
    let mut rng = Rng::with_seed(9);
    let regions = |artifact: &Artifact| artifact.regions.as_ref().map_or(0, |of| of.objects.len());
    let good = std::iter::repeat_with(|| artifact(&mut rng))
        .find(|artifact| regions(artifact) > 1 && artifact.bytecode.len() > 100)
        .expect("one with regions");
    let refused = |what: &str, change: &dyn Fn(&mut Artifact)| {
        let mut artifact = good.clone();
        change(&mut artifact);
        let error = Artifact::decode(&artifact.encode(), &artifact.key, &LIMITS).err();
        let text = error.map(|error| error.to_string());
        assert!(text.as_ref().is_some_and(|text| text.contains(what)), "{what}: {text:?}");
    };
    fn objects(artifact: &mut Artifact) -> &mut Vec<(Pc, CodeObject)> {
        &mut artifact.regions.as_mut().expect("regions").objects
    }
    refused("its bytecode has another hash", &|artifact| artifact.key.code_hash[9] ^= 1);
    refused("its bytecode has another hash", &|artifact| artifact.bytecode.push(0));
    refused("its configuration has another hash", &|artifact| artifact.key.baked.0[9] ^= 1);
    refused("its configuration has another hash", &|artifact| artifact.config.gas[9] ^= 1);
    refused("code outside of the text", &|of| of.code_len = of.text.len() as u32 + 1);
    refused("an entry outside of the code", &|artifact| artifact.code_len = 1);
    refused("more blocks than bytecode", &|of| of.blocks = of.bytecode.len() as u32 + 1);
    refused("a JUMPDEST that is none", &|artifact| {
        let pc = artifact.bytecode.iter().position(|&byte| byte != 0x5b).expect("another opcode");
        artifact.entries.insert(Pc(pc as u32), 1, true);
    });
    let behind = |code: &[u8]| {
        let mut entries = EntryTable::new(code.len() + 1, 1);
        entries.insert(Pc(code.len() as u32), 1, false);
        entries
    };
    refused("behind the code", &|artifact| artifact.entries = behind(&artifact.bytecode));
    refused("regions of the baseline", &|artifact| {
        artifact.regions.as_mut().expect("regions").rank = Rank::BASELINE;
    });
    refused("regions out of order", &|artifact| objects(artifact).swap(0, 1));
    refused("regions out of order", &|artifact| {
        let twice = objects(artifact)[0].clone();
        objects(artifact).insert(0, twice);
    });
    refused("a region without an entry at its head", &|artifact| {
        let code_len = artifact.bytecode.len();
        objects(artifact)[0].1.entries = EntryTable::new(code_len, 0);
    });
    refused("outside of its text", &|of| {
        objects(of)[0].1.records = objects(of)[0].1.text.len() + 4
    });
    refused("outside of its text", &|of| objects(of)[1].1.code_len = objects(of)[1].1.records + 1);
    refused("not aligned", &|of| {
        let object = &mut objects(of)[0].1;
        object.text.extend([0; 8]);
        object.records += 2;
    });
}

#[test]
fn what_is_over_a_limit_stays_where_it_is() {
    let (_folder, store) = store();
    let mut rng = Rng::with_seed(6);
    let artifact = full(&mut rng);
    store.save(&artifact).expect("to write");
    let bytes = artifact.encode().len();
    for limits in [
        DecodeLimits { bytes_max: bytes - 1, ..LIMITS },
        // The file has room, and its tables have not.
        DecodeLimits { bytes_max: bytes, ..LIMITS },
        DecodeLimits { code_bytes_max: artifact.bytecode.len() - 1, ..LIMITS },
        DecodeLimits { text_bytes_max: artifact.text.len() - 1, ..LIMITS },
        DecodeLimits { regions_max: 0, ..LIMITS },
    ] {
        let loaded = store.load(&artifact.key, &limits).expect("to read");
        let Loaded::Bad(bad) = loaded else { panic!("it was not refused: {limits:?}") };
        assert!(matches!(bad.reason, BadReason::Decode(DecodeError::Limit { .. })), "{bad}");
        assert!(!bad.set_aside);
    }
    assert!(store.load(&artifact.key, &LIMITS).expect("to read").found() == Some(artifact));
    assert!(names(&store, "aside").is_empty());
}

#[test]
fn what_is_set_aside_is_bounded() {
    let (_folder, store) = store();
    let mut rng = Rng::with_seed(7);
    let base = artifact(&mut rng);
    let mut last = String::new();
    for nth in 0..100 {
        let key = Key { code_hash: [nth; 32], ..base.key };
        fs::write(file(&store, &key), [nth]).expect("to write");
        let loaded = store.load(&key, &LIMITS).expect("to read");
        assert!(matches!(loaded, Loaded::Bad(bad) if bad.set_aside));
        last = key.to_string();
    }
    let aside = names(&store, "aside");
    assert!(aside.len() == 64 && aside.contains(&last), "{}", aside.len());
}

#[test]
fn ten_thousand_names_are_the_index() {
    let (_folder, store) = store();
    let mut rng = Rng::with_seed(8);
    let base = artifact(&mut rng);
    let key = |nth: u32| Key {
        code_hash: [nth.to_le_bytes(); 8].concat().try_into().expect("32"),
        ..base.key
    };
    for nth in 0..10_000 {
        fs::write(file(&store, &key(nth)), b"").expect("to write");
    }
    // What is no key is nobody's artifact.
    for name in
        ["README", ".kiln", &format!("{}.tmp", base.key), &base.key.to_string().to_uppercase()]
    {
        fs::write(store.path().join("artifacts").join(name), b"").expect("to write");
    }
    let mut keys = store.keys().expect("to list");
    keys.sort_unstable();
    let mut expected: Vec<_> = (0..10_000).map(key).collect();
    expected.sort_unstable();
    assert!(keys == expected);
    assert_eq!(store.list().expect("to list").len(), 10_000);
}
