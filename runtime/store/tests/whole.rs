//! What is done with all of a store: collected, verified, cleared, taken to another place.

mod support;

use fastrand::Rng;
use kiln_store::{
    Access, Artifact, BadReason, CollectPlan, DecodeLimits, Digest, Loaded, Profile, Store,
    StoreError,
};
use std::{
    cell::Cell,
    fs,
    time::{Duration, SystemTime},
};
use support::{LIMITS, artifact_of, config, file, names, store};

const OURS: Digest = Digest([1; 16]);
const OTHER: Digest = Digest([2; 16]);

/// Saves so many, of about 2 KiB. Each was used a minute after the one before.
fn filled(store: &Store, count: usize, build: Digest) -> Vec<Artifact> {
    let mut rng = Rng::with_seed(count as u64);
    let began = SystemTime::now() - Duration::from_secs(60 * 1000);
    let save = |nth: usize| {
        let artifact = artifact_of(&mut rng, build, 2000);
        store.save(&artifact).expect("to write");
        let opened = fs::File::open(file(store, &artifact.key)).expect("its file");
        opened.set_modified(began + Duration::from_secs(60 * nth as u64)).expect("its time");
        artifact
    };
    (0..count).map(save).collect()
}

fn is_there(store: &Store, artifact: &Artifact) -> bool {
    store.load(&artifact.key, &LIMITS).expect("to read").found().is_some()
}

fn bytes(store: &Store) -> u64 {
    store.list().expect("to list").iter().map(|stored| stored.bytes).sum()
}

#[test]
fn collected_it_keeps_what_was_used_last() {
    let (_folder, store) = store();
    let ours = filled(&store, 30, OURS);
    let others = filled(&store, 31, OTHER);
    fs::write(store.path().join("tmp/1-1"), b"of a writer that is gone").expect("to write");
    let all = bytes(&store);
    let done = store.collect(&CollectPlan::new(all, OURS), &|| false).expect("to collect");
    assert_eq!((done.removed, done.temporary, done.is_done), (0, 1, true));
    // Of other builds first.
    let done = store.collect(&CollectPlan::new(all - 1, OURS), &|| false).expect("to collect");
    assert!(done.removed > 0 && done.is_done && done.left_bytes == bytes(&store));
    assert!(!is_there(&store, &others[0]) && is_there(&store, &others[30]));
    assert!(ours.iter().all(|artifact| is_there(&store, artifact)));
    // Then what was not used for longest.
    let done = store.collect(&CollectPlan::new(all / 4, OURS), &|| false).expect("to collect");
    assert_eq!(done.left_bytes, bytes(&store));
    assert!(done.left_bytes <= all / 4 && done.left_bytes > all / 8);
    assert!(!others.iter().any(|artifact| is_there(&store, artifact)));
    assert!(!is_there(&store, &ours[0]) && is_there(&store, &ours[29]));
    let done = store.collect(&CollectPlan::new(0, OURS), &|| false).expect("to collect");
    assert!(done.left_bytes == 0 && store.keys().expect("to list").is_empty());
}

#[test]
fn a_pass_is_bounded_and_stops_at_once() {
    let (_folder, store) = store();
    filled(&store, 20, OURS);
    let plan = CollectPlan { removed_max: 3, ..CollectPlan::new(0, OURS) };
    let done = store.collect(&plan, &|| false).expect("to collect");
    assert_eq!((done.removed, done.is_done, store.keys().expect("keys").len()), (3, false, 17));
    let asked = Cell::new(0);
    let stop = || asked.replace(asked.get() + 1) == 2;
    let done = store.collect(&plan, &stop).expect("to collect");
    assert_eq!((done.removed, done.is_done, store.keys().expect("keys").len()), (2, false, 15));
    let passes = (0..9).take_while(|_| !store.collect(&plan, &|| false).expect("to").is_done);
    assert_eq!(passes.count(), 4);
}

#[test]
fn what_is_being_written_is_not_removed() {
    let (_folder, store) = store();
    let path = store.path().join("tmp/7-7");
    let held = fs::File::create(&path).expect("a file");
    held.lock().expect("the lock");
    let plan = CollectPlan::new(0, OURS);
    assert_eq!(store.collect(&plan, &|| false).expect("to collect").temporary, 0);
    store.clear().expect("to clear");
    assert!(path.exists());
    drop(held);
    assert_eq!(store.collect(&plan, &|| false).expect("to collect").temporary, 1);
    assert!(!path.exists());
}

#[test]
fn who_holds_the_lock_too_long_is_named() {
    let (_folder, store) = store();
    store.save_profile(&Profile::default()).expect("to write");
    let path = store.path().join("lock");
    let held = fs::File::open(&path).expect("the lock's file");
    held.lock().expect("the lock");
    let error = store.clear().expect_err("it is held");
    assert!(matches!(error, StoreError::Busy { .. }) && !error.is_lasting(), "{error}");
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    // Artifacts need no lock.
    filled(&store, 1, OURS);
    drop(held);
    store.clear().expect("to clear");
}

#[test]
fn verified_it_has_only_what_is_good() {
    let (_folder, store) = store();
    let good = filled(&store, 9, OTHER);
    let bad = &good[4];
    let path = file(&store, &bad.key);
    fs::write(&path, &bad.encode()[1..]).expect("to damage it");
    let stopped = store.verify(&LIMITS, &|| true).expect("to read");
    assert!(!stopped.is_done && stopped.good == 0);
    let verified = store.verify(&LIMITS, &|| false).expect("to read");
    assert_eq!((verified.good, verified.bad.len(), verified.is_done), (8, 1, true));
    assert_eq!(verified.good_bytes, bytes(&store));
    assert!(verified.bad[0].set_aside && verified.bad[0].path == path);
    let again = store.verify(&LIMITS, &|| false).expect("to read");
    assert_eq!((again.good, again.bad.len()), (8, 0));
}

#[test]
fn cleared_it_is_empty() {
    let (_folder, store) = store();
    let artifacts = filled(&store, 9, OURS);
    let all = bytes(&store);
    fs::write(file(&store, &artifacts[0].key), b"").expect("to damage it");
    store.save_profile(&Profile::default()).expect("to write");
    assert!(!is_there(&store, &artifacts[0]));
    let left = all - artifacts[0].encode().len() as u64;
    assert_eq!(store.clear().expect("to clear"), (8, left));
    assert!(names(&store, "artifacts").is_empty() && names(&store, "aside").is_empty());
    assert!(store.load_profile().expect("to read") == Loaded::Missing);
    assert_eq!(store.clear().expect("to clear"), (0, 0));
    assert!(Store::open(store.path(), Access::ReadOnly).is_ok());
}

fn profiled(store: &Store) -> Profile {
    let config = config(&mut Rng::with_seed(1));
    let mut profile = Profile { configs: vec![config], ..Profile::default() };
    profile.normalise();
    store.save_profile(&profile).expect("to write");
    profile
}

#[test]
fn exported_and_imported_it_is_the_same() {
    let ((_here, from), (there, to)) = (store(), store());
    let artifacts = filled(&from, 9, OURS);
    let profile = profiled(&from);
    fs::write(file(&from, &artifacts[3].key), b"x").expect("to damage it");
    let mut archive = Vec::new();
    let exported = from.export(&mut archive, &LIMITS).expect("to write");
    assert_eq!((exported.artifacts, exported.has_profile, exported.bad.len()), (8, true, 1));
    let imported = to.import(&*archive, &LIMITS).expect("to read");
    assert_eq!((imported.artifacts, imported.bytes), (8, exported.bytes));
    assert!(imported.has_profile && imported.bad.is_empty());
    for artifact in artifacts.iter().filter(|artifact| artifact.key != artifacts[3].key) {
        let [a, b] =
            [&from, &to].map(|store| fs::read(file(store, &artifact.key)).expect("a file"));
        assert!(a == b && is_there(&to, artifact));
    }
    assert!(to.load_profile().expect("to read").found() == Some(profile));
    let mut again = Vec::new();
    from.export(&mut again, &LIMITS).expect("to write");
    assert!(again == archive, "the same store is another archive");

    // Unpacked by hand it is a store, and packed by hand it can be imported.
    let by_hand = there.path().join("unpacked");
    fs::create_dir(&by_hand).expect("a folder");
    tar::Archive::new(&*archive).unpack(&by_hand).expect("to unpack");
    let unpacked = Store::open(&by_hand, Access::ReadWrite).expect("a store");
    assert!(is_there(&unpacked, &artifacts[0]));
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all(".", &by_hand).expect("to pack");
    let packed = builder.into_inner().expect("an archive");
    to.clear().expect("to clear");
    let imported = to.import(&*packed, &LIMITS).expect("to read");
    assert_eq!((imported.artifacts, imported.has_profile), (8, true));
    assert!(imported.bad.is_empty(), "{:?}", imported.bad);
}

/// An archive of one file.
fn archive_of(path: &str, kind: tar::EntryType, contents: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(contents.len() as u64);
    // As it is: the builder would refuse some.
    let name = &mut header.as_mut_bytes()[..100];
    let len = path.len().min(100);
    name[..len].copy_from_slice(&path.as_bytes()[..len]);
    header.set_cksum();
    if path.len() > 100 {
        builder.append_data(&mut header, path, contents).expect("to pack");
    } else {
        builder.append(&header, contents).expect("to pack");
    }
    builder.into_inner().expect("an archive")
}

#[test]
fn what_is_imported_is_checked() {
    let (_folder, store) = store();
    let mut rng = Rng::with_seed(7);
    let (one, other) = (artifact_of(&mut rng, OURS, 99), artifact_of(&mut rng, OURS, 99));
    let (name, contents) = (format!("artifacts/{}", one.key), one.encode());
    let regular = tar::EntryType::Regular;
    let import = |path: &str, kind, contents: &[u8]| {
        let limits = DecodeLimits { bytes_max: 100_000, ..LIMITS };
        store.import(&*archive_of(path, kind, contents), &limits).expect("an archive")
    };
    let refused = |path: &str, kind, contents: &[u8], words: &str| {
        let moved = import(path, kind, contents);
        assert_eq!((moved.artifacts, moved.has_profile, moved.bad.len()), (0, false, 1), "{path}");
        let text = moved.bad[0].to_string();
        assert!(text.starts_with(&format!("{path}: ")) && text.contains(words), "{text}");
        assert!(!moved.bad[0].set_aside);
        assert!(store.keys().expect("to list").is_empty());
    };
    refused(&name, regular, &contents[..99], "bytes, not");
    refused(&name, regular, &other.encode(), "it is ");
    refused(&name, regular, &vec![0; 100_001], "over the limit of 100000");
    refused("profile", regular, &contents, "it is no profile");
    let unknown = "no file of a store";
    refused(&name, tar::EntryType::Symlink, b"", unknown);
    for path in
        ["../evil", "/etc/passwd", "artifacts/../../evil", "artifacts/", "README", "artifacts/x"]
    {
        refused(path, regular, &contents, unknown);
    }
    let moved = import("artifacts/\u{1b}[31m", regular, b"");
    assert!(!moved.bad[0].to_string().contains('\u{1b}'), "{:?}", moved.bad);
    for path in ["format", "lock", "./tmp/x", "aside/y"] {
        assert!(import(path, regular, b"x").bad.is_empty(), "{path}");
    }
    let moved = import(&name, regular, &contents);
    assert_eq!((moved.artifacts, moved.bad.len()), (1, 0));
    assert!(is_there(&store, &one));
}

#[test]
fn what_is_no_archive_is_an_error() {
    let (_folder, store) = store();
    filled(&store, 3, OURS);
    let mut archive = Vec::new();
    store.export(&mut archive, &LIMITS).expect("to write");
    for bytes in [
        &b"no archive, but longer than nothing"[..],
        &archive[..archive.len() / 2 + 100],
        &[7; 4096],
    ] {
        let error = store.import(bytes, &LIMITS).expect_err("no archive");
        assert!(matches!(error, StoreError::Archive { .. }), "{error}");
        assert!(error.to_string().starts_with("the archive: to read the archive: "), "{error}");
    }
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(rustix::io::Errno::NOSPC.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = store.export(Full, &LIMITS).expect_err("it is full");
    assert!(error.to_string().contains("to write the archive"), "{error}");
    let none = store.import(&[][..], &LIMITS).expect("an empty archive");
    assert!(none.bad.is_empty() && none.artifacts == 0);
    assert!(matches!(
        store.import(&*archive_of("x", tar::EntryType::Regular, b""), &LIMITS).expect("one").bad[0]
            .reason,
        BadReason::Unknown
    ));
}
