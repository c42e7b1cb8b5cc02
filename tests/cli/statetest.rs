//! `kiln statetest`.

use super::{kiln, repository, text};
use std::fs;

/// Two forks, three variants, and one of a fork that revm does not have.
const ADD: &str = "tests/cli/data/add.json";

#[test]
fn the_last_line_counts() {
    let path = repository(ADD);
    for tier in ["interpreter", "evaluator", "auto", "tier0"] {
        let ran = kiln(["statetest", text(&path), "--tier", tier]).exits(0);
        assert_eq!(ran.stdout.lines().last(), Some("3 passed, 0 failed"), "{tier}");
    }
    kiln(["statetest", text(&path), "--tier", "tier0", "--compare"]).exits(0).prints(&["3 passed"]);
    kiln(["statetest", text(&path), "--threads", "1"]).exits(0).prints(&["1 variants", "skipped"]);
}

#[test]
fn wrong_roots_fail() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = fs::read_to_string(repository(ADD)).expect("there");
    for (what, field) in [("state root", "hash"), ("logs root", "logs")] {
        let path = folder.path().join("bad.json");
        // The last variant's.
        let at = good.rfind(&format!("\"{field}\": \"0x")).expect("a root") + field.len() + 7;
        let mut bad = good.clone();
        bad.replace_range(at..at + 4, "0bad");
        fs::write(&path, bad).expect("writable");
        let ran = kiln(["statetest", text(&path), "--tier", "interpreter"]).exits(1).prints(&[
            "bad.json",
            "CANCUN d0 g1 v0",
            what,
        ]);
        assert_eq!(ran.stdout.lines().last(), Some("2 passed, 1 failed"));
    }
}

#[test]
fn golden_results_are_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let golden = folder.path().join("golden.jsonl");
    let row = |fork: &str, g: usize, gas: u64, result: &str, output: &str| {
        format!(
            "[\"cli/data/add.json\",\"add\",\"{fork}\",0,{g},0,{gas},\"{result}\",\"{output}\"]\n"
        )
    };
    let rows = [
        row("ISTANBUL", 0, 41_661, "Success: Stop", "0x"),
        row("CANCUN", 0, 43_761, "Success: Stop", "0x"),
        row("CANCUN", 1, 21_248, "Halt: OutOfGas(ReentrancySentry)", "0x"),
    ];
    let path = repository(ADD);
    let run = |text_of: &str| {
        fs::write(&golden, text_of).expect("writable");
        kiln(["statetest", text(&path), "--golden", text(&golden), "--tier", "interpreter"])
    };
    let all = rows.concat();
    run(&all).exits(0).prints(&["3 variants compared with golden results"]);
    run(&all.replace("43761", "43762")).exits(1).prints(&["gas is 43761, golden is 43762"]);
    run(&all.replace("(ReentrancySentry)", "(Memory)"))
        .exits(1)
        .prints(&["result is Halt: OutOfGas(ReentrancySentry)"]);
    run(&rows[..2].concat()).exits(1).prints(&["no golden result"]);
    run("[]\n").exits(2).complains(&["golden.jsonl", "line 1"]);
}

#[test]
fn files_can_be_left_out() {
    let path = repository(ADD);
    let ran = kiln(["statetest", text(&path), "--skip", "add.j"]).exits(0);
    assert_eq!(ran.stdout.lines().last(), Some("0 passed, 0 failed"));
}

#[test]
fn indexes_out_of_range_are_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bad.json");
    let good = fs::read_to_string(repository(ADD)).expect("there");
    fs::write(&path, good.replace("\"gas\": 1", "\"gas\": 2")).expect("writable");
    kiln(["statetest", text(&path)]).exits(2).complains(&["bad.json", "test add", "index"]);
}
