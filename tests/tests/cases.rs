//! Every case file on every engine, and the map from rules to case files.
//!
//! A file may ask for more runs than its own (`Case::variants`). Its explicit expectations hold for its own fork and
//! limit; everywhere all engines must agree.

mod traps;

use kiln_tests::compare::{check, unexpected};
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, oracle};
use kiln_tests::{Case, asm};
use std::collections::HashSet;
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

/// Whether a sweep of gas limits sees more than one result: else it is in the wrong place.
fn straddles(variants: &[Case]) -> bool {
    let results = variants.iter().map(|case| {
        let outcome = oracle(case, &CaseDb::new(case));
        let last = outcome.transactions.last();
        let frames: Option<Vec<_>> =
            last.map(|last| last.trace.results().map(|(result, _)| result).collect());
        (case.spec, last.map(|last| last.name()), frames.unwrap_or_default())
    });
    let results: HashSet<_> = results.collect();
    let forks: HashSet<_> = results.iter().map(|(spec, ..)| *spec).collect();
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
        let variants = case.variants().unwrap_or_else(|error| panic!("{name}: {error}"));
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

/// All rules of the table.
fn traps() -> impl Iterator<Item = &'static traps::Trap> {
    traps::TRAPS.iter().flat_map(|section| section.traps)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Whether there is such a test: a file, with the function where one is named.
fn is_test(name: &str) -> bool {
    let (file, function) = name.split_once("::").unwrap_or((name, ""));
    let Ok(text) = std::fs::read_to_string(repository().join(file)) else { return false };
    // A harness of its own takes functions from a list.
    let is_run = text.contains("#[test]") || text.contains("Trial") || text.contains("Test");
    is_run && (function.is_empty() || text.contains(&format!("fn {function}()")))
}

#[test]
fn every_trap_has_a_case() {
    let names: HashSet<String> = files().into_iter().map(|(name, _)| name).collect();
    for traps::Trap { rule, cases, tests } in traps() {
        assert!(!cases.is_empty() || !tests.is_empty(), "nothing holds: {rule}");
        for case in *cases {
            assert!(names.contains(*case), "no file {case}.evm: {rule}");
        }
        for test in *tests {
            assert!(is_test(test), "no test {test}: {rule}");
        }
    }
    assert_eq!(traps().count(), 41, "rules");
}

#[test]
fn every_case_of_a_trap_is_in_the_table() {
    for (name, _) in files().iter().filter(|(name, _)| !name.starts_with("found_")) {
        let listed = traps().any(|trap| trap.cases.contains(&name.as_str()));
        assert!(listed, "{name}.evm is for no line of the table");
    }
}

/// With the variable `KILN_TEST_BLESS` it writes the table.
#[test]
fn the_table_of_traps_is_in_the_documents() {
    let path = repository().join("TESTING.md");
    let found = std::fs::read_to_string(&path).expect("TESTING.md can be read");
    let expected = traps::with_table(&found).expect("TESTING.md has the marks");
    if std::env::var_os("KILN_TEST_BLESS").is_some() {
        std::fs::write(&path, &expected).expect("TESTING.md can be written");
    } else {
        assert!(found == expected, "run this test with KILN_TEST_BLESS=1");
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
