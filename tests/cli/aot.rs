//! `kiln aot`, and the other commands with a store: written by one process, run by another one.

use super::{Ran, kiln_in, repository, text};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Counts down from 10, then returns 0x2a.
const LOOP: &str = "0x600a5b6001900380600257602a60005260206000f3";
/// Codes in it, by fork: of a state test with two forks that revm has.
const STATE_TEST: &str = "tests/cli/data/add.json";

/// A folder that is to become a store.
struct Store {
    _temporary: TempDir,
    path: PathBuf,
}

impl Store {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let path = temporary.path().join("store");
        Self { _temporary: temporary, path }
    }

    /// Runs `kiln` with arguments and this store.
    fn run(&self, arguments: &[&str]) -> Ran {
        kiln_in(&[], &[arguments, &["--store", text(&self.path)]].concat())
    }

    fn aot(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["aot"], arguments].concat())
    }

    /// The listing.
    fn listed(&self) -> Value {
        serde_json::from_str(&self.aot(&["list", "--json"]).exits(0).stdout).expect("JSON")
    }

    fn artifacts(&self) -> u64 {
        self.listed()["total"]["artifacts"].as_u64().expect("a number")
    }

    /// The files of its artifacts, by name.
    fn files(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.path.join("artifacts")).expect("a store");
        let mut files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        files
    }
}

/// The last row of what `kiln aot build` prints: codes, built, there, failed.
fn total(ran: &Ran) -> Vec<u64> {
    let row = ran.stdout.lines().find_map(|line| line.trim_start().strip_prefix("total "));
    let row = row.unwrap_or_else(|| panic!("no total: {}", ran.stdout));
    row.split_whitespace().map(|number| number.parse().expect("a number")).collect()
}

/// Changes a byte in the middle.
fn corrupt(file: &Path) {
    let mut bytes = fs::read(file).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("writable");
}

fn workloads() -> String {
    text(&repository("workloads")).to_owned()
}

#[test]
fn what_is_there_is_not_built_again() {
    let store = Store::new();
    let state_test = repository(STATE_TEST);
    let codes = [LOOP, "0x00", text(&state_test)];
    let build = [&["build"], codes.as_slice()].concat();
    let ran = store.aot(&build).exits(0).prints(&["codes of", "built", "there", "failed"]);
    assert_eq!(total(&ran), [4, 4, 0, 0]);
    assert_eq!(total(&store.aot(&build).exits(0)), [4, 0, 4, 0]);
    // Of another fork, and of another tier, it is another one; nothing is nothing to compile.
    let ran = store.aot(&["build", LOOP, "0x", "--spec", "London"]).exits(0);
    assert_eq!(total(&ran), [1, 1, 0, 0]);
    let ran = store.aot(&["build", LOOP, "--tier", "optimised"]).exits(0);
    assert_eq!(total(&ran), [1, 1, 0, 0]);
    assert_eq!(store.artifacts(), 6);
    assert_eq!(store.files().len(), 6);
}

#[test]
fn the_list_says_what_there_is() {
    let store = Store::new();
    store.aot(&["build", LOOP, "--spec", "Cancun"]).exits(0);
    store.aot(&["build", LOOP, "--spec", "Cancun", "--tier", "optimised"]).exits(0);
    let listed = store.listed();
    let hash = revm::primitives::hex::decode(LOOP).map(revm::primitives::keccak256).expect("hex");
    let bytes: u64 =
        store.files().iter().map(|file| fs::metadata(file).expect("there").len()).sum();
    assert_eq!(listed["total"]["bytes"], bytes);
    assert_eq!(listed["total"]["codes"], 1);
    assert_eq!(listed["total"]["ours"], 2);
    for (row, tier) in
        [(&listed["artifacts"][0], "baseline"), (&listed["artifacts"][1], "optimised")]
    {
        assert_eq!(row["code_hash"], hash.to_string());
        assert_eq!(row["tier"], tier);
        assert_eq!(row["fork"], "CANCUN");
        assert_eq!(row["is_ours"], true);
        assert!(row["bytes"].is_u64() && row["used_s"].is_u64(), "{row}");
    }
    store
        .aot(&["list"])
        .exits(0)
        .prints(&[&hash.to_string(), "optimised", "CANCUN", "this", "ago"])
        .prints(&["2 artifacts of 1 codes", "0 of other builds"]);
    // What is compiled otherwise is another build's.
    let vars = [("KILN_PERTURB", "spill"), ("KILN_STORE", text(&store.path))];
    kiln_in(&vars, &["aot", "list"]).exits(0).prints(&["another"]).prints(&["2 of other builds"]);
}

/// The tiers that this build has, by the names of `aot build`.
fn tiers() -> &'static [&'static str] {
    match cfg!(feature = "llvm") {
        true => &["baseline", "optimised", "tier1"],
        false => &["baseline", "optimised"],
    }
}

#[test]
fn what_one_process_wrote_another_one_runs() {
    let (workloads, state_test) = (workloads(), repository(STATE_TEST));
    for tier in tiers() {
        let store = Store::new();
        store.aot(&["build", &workloads, text(&state_test), "--tier", tier]).exits(0);
        let before = store.files();
        let replay =
            ["replay", &workloads, "--tier", "aot", "--native-share-min", "99", "--json", "-"];
        let ran = store.run(&replay).exits(0);
        let json: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        // A code may be in several fixtures, and what a fixture has and does not run is not loaded.
        assert!(json["total"]["loaded"].as_u64() >= Some(20), "{tier}: {}", json["total"]);
        assert_eq!(json["total"]["programs"], 0, "{tier}");
        store
            .run(&["replay", &workloads, "--tier", "aot"])
            .exits(0)
            .prints(&["programs loaded from the store"])
            .prints(&["0 with mismatches"]);
        let ran = store
            .run(&["statetest", text(&state_test), "--tier", "aot", "--threads", "1"])
            .exits(0);
        ran.prints(&["2 programs loaded from the store"]).prints(&["3 passed, 0 failed"]);
        assert_eq!(store.files(), before, "{tier}: nothing is written");
    }
}

#[test]
fn without_artifacts_everything_is_interpreted() {
    let store = Store::new();
    store.aot(&["build", "0x00"]).exits(0);
    let workloads = workloads();
    store
        .run(&["replay", &workloads, "--tier", "aot"])
        .exits(0)
        .prints(&["0 programs loaded from the store"])
        .prints(&["0 with mismatches"]);
    store
        .run(&["replay", &workloads, "--tier", "aot", "--native-share-min", "1"])
        .exits(1)
        .prints(&["ran in compiled code, less than 1%"]);
    assert_eq!(store.artifacts(), 1);
}

#[test]
fn the_other_tiers_fill_the_store_and_find_what_is_there() {
    let store = Store::new();
    let replay = ["replay", &workloads(), "--tier", "tier0"];
    store.run(&replay).exits(0).prints(&["0 with mismatches"]);
    let artifacts = store.artifacts();
    assert!(artifacts >= 14, "{artifacts}");
    let ran = store.run(&replay).exits(0).prints(&["0 with mismatches"]);
    assert!(!ran.stdout.contains("\n0 programs loaded"), "{}", ran.stdout);
    store.run(&["run", LOOP, "--tier", "tier0"]).exits(0).prints(&["success"]);
    assert_eq!(store.artifacts(), artifacts + 1);
    // The argument wins over the environment.
    let vars = [("KILN_STORE", "/nowhere/to/write")];
    let run = ["run", LOOP, "--tier", "aot", "--store", text(&store.path)];
    kiln_in(&vars, &run).exits(0).prints(&["success"]);
}

#[test]
fn a_bad_artifact_is_found_and_never_run() {
    let store = Store::new();
    let replay = ["replay", &workloads(), "--tier", "aot"];
    store.aot(&["build", &workloads()]).exits(0);
    store.aot(&["verify"]).exits(0).prints(&["good", "0 bad"]);
    let files = store.files();
    corrupt(&files[0]);
    fs::write(&files[1], "").expect("writable");
    fs::copy(&files[3], &files[2]).expect("writable");
    let ran = store.aot(&["verify"]).exits(1).prints(&["3 bad"]);
    for file in &files[..3] {
        ran.complains_of(file);
    }
    store.run(&replay).exits(0).prints(&["0 with mismatches"]);
    assert_eq!(store.files(), files, "--tier aot changes nothing");
    // An engine that may write sets them aside; and they are built again.
    store.run(&["replay", &workloads(), "--tier", "tier0"]).exits(0).prints(&["0 with mismatches"]);
    let ran = store.aot(&["build", &workloads()]).exits(0);
    assert_eq!(total(&ran), [21, 0, 21, 0], "what was run was compiled again, and saved");
    store.aot(&["verify"]).exits(0).prints(&["0 bad"]);
}

#[test]
fn a_store_moves_as_an_archive() {
    let (store, other) = (Store::new(), Store::new());
    let archive = store.path.with_file_name("store.tar");
    store.aot(&["build", &workloads()]).exits(0);
    store.aot(&["export", text(&archive)]).exits(0).prints(&["artifacts written", "0 bad"]);
    other.aot(&["import", text(&archive)]).exits(0).prints(&["artifacts taken in", "0 bad"]);
    assert_eq!(store.listed()["total"]["bytes"], other.listed()["total"]["bytes"]);
    other.run(&["replay", &workloads(), "--tier", "aot", "--native-share-min", "99"]).exits(0);
    // What is bad stays behind.
    corrupt(&store.files()[0]);
    let ran = store.aot(&["export", text(&archive)]).exits(1).prints(&["1 bad"]);
    ran.complains_of(&store.files()[0]);
    fs::write(&archive, "no archive").expect("writable");
    other.aot(&["import", text(&archive)]).exits(2).complains(&["archive"]);
}

#[test]
fn collecting_frees_what_must_be_and_clearing_all() {
    let store = Store::new();
    store.aot(&["build", &workloads()]).exits(0);
    let listed = store.listed();
    let (all, bytes) = (store.artifacts(), listed["total"]["bytes"].as_u64().expect("a number"));
    let gc = |bytes: u64| store.aot(&["gc", "--bytes-max", &bytes.to_string()]).exits(0);
    gc(bytes).prints(&["0 artifacts removed"]);
    gc(bytes / 2).prints(&["artifacts removed", "bytes stay"]);
    let left = store.artifacts();
    assert!(0 < left && left < all, "{left} of {all}");
    assert!(store.listed()["total"]["bytes"].as_u64() <= Some(bytes / 2));
    store.aot(&["clear"]).exits(0).prints(&[&format!("{left} artifacts removed")]);
    assert_eq!(store.artifacts(), 0);
    store.aot(&["list"]).exits(0).prints(&["0 artifacts of 0 codes"]);
}

/// What a store remembers of the codes that ran, in place of whole codes.
#[test]
fn a_profile_says_what_is_compiled() {
    let (seen, whole, store) = (Store::new(), Store::new(), Store::new());
    let replay = ["replay", &workloads(), "--tier", "auto", "--compile", "seen"];
    seen.run(&replay).exits(0);
    let profile = seen.path.join("profile");
    let build = ["build", &workloads()];
    whole.aot(&build).exits(0);
    store.aot(&[&build[..], &["--profile", text(&profile)]].concat()).exits(0);
    store.run(&["replay", &workloads(), "--tier", "aot"]).exits(0).prints(&["0 with mismatches"]);
    let bytes = |store: &Store| store.listed()["total"]["bytes"].as_u64().expect("a number");
    assert_eq!(store.artifacts(), whole.artifacts());
    assert!(bytes(&store) < bytes(&whole), "{} and {}", bytes(&store), bytes(&whole));
    // What is not in it can be left out.
    let only = [&build[..], &[LOOP, "--profiled-only", "--profile", text(&profile)]].concat();
    let few = Store::new();
    assert_eq!(total(&few.aot(&only).exits(0))[0], total(&whole.aot(&build).exits(0))[0]);
    // What is none is refused.
    fs::write(&profile, "what ran").expect("writable");
    let ran = store.aot(&[&build[..], &["--profile", text(&profile)]].concat());
    ran.exits(2).complains(&["no profile"]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let none = kiln_in(&[], &["aot", "list"]).exits(2);
    none.complains(&["--store DIR, or KILN_STORE"]);
    kiln_in(&[], &["replay", &workloads(), "--tier", "aot"]).exits(2).complains(&["--store DIR"]);
    let store = Store::new();
    for command in [&["list"][..], &["verify"], &["export", "/tmp/no.tar"]] {
        store.aot(command).exits(2).complains(&["not a store"]);
    }
    assert!(!store.path.exists());
    store.run(&["replay", &workloads(), "--tier", "aot"]).exits(2).complains(&["not a store"]);
    store.aot(&["build", "0x5"]).exits(2).complains(&["hexadecimal"]);
    store.aot(&["build", "nowhere.json"]).exits(2).complains(&["nowhere.json"]);
    store.aot(&["build"]).exits(2);
    if !cfg!(feature = "llvm") {
        let build = ["aot", "build", LOOP, "--tier", "tier1", "--store", text(&store.path)];
        kiln_in(&[("KILN_TIER1_WORKER", "off")], &build).exits(2).complains(&["feature llvm"]);
    }
    store.aot(&["build", LOOP]).exits(0);
    let compile = ["replay", &workloads(), "--tier", "aot", "--compile", "all"];
    store.run(&compile).exits(2).complains(&["compiles nothing"]);
    // Something else's folder stays as it is.
    let folder = store.path.with_file_name("other");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("mine"), "precious").expect("writable");
    let build = ["aot", "build", LOOP, "--store", text(&folder)];
    kiln_in(&[], &build).exits(2).complains(&["not a store", "mine"]);
    assert_eq!(fs::read_dir(&folder).expect("there").count(), 1);
}
