//! `kiln compile --tier optimised`: regions in all their forms.

use super::{kiln, repository, text};
use serde_json::Value;
use std::collections::HashSet;

/// Counts down from 10, then returns 0x2a.
const LOOP: &str = "0x600a5b6001900380600257602a60005260206000f3";

/// Stops at pc 4 if there is no calldata; else it goes to pc 6, and counts down from its first word.
const FORK: &str = "0x3660065700005b5f355b600190038060095700";

#[test]
fn the_figures_have_all_stages() {
    let ran = kiln(["compile", LOOP, "--tier", "optimised", "--json"]).exits(0);
    let figures: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let number = |name: &str| figures[name].as_u64().unwrap_or_else(|| panic!("{name}: {figures}"));
    let stages = [
        "scan_ns",
        "summaries_ns",
        "jumps_ns",
        "choose_ns",
        "build_ns",
        "optimise_ns",
        "place_ns",
        "lower_ns",
        "codegen_ns",
        "assemble_ns",
    ];
    let sum: u64 = stages.into_iter().map(number).sum();
    assert_eq!(sum, number("total_ns"), "{figures}");
    assert!(number("codegen_ns") > 0, "{figures}");
    assert_eq!(number("bytes"), 21);
    assert_eq!(number("blocks"), 3);
    assert_eq!((number("resolved_jumps"), number("unresolved_jumps")), (1, 0));
    assert_eq!((number("regions"), number("refused")), (1, 0));
    assert_eq!(number("instructions"), 14);
    assert!(number("ssa_blocks") >= 3 && number("ssa_instructions") > 0, "{figures}");
    assert!(number("code_bytes") > 0 && number("data_bytes") > 0 && number("exits") > 0);
    assert_eq!(figures["spec"], "OSAKA");
    kiln(["compile", LOOP, "--tier", "optimised"])
        .exits(0)
        .prints(&["codegen_ns", "%"])
        .prints(&["us/instruction"])
        .prints(&["bytes/instruction"]);
}

#[test]
fn every_form_is_labelled_with_the_bytecode() {
    let heading = ["region 0 of 1 at @0", "3 blocks", "14 instructions", "loops"];
    // To have an SSA form is to be an optimised region.
    kiln(["compile", LOOP, "--emit", "ssa"])
        .exits(0)
        .prints(&heading)
        .prints(&["function @0 need 0 grow 3"])
        .prints(&["; 0x6 SUB"])
        .prints(&["= sub v", "@6"])
        .prints(&["exit x0 interpret @0"]);
    kiln(["compile", LOOP, "--emit", "clif"])
        .exits(0)
        .prints(&heading)
        .prints(&["function u0:0(i64, i64) -> i64"])
        .prints(&["; check of the stack range"])
        .prints(&["; gas of b2"])
        .prints(&["; 0x6 SUB"])
        .prints(&["@0006 ", "isub"])
        .prints(&["; end of b2"]);
    kiln(["compile", LOOP, "--emit", "asm", "--tier", "optimised"])
        .exits(0)
        .prints(&heading)
        .prints(&["bytes of code", "of data"])
        .prints(&["; around the body"])
        .prints(&["; 0x6 SUB"])
        .prints(&["; 0xf MSTORE"])
        .prints(&["; ways out"])
        .prints(&["mov"]);
    kiln(["compile", LOOP, "--emit", "cfg", "--tier", "optimised"]).exits(0).prints(&["Jumpi"]);
}

/// The headings of the regions that are listed.
fn headings(arguments: &[&str]) -> Vec<String> {
    let all = [&["compile", FORK, "--emit", "ssa"], arguments].concat();
    let ran = super::kiln_in(&[], &all).exits(0);
    ran.stdout.lines().filter(|line| line.starts_with("; region ")).map(str::to_owned).collect()
}

#[test]
fn regions_can_be_picked() {
    let all = headings(&[]);
    assert!(!all.is_empty());
    for (number, heading) in all.iter().enumerate() {
        assert_eq!(headings(&["--region", &number.to_string()]), [heading.as_str()]);
    }
    assert!(headings(&["--region", "99"]).is_empty());
    // 6 is a leader, and 7 lies in its block.
    assert!(!headings(&["--pc", "0x6"]).is_empty());
    assert_eq!(headings(&["--pc", "0x6"]), headings(&["--pc", "7"]));
    assert!(headings(&["--pc", "0x100"]).is_empty());
}

#[test]
fn a_call_says_what_is_hot() {
    let text = |calldata: &str| {
        let arguments = ["compile", FORK, "--emit", "ssa", "--calldata", calldata];
        kiln(arguments).exits(0).stdout
    };
    // Without calldata nothing from pc 6 on runs.
    let loops = |text: &str| text.contains("poll");
    assert!(!loops(&text("0x")), "{}", text("0x"));
    assert!(loops(&text("0x0000000000000000000000000000000000000000000000000000000000000000ff")));
    kiln(["compile", FORK, "--emit", "ssa", "--calldata", "zz"])
        .exits(2)
        .complains(&["--calldata"]);
}

#[test]
fn a_fixture_says_what_is_hot_and_may_be_the_code() {
    let fixture = repository("workloads/exchange.json");
    let fixture = text(&fixture);
    let figures = |arguments: &[&str]| -> Value {
        let all = [&["compile", "--tier", "optimised", "--json"], arguments].concat();
        let ran = super::kiln_in(&[], &all).exits(0);
        serde_json::from_str(&ran.stdout).expect("JSON")
    };
    let hot = figures(&["--fixture", fixture]);
    let file = repository("workloads/bytecode/Exchange.hex");
    assert_eq!(hot["bytes"], figures(&[text(&file)])["bytes"], "{hot}");
    // The fork is the fixture's.
    assert_eq!(hot["spec"], "SHANGHAI");
    let named = figures(&["--fixture", fixture, text(&file)]);
    for name in ["regions", "instructions", "exits", "code_bytes"] {
        assert!(hot[name].as_u64().is_some_and(|number| number > 0), "{hot}");
        assert_eq!(hot[name], named[name]);
    }
    assert_eq!(figures(&["--fixture", fixture, "--hot", "1000000000"])["regions"], 0);
    // In code that it does not run nothing is hot.
    assert_eq!(figures(&["--fixture", fixture, LOOP])["regions"], 0);
    // It is a source of code for other compilers, too, but not of counts.
    kiln(["compile", "--fixture", fixture, "--emit", "cfg"]).exits(0).prints(&["PUSH1 0x80"]);
    kiln(["compile", "--fixture", fixture, "0x00"]).exits(2).complains(&["--fixture"]);
    kiln(["compile", "--fixture", fixture, "--calldata", "0x"]).exits(2).complains(&["--calldata"]);
    kiln(["compile", "--fixture", "no/such/file"]).exits(2).complains(&["no/such/file"]);
    kiln(["compile"]).exits(2);
}

#[test]
fn any_code_compiles() {
    for code in ["0x", "0x60", "0xfe", "0x5b", "0x5f5f57", "0xef0001", "0x5b600056"] {
        for emit in ["stats", "ssa", "clif", "asm"] {
            kiln(["compile", code, "--tier", "optimised", "--emit", emit]).exits(0);
        }
    }
}

/// Real bytecode: each label names an instruction of it, and everything compiles.
#[test]
fn labels_are_instructions_of_the_code() {
    let file = repository("workloads/bytecode/Exchange.hex");
    let listed = kiln(["compile", text(&file), "--emit", "cfg"]).exits(0).stdout;
    let instructions: HashSet<String> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter_map(|line| line.trim_start().split_once("  "))
        .map(|(pc, name)| format!("0x{pc} {name}"))
        .collect();
    for emit in ["ssa", "clif", "asm"] {
        let ran = kiln(["compile", text(&file), "--tier", "optimised", "--emit", emit]).exits(0);
        assert!(!ran.stdout.contains("refused"), "{}", ran.stdout);
        let labels: Vec<_> = ran
            .stdout
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("; "))
            .filter(|label| label.starts_with("0x"))
            .collect();
        assert!(labels.len() > 10, "{emit}");
        let stray = labels.iter().find(|label| !instructions.contains(**label));
        assert_eq!(stray, None, "{emit}");
    }
}
