//! `kiln check` and `kiln hunt`.

use super::{kiln, kiln_in, text};
use std::fs;

/// Pushes a word too few.
const CASE: &str = "\
# What ADD does with one word.
spec: CANCUN
gas: 100000
expect: Halt(StackUnderflow)
code:
  PUSH 1 ADD STOP
";

#[test]
fn case_files_are_run_on_every_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.evm"), CASE).expect("writable");
    let everywhere = CASE.replace("# What", "# ! every fork\n# What");
    fs::write(folder.path().join("b.evm"), everywhere).expect("writable");
    let ran = kiln(["check", text(folder.path())]).exits(0);
    assert_eq!(ran.stdout.lines().last(), Some("2 passed, 0 failed"));
    let ran =
        kiln(["check", text(folder.path()), "--engine", "evaluator", "--engine", "tier0-all"]);
    ran.exits(0).prints(&["runs, 2 engines"]);
}

#[test]
fn a_case_that_is_wrong_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.evm");
    fs::write(&path, CASE.replace("StackUnderflow", "InvalidJump")).expect("writable");
    let ran = kiln(["check", text(&path)]).exits(1);
    let ran =
        ran.prints(&["a.evm", "the interpreter", "Halt(StackUnderflow), not Halt(InvalidJump)"]);
    assert_eq!(ran.stdout.lines().last(), Some("0 passed, 1 failed"));
}

#[test]
fn what_is_no_case_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.evm");
    kiln(["check", text(&path)]).exits(2).complains(&["a.evm"]);
    kiln(["check", text(folder.path())]).exits(2).complains(&["no .evm file"]);
    fs::write(&path, CASE.replace("ADD", "ADDD")).expect("writable");
    kiln(["check", text(&path)]).exits(2).complains(&["a.evm", "ADDD"]);
    fs::write(&path, CASE.replace("# What", "# ! sweep far\n# What")).expect("writable");
    kiln(["check", text(&path)]).exits(1).prints(&["sweep far"]);
    kiln(["check", text(&path), "--engine", "tier2"])
        .exits(2)
        .complains(&["`tier2`", "tier0-seen"]);
}

#[test]
fn checks_of_the_environment_are_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.evm");
    fs::write(&path, CASE).expect("writable");
    let reports = folder.path().join("reports");
    let vars = [("KILN_CHECK", "twice,shadow=1"), ("KILN_REPORTS", text(&reports))];
    let ran = kiln_in(&vars, &["check", text(&path)]).exits(0);
    assert_eq!(ran.stdout.lines().last(), Some("1 passed, 0 failed"));
    assert!(!reports.exists(), "nothing was found");
    kiln_in(&[("KILN_CHECK", "thrice")], &["check", text(&path)])
        .exits(2)
        .complains(&["KILN_CHECK=\"thrice\"", "shadow=N"]);
}

#[test]
fn hunts_count_what_they_ran() {
    let folder = tempfile::tempdir().expect("a folder");
    let found = folder.path().join("found");
    let ran =
        kiln(["hunt", "--seed", "5", "--sets", "2", "--inputs", "3", "--found", text(&found)]);
    ran.exits(0).prints(&["6 structured cases of 2 sets, seeds 5 to 6", "0 differences"]);
    let ran = kiln(["hunt", "--sweep", "--sets", "1", "--inputs", "4", "--stats"]).exits(0);
    ran.prints(&["gas-sweep cases of 1 sets"]).prints(&["runs of evaluator"]);
    assert!(!found.exists(), "nothing was found");
}

#[test]
fn hunts_are_repeatable() {
    let run = || {
        let ran = kiln(["hunt", "--seed", "9", "--sets", "3", "--inputs", "4"]).exits(0);
        let results =
            ran.stdout.lines().filter(|line| !line.contains("µs") && !line.contains(" s "));
        results.map(str::to_owned).collect::<Vec<_>>()
    };
    let first = run();
    assert!(!first.is_empty());
    assert_eq!(first, run());
}
