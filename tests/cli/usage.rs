//! Bad usage and unreadable input: exit code 2, and a message that names the file and the reason.

use super::{kiln, text};
use std::fs;

#[test]
fn without_a_command() {
    kiln([]).exits(2);
    kiln(["launch"]).exits(2).complains(&["launch"]);
}

#[test]
fn help_and_version() {
    kiln(["--help"]).exits(0).prints(&["replay"]).prints(&["statetest"]).prints(&["compile"]);
    kiln(["--version"]).exits(0).prints(&["kiln", env!("CARGO_PKG_VERSION")]);
}

#[test]
fn bad_arguments() {
    kiln(["replay"]).exits(2);
    kiln(["replay", "x", "--tier", "tier9"]).exits(2).complains(&["tier9"]);
    kiln(["replay", "x", "--force", "exit=0"]).exits(2).complains(&["exit=0"]);
    kiln(["statetest", "x", "--force", "leave=1"]).exits(2).complains(&["leave=1"]);
    kiln(["replay", "x", "--rounds", "0"]).exits(2).complains(&["0"]);
    kiln(["run", "0x00", "--spec", "Constantinople"]).exits(2).complains(&["Constantinople"]);
    kiln(["run", "0x0"]).exits(2).complains(&["0x0", "hexadecimal"]);
    kiln(["run", "0x00", "--calldata", "0xzz"]).exits(2).complains(&["--calldata"]);
    kiln(["run", "0x00", "--gas", "100"]).exits(2).complains(&["gas"]);
    kiln(["compile", "0x00", "--emit", "ir", "--json"]).exits(2).complains(&["--json"]);
    kiln(["compile", "0x00", "--emit", "ssa", "--tier", "tier0"])
        .exits(2)
        .complains(&["tier0 has no ssa", "--tier optimised"]);
    kiln(["compile", "0x00", "--emit", "stencils", "--tier", "optimised"])
        .exits(2)
        .complains(&["optimised has no stencils", "--tier tier0"]);
    for narrow in [["--region", "0"], ["--pc", "0"], ["--hot", "2"], ["--calldata", "0x"]] {
        let arguments = ["compile", "0x00", narrow[0], narrow[1]];
        kiln(arguments).exits(2).complains(&[narrow[0], "--tier optimised"]);
    }
    kiln(["compile", "0x00", "--emit", "ssa", "--pc", "x"]).exits(2).complains(&["--pc"]);
}

#[test]
fn files_that_are_not_there() {
    for command in ["replay", "statetest", "record", "run", "compile", "check"] {
        kiln([command, "no/such/file"]).exits(2).complains(&["no/such/file", "No such file"]);
    }
}

#[test]
fn folders_with_nothing_in_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = text(folder.path());
    for command in ["replay", "statetest", "record"] {
        kiln([command, path]).exits(2).complains(&[path, "no .json"]);
    }
}

#[test]
fn files_that_are_something_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty.json", b"", "EOF"),
        ("list.json", b"[1, 2]", "invalid type"),
        ("text.json", b"\xff\xfe", "line 1"),
        ("cut.json.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b], "corrupt gzip"),
        ("plain.json.gz", b"{}", "corrupt gzip"),
    ];
    for (name, bytes, reason) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("writable");
        kiln(["replay", text(&path)]).exits(2).complains(&[name, reason]);
        kiln(["statetest", text(&path)]).exits(2).complains(&[name, reason]);
    }
}
