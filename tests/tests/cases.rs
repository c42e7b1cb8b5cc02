//! Every case file on every engine, and the map from `traps.md` to case files.
//!
//! A file may ask for more runs than its own: a note `! every fork` runs it on all forks, `! sweep N`
//! at the N gas limits from its own upwards. Its explicit expectations hold for its own fork and
//! limit; everywhere all engines must agree.

mod traps;

use kiln_tests::case::specs;
use kiln_tests::compare::{check, unexpected};
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, oracle};
use kiln_tests::{Case, asm};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn files() -> Vec<(String, Case)> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .expect("the folder of cases is there")
        .map(|entry| entry.expect("its entries can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "evm"))
        .collect();
    files.sort();
    files.into_iter().map(|path| (name(&path), parse(&path))).collect()
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn parse(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).expect("a case file can be read");
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The case itself, then what its notes ask for.
fn variants(case: &Case) -> Vec<Case> {
    let note = |prefix: &str| case.notes.iter().find_map(|note| note.strip_prefix(prefix));
    let mut cases = vec![case.clone()];
    if note("! every fork").is_some() {
        cases = specs().map(|spec| Case { spec, ..case.clone() }).collect();
    }
    if let Some(count) = note("! sweep ") {
        let count: u64 = count.trim().parse().expect("a sweep has a count");
        let swept = |case: Case| {
            (0..count).map(move |above| Case { gas: case.gas + above, ..case.clone() })
        };
        cases = cases.into_iter().flat_map(swept).collect();
    }
    cases
}

/// Whether a sweep of gas limits sees more than one result: else it is in the wrong place.
fn straddles(variants: &[Case]) -> bool {
    let results = variants.iter().map(|case| {
        let outcome = oracle(case, &CaseDb::new(case));
        let last = outcome.transactions.last();
        let frames: Option<Vec<_>> =
            last.map(|last| last.trace.results().map(|(result, _)| result).collect());
        (case.spec, last.map(|last| last.name()), frames.unwrap_or_default())
    });
    let results: std::collections::HashSet<_> = results.collect();
    let forks: std::collections::HashSet<_> = results.iter().map(|(spec, ..)| *spec).collect();
    results.len() > forks.len()
}

/// The files that `KILN_TEST_FILES` names, separated by commas; all if it is not set.
fn chosen() -> Vec<(String, Case)> {
    let mut files = files();
    if let Ok(names) = std::env::var("KILN_TEST_FILES") {
        let names: Vec<_> = names.split(',').collect();
        files.retain(|(name, _)| names.contains(&name.as_str()));
        assert_eq!(files.len(), names.len(), "not all of these are files: {names:?}");
    }
    files
}

#[test]
fn case_files() {
    let engines = Engines::new().expect("engines start");
    let mut failures = Vec::new();
    for (name, case) in chosen() {
        for detail in unexpected(&case, &oracle(&case, &CaseDb::new(&case))) {
            failures.push(format!("{name}: the interpreter: {detail}"));
        }
        let variants = variants(&case);
        if case.notes.iter().any(|note| note.starts_with("! sweep")) && !straddles(&variants) {
            failures.push(format!("{name}: the sweep sees one result only"));
        }
        for variant in variants {
            if let Some(difference) = check(&engines, Kind::COMPARED, &variant) {
                let (spec, gas) = (variant.spec, variant.gas);
                failures.push(format!("{name}: {spec:?}, gas {gas}: {difference}"));
                break;
            }
        }
        engines.clear();
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_case_says_what_it_is_for_and_expects() {
    for (name, case) in files() {
        assert!(!case.notes.is_empty(), "{name}: no comment says what it tests");
        let some = case.expect.result.is_some() || name.starts_with("found_");
        assert!(some, "{name}: no expectation");
    }
}

#[test]
fn every_trap_has_a_case() {
    let names: Vec<String> = files().into_iter().map(|(name, _)| name).collect();
    for (line, held_by) in traps::TRAPS {
        match held_by {
            traps::HeldBy::Cases(cases) => {
                assert!(!cases.is_empty(), "no case: {line}");
                for case in *cases {
                    assert!(names.iter().any(|name| name == case), "no file {case}.evm: {line}");
                }
            }
            traps::HeldBy::Test(test) => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(test);
                assert!(path.exists(), "no test {test}: {line}");
            }
            traps::HeldBy::Later(reason) => assert!(!reason.is_empty(), "no reason: {line}"),
        }
    }
}

#[test]
fn every_case_of_a_trap_is_in_the_table() {
    for (name, _) in files().iter().filter(|(name, _)| !name.starts_with("found_")) {
        let listed = traps::TRAPS.iter().any(|(_, held_by)| match held_by {
            traps::HeldBy::Cases(cases) => cases.contains(&name.as_str()),
            _ => false,
        });
        assert!(listed, "{name}.evm is for no line of the table");
    }
}

/// The files stay readable: text form and model are inverse.
#[test]
fn case_files_round_trip() {
    for (name, case) in files() {
        let again: Case = case.to_string().parse().expect("printed cases parse");
        assert_eq!(again, case, "{name}");
        for contract in case.contracts.values() {
            let text = asm::disassemble(&contract.code);
            assert_eq!(asm::assemble(&text).as_ref(), Ok(&contract.code), "{name}");
        }
    }
}
