//! `kiln compile` and `kiln run`.

use super::{kiln, text};
use serde_json::Value;
use std::fs;

/// Counts down from 10, then returns 0x2a.
const LOOP: &str = "0x600a5b6001900380600257602a60005260206000f3";

#[test]
fn the_figures_have_all_fields() {
    let ran = kiln(["compile", LOOP, "--json", "--spec", "Cancun"]).exits(0);
    let figures: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    for number in [
        "bytes",
        "instructions",
        "blocks",
        "regions",
        "resolved_jumps",
        "unresolved_jumps",
        "analyse_ns",
        "lower_ns",
        "codegen_ns",
        "publish_ns",
        "code_bytes",
    ] {
        assert!(figures[number].is_u64(), "{number} in {figures}");
    }
    assert_eq!(figures["spec"], "CANCUN");
    assert_eq!(figures["bytes"], 21);
    assert_eq!(figures["instructions"], 14);
    assert_eq!(figures["blocks"], 3);
    assert_eq!(figures["resolved_jumps"], 1);
    assert_eq!(figures["unresolved_jumps"], 0);
    kiln(["compile", LOOP]).exits(0).prints(&["instructions", "14"]);
}

#[test]
fn every_form_is_printed() {
    kiln(["compile", LOOP, "--emit", "cfg"])
        .exits(0)
        .prints(&["@2", "Jumpi", "jumpdest", "-> @2, @b"])
        .prints(&["PUSH1 0x0a"]);
    let ir = kiln(["compile", LOOP, "--emit", "ir"]).exits(0);
    kiln_ir::parse(&ir.stdout).expect("the parser reads what is printed");
    kiln(["compile", LOOP, "--emit", "stencils"]).exits(0).prints(&["region 1 @2"]);
    kiln(["compile", LOOP, "--emit", "asm"])
        .exits(0)
        .prints(&["region 1 @2"])
        .prints(&["mov"])
        .prints(&["3 blocks", "bytes of code"]);
}

#[test]
fn code_comes_from_files_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("code");
    let digits = &LOOP[2..];
    let raw = revm::primitives::hex::decode(digits).expect("hex");
    let forms: [&[u8]; 3] = [&raw, digits.as_bytes(), format!(" {LOOP}\n").leak().as_bytes()];
    for form in forms {
        fs::write(&path, form).expect("writable");
        kiln(["compile", text(&path)]).exits(0).prints(&["bytes", "21"]);
        kiln(["run", text(&path)]).exits(0).prints(&["output:", "2a"]);
    }
}

#[test]
fn any_code_compiles() {
    for code in ["0x", "0x60", "0xfe", "0x5b", "0x5f5f57", "0xef0001", "0xef0100"] {
        kiln(["compile", code, "--json"]).exits(0);
        kiln(["run", code, "--tier", "tier0"]).exits(0);
    }
}

#[test]
fn results_of_runs() {
    for tier in ["interpreter", "evaluator", "auto", "tier0"] {
        kiln(["run", LOOP, "--tier", tier])
            .exits(0)
            .prints(&["result:", "success (Return)"])
            .prints(&[
                "output:",
                "0x000000000000000000000000000000000000000000000000000000000000002a",
            ]);
        kiln(["run", "0x5f5ffd", "--tier", tier]).exits(0).prints(&["result:", "revert"]);
        kiln(["run", "0x01", "--tier", tier]).exits(0).prints(&["halt (StackUnderflow)"]);
        kiln(["run", "0x5f", "--tier", tier, "--spec", "London"])
            .exits(0)
            .prints(&["halt (NotActivated)"]);
        kiln(["run", LOOP, "--tier", tier, "--gas", "21100"])
            .exits(0)
            .prints(&["halt (OutOfGas(Basic))"])
            .prints(&["gas:", "21,100"]);
    }
}

#[test]
fn calldata_and_logs() {
    // Returns the first word of calldata, and logs it with the topic 7.
    let echo = "0x60003560005260076020600060006000a1";
    let echo = echo.replace("60076020600060006000a1", "600760206000a160206000f3");
    let word = "00000000000000000000000000000000000000000000000000000000deadbeef";
    kiln(["run", &echo, "--calldata", &format!("0x{word}")])
        .exits(0)
        .prints(&["output:", word])
        .prints(&["logs:", "1"])
        .prints(&["0000000000000000000000000000000000000000000000000000000000000007"]);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kiln"));
    let code = format!("0x{}", "5b".repeat(60_000));
    command.args(["compile", &code, "--emit", "cfg"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the command ends");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
