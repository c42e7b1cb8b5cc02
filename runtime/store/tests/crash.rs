//! Processes that end at any moment, and processes that share a store: nothing wrong is ever loaded.

mod support;

use fastrand::Rng;
use kiln_store::{
    Access, Artifact, CodeId, CodeProfile, CollectPlan, Digest, Key, Loaded, Profile, Rank, Store,
};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};
use support::{CHILD, LIMITS, artifact_of, asked, child, file, names};

const KILLS: u64 = 200;
/// So that all kills take no longer than some seconds.
const FIRST_MAX: Duration = Duration::from_millis(40);
/// Artifacts, and versions of each, that children write.
const KEYS: u64 = 12;
const VERSIONS: u64 = 4;
const BUILD: Digest = Digest([3; 16]);

/// One of the artifacts that children write: of some KiB up to some hundred, so that a write takes its time.
fn artifact(nth: u64, version: u64) -> Artifact {
    let mut rng = Rng::with_seed(nth);
    let base = artifact_of(&mut rng, BUILD, 4000 << (nth % 6));
    let mut text = base.text.clone();
    text.iter_mut().step_by(64).for_each(|byte| *byte ^= version as u8);
    Artifact { created_s: version, text, ..base }
}

/// By key, all contents that its file may have.
fn all_contents() -> BTreeMap<Key, Vec<Vec<u8>>> {
    let contents = |nth| (0..VERSIONS).map(|version| artifact(nth, version).encode()).collect();
    (0..KEYS).map(|nth| (artifact(nth, 0).key, contents(nth))).collect()
}

/// What children save as a profile: the same codes, hotter and hotter.
fn profile(heat: u32) -> Profile {
    let of = |nth| {
        let Artifact { key, config, .. } = artifact(nth, 0);
        let code = CodeProfile {
            id: CodeId { code_hash: key.code_hash, baked: key.baked },
            heat,
            tier: Some(Rank::BASELINE),
            seen: (0..400).collect(),
            counts: vec![heat; 400],
            bytecode: None,
        };
        (config, code)
    };
    let (configs, codes) = (0..KEYS).map(of).unzip();
    Profile { configs, codes, ..Profile::default() }
}

/// Each file is there as a whole or not at all. Answers how many there are.
fn check(path: &Path, contents: &BTreeMap<Key, Vec<Vec<u8>>>) -> usize {
    let store = Store::open(path, Access::ReadWrite).expect("it opens cleanly");
    let keys = store.keys().expect("to list");
    for key in &keys {
        let expected = contents.get(key).expect("a key that children write");
        let loaded = store.load(key, &LIMITS).expect("to read").found();
        let loaded = loaded.expect("it is whole").encode();
        assert!(expected.contains(&loaded), "{key}: nobody wrote that");
        assert!(fs::read(file(&store, key)).is_ok_and(|bytes| bytes == loaded), "{key}");
    }
    match store.load_profile().expect("to read") {
        Loaded::Found(profile) => {
            let Some(first) = profile.codes.first() else { panic!("an empty profile") };
            let heat = first.heat;
            assert!(*profile == { self::profile(heat) }.normal(), "nobody wrote that profile");
        }
        Loaded::Missing => {}
        Loaded::Bad(bad) => panic!("{bad}"),
    }
    assert!(names(&store, "aside").is_empty(), "something was set aside");
    keys.len()
}

trait Normal {
    fn normal(self) -> Self;
}

impl Normal for Profile {
    fn normal(mut self) -> Self {
        self.normalise();
        self
    }
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let contents = all_contents();
    let mut rng = Rng::with_seed(1);
    let (mut temporary, mut removed, mut most) = (0, 0, 0);
    let first = time_to_first_artifact(&folder.path().join("first")).min(FIRST_MAX);
    for kill in 0..KILLS {
        // Now and then from the beginning, so that the making of a store is interrupted, too.
        let path = folder.path().join((kill / 20).to_string());
        let mut child =
            child("writes_until_it_is_killed").env(CHILD, &path).spawn().expect("a child");
        std::thread::sleep(first.mul_f64(2.5 * rng.f64()));
        child.kill().expect("to kill it");
        let status = child.wait().expect("its end");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
        most = most.max(check(&path, &contents));
        let store = Store::open(&path, Access::ReadWrite).expect("it opens cleanly");
        temporary += names(&store, "tmp").len();
        let plan = CollectPlan::new(u64::MAX, BUILD);
        removed += store.collect(&plan, &|| false).expect("to collect").temporary;
        assert!(names(&store, "tmp").is_empty(), "what the child left is there");
    }
    // Children were killed while they wrote, and had written.
    assert!(removed == temporary && temporary > 5, "{temporary} left, {removed} removed");
    assert!(most > KEYS as usize / 2, "{most} artifacts at most");
}

/// How long a child takes to get to its work on this machine, with all that is going on there.
fn time_to_first_artifact(path: &Path) -> Duration {
    let began = Instant::now();
    let mut child = child("writes_until_it_is_killed").env(CHILD, path).spawn().expect("a child");
    while fs::read_dir(path.join("artifacts")).map_or(0, Iterator::count) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it writes nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("to kill it");
    child.wait().expect("its end");
    began.elapsed()
}

/// The child of the test above; by itself it writes a little and ends.
#[test]
fn writes_until_it_is_killed() {
    let own = tempfile::tempdir().expect("a folder");
    let path = asked();
    let rounds = if path.is_some() { u64::MAX } else { 30 };
    let path = path.unwrap_or_else(|| own.path().join("store"));
    let store = Store::open(&path, Access::ReadWrite).expect("a store");
    let mut rng = Rng::new();
    // Made before, so that most of the time is spent on writing.
    let all: Vec<_> = (0..KEYS * VERSIONS).map(|n| artifact(n % KEYS, n / KEYS)).collect();
    for round in 0..rounds {
        match rng.u8(..10) {
            0 => drop(store.save_profile(&profile(round as u32 + 1)).expect("to write")),
            1 => drop(
                store.collect(&CollectPlan::new(600 << 10, BUILD), &|| false).expect("collected"),
            ),
            _ => drop(store.save(&all[rng.usize(..all.len())]).expect("to write")),
        }
    }
    assert!(check(&path, &all_contents()) > 0);
}

/// Bytes that two processes keep the store below, at the end.
const BUDGET: u64 = 300 << 10;

#[test]
fn two_processes_build_and_collect_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let spawn = || child("builds_and_collects").env(CHILD, &path).spawn().expect("a child");
    let children = [spawn(), spawn()];
    for mut child in children {
        let status = child.wait().expect("its end");
        assert!(status.success(), "{status}");
    }
    let store = Store::open(&path, Access::ReadWrite).expect("the store");
    let left: u64 = store.list().expect("to list").iter().map(|stored| stored.bytes).sum();
    let done = store.collect(&CollectPlan::new(BUDGET, BUILD), &|| false).expect("to collect");
    assert!(done.is_done && done.left_bytes <= BUDGET, "{done:?}");
    // The last of them has collected when it ended.
    assert!(left <= BUDGET && done.removed == 0 && done.temporary == 0, "{left} bytes, {done:?}");
    assert!(check(&path, &all_contents()) > 0);
    assert!(names(&store, "tmp").is_empty());
    // What both of them knew: nothing was lost between reading and writing.
    let heat = store.load_profile().expect("to read").found().expect("a profile").codes[0].heat;
    assert_eq!(heat, PROFILES);
}

/// Profiles that a process saves.
const PROFILES: u32 = 60;

/// The child of the test above.
#[test]
fn builds_and_collects() {
    let own = tempfile::tempdir().expect("a folder");
    let path = asked().unwrap_or_else(|| own.path().join("store"));
    let store = Store::open(&path, Access::ReadWrite).expect("a store");
    let contents = all_contents();
    let mut rng = Rng::new();
    let plan = CollectPlan::new(BUDGET, BUILD);
    let all: Vec<_> = (0..KEYS * VERSIONS).map(|n| artifact(n % KEYS, n / KEYS)).collect();
    for round in 0..600 {
        let artifact = &all[rng.usize(..all.len())];
        match rng.u8(..8) {
            0 | 1 => drop(store.save(artifact).expect("to write")),
            2 if round % 10 == 0 => drop(store.collect(&plan, &|| false).expect("to collect")),
            3 => drop(store.touch(&artifact.key).expect("to touch")),
            _ => match store.load(&artifact.key, &LIMITS).expect("to read") {
                Loaded::Found(found) => {
                    assert!(contents[&artifact.key].contains(&found.encode()), "nobody wrote that");
                }
                Loaded::Missing => {}
                Loaded::Bad(bad) => panic!("{bad}"),
            },
        }
        if round % 10 == 0 {
            store.save_profile(&profile(round / 10 + 1)).expect("to write");
        }
    }
    let done = store.collect(&plan, &|| false).expect("to collect");
    assert!(done.left_bytes <= BUDGET, "{done:?}");
}
