//! `kiln compile --tier tier1`: regions in LLVM's forms, or why there are none.

use super::kiln;

/// Counts down from 10, then returns 0x2a.
const LOOP: &str = "0x600a5b6001900380600257602a60005260206000f3";

#[test]
fn options_are_checked_before_anything_is_compiled() {
    kiln(["compile", LOOP, "--tier", "optimised", "--emit", "llvm"])
        .exits(2)
        .complains(&["optimised has no llvm", "--tier tier1"]);
    kiln(["compile", LOOP, "--emit", "clif", "--tier", "tier1"])
        .exits(2)
        .complains(&["tier1 has no clif", "--tier optimised"]);
    kiln(["compile", LOOP, "--emit", "llvm", "-o", "x.ll"]).exits(2).complains(&["--emit object"]);
    // What is the bytecode's is any compiler's.
    kiln(["compile", LOOP, "--tier", "tier1", "--emit", "cfg"]).exits(0).prints(&["Jumpi"]);
}

#[cfg(not(feature = "llvm"))]
#[test]
fn a_build_without_llvm_says_so() {
    for emit in ["stats", "llvm", "asm", "object"] {
        kiln(["compile", LOOP, "--tier", "tier1", "--emit", emit])
            .exits(2)
            .complains(&["without", "feature `llvm`"]);
    }
}

#[cfg(feature = "llvm")]
mod with_llvm {
    use super::{
        super::{kiln, repository, text},
        LOOP,
    };
    use serde_json::Value;
    use std::{collections::HashSet, fs, process::Command};

    /// Two loops, each too far from the other to be in one region with it: a jump of a word nobody knows.
    const TWO: &str = "0x5f35565b6001900380600357005b600190038060105700";

    #[test]
    fn the_figures_have_all_stages() {
        let ran = kiln(["compile", LOOP, "--tier", "tier1", "--json"]).exits(0);
        let figures: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        let number =
            |name: &str| figures[name].as_u64().unwrap_or_else(|| panic!("{name}: {figures}"));
        let stages = [
            "scan_ns",
            "summaries_ns",
            "jumps_ns",
            "choose_ns",
            "build_ns",
            "optimise_ns",
            "place_ns",
            "lower_ns",
            "passes_ns",
            "codegen_ns",
            "load_ns",
        ];
        assert_eq!(stages.into_iter().map(number).sum::<u64>(), number("total_ns"), "{figures}");
        assert!(number("lower_ns") > 0 && number("passes_ns") > 0 && number("codegen_ns") > 0);
        assert_eq!(figures["assemble_ns"], Value::Null);
        assert_eq!((number("regions"), number("refused"), number("instructions")), (1, 0, 14));
        assert!(number("code_bytes") > 0 && number("exits") > 0);
        kiln(["compile", LOOP, "--tier", "tier1"])
            .exits(0)
            .prints(&["passes_ns", "%"])
            .prints(&["us/instruction"]);
    }

    #[test]
    fn every_form_is_labelled_with_the_bytecode() {
        let heading = ["region 0 of 1 at @0", "3 blocks", "14 instructions", "loops"];
        // To have LLVM's IR is to be compiled by it.
        let ran = kiln(["compile", LOOP, "--emit", "llvm"])
            .exits(0)
            .prints(&heading)
            .prints(&["define i64 @body(ptr"])
            .prints(&["; check of the stack range"])
            .prints(&["; gas of b2"])
            .prints(&["; 0x6 SUB"])
            .prints(&["; end of b2"])
            .prints(&["; ways out"]);
        assert!(!ran.stdout.contains("!dbg") && !ran.stdout.contains("!DI"), "{}", ran.stdout);
        kiln(["compile", LOOP, "--emit", "asm", "--tier", "tier1"])
            .exits(0)
            .prints(&heading)
            .prints(&["bytes of code", "of data"])
            .prints(&["; around the body"])
            .prints(&["; 0xf MSTORE"])
            .prints(&["; ways out"])
            .prints(&["mov"]);
        kiln(["compile", LOOP, "--emit", "ssa", "--tier", "tier1"]).exits(0).prints(&["; 0x6 SUB"]);
    }

    #[test]
    fn an_object_is_an_elf_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("region.o");
        let ran = kiln(["compile", LOOP, "--emit", "object", "-o", text(&file)]).exits(0);
        assert_eq!(ran.stdout, "");
        let object = fs::read(&file).expect("it was written");
        assert_eq!(object[..4], *b"\x7fELF");
        // Relocatable, for x86-64.
        assert_eq!(object[16..20], [1, 0, 62, 0]);
        // A pipe gets the same.
        let kiln = Command::new(env!("CARGO_BIN_EXE_kiln"))
            .args(["compile", LOOP, "--emit", "object"])
            .output()
            .expect("the command starts");
        assert!(kiln.status.success());
        assert_eq!(kiln.stdout, object);
    }

    #[test]
    fn an_object_is_of_one_region() {
        kiln(["compile", TWO, "--emit", "object"]).exits(2).complains(&["regions are meant"]);
        kiln(["compile", TWO, "--emit", "object", "--region", "9"])
            .exits(2)
            .complains(&["0 regions are meant"]);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("region.o");
        kiln(["compile", TWO, "--emit", "object", "--pc", "0x10", "-o", text(&file)]).exits(0);
        assert_eq!(fs::read(&file).expect("it was written")[..4], *b"\x7fELF");
        let nowhere = directory.path().join("no/such/directory");
        kiln(["compile", LOOP, "--emit", "object", "-o", text(&nowhere)])
            .exits(2)
            .complains(&["no/such/directory"]);
    }

    #[test]
    fn any_code_compiles() {
        for code in ["0x", "0x60", "0xfe", "0x5b", "0x5f5f57", "0xef0001", "0x5b600056"] {
            for emit in ["stats", "llvm", "asm"] {
                kiln(["compile", code, "--tier", "tier1", "--emit", emit]).exits(0);
            }
        }
    }

    /// Real bytecode: each label names an instruction of it.
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
        for emit in ["llvm", "asm"] {
            let arguments =
                ["compile", text(&file), "--tier", "tier1", "--emit", emit, "--region", "0"];
            let ran = kiln(arguments).exits(0);
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
}
