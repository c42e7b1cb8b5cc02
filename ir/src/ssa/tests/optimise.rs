use super::text;

/// The lines of a function's blocks, without numbers of exits.
#[track_caller]
fn has(program: &str, head: &str, lines: &[&str], not: &[&str]) {
    let text = text(program, head);
    lines.iter().for_each(|line| assert!(text.contains(line), "no {line:?} in\n{text}"));
    not.iter().for_each(|line| assert!(!text.contains(line), "{line:?} in\n{text}"));
}

#[test]
fn constants_fold_and_identities_go() {
    has("0x3 0x4 MUL 0x0 SSTORE STOP", "", &["s0 = 0xc", "s1 = 0x0"], &["mul"]);
    has("CALLER 0xffffffffffffffffffffffffffffffffffffffff AND 0x0 SSTORE STOP", "", &[], &["and"]);
    has("CALLER 0x8 MUL 0x0 SSTORE STOP", "", &[": 163 = shl v0 #3"], &["mul"]);
    has("CALLER 0x10 SWAP1 DIV 0x0 SSTORE STOP", "", &[": 156 = shr v0 #4"], &["div"]);
    has("CALLER CALLER ADD 0x0 SSTORE STOP", "", &[": 161 = add v0, v0"], &["v1: 160"]);
}

#[test]
fn comparisons_fuse_with_branches() {
    let program = "CALLER CALLVALUE LT ISZERO ISZERO ISZERO @end JUMPI 0x1 end: STOP";
    has(program, "", &["if uge v1, v0 then"], &["= eq", "= ult"]);
    has("CALLER CALLVALUE SUB @end JUMPI end: STOP", "", &["if ne v"], &["= sub"]);
    // Without sign bits the orders agree.
    has("CALLER GAS SLT @end JUMPI end: STOP", "", &["if ult v"], &["if slt"]);
}

#[test]
fn branches_that_always_go_one_way_are_jumps() {
    let program = "CALLER 0x1 OR @end JUMPI 0x1 end: STOP";
    // OR is not known to be other than zero, a shifted byte is.
    has(program, "", &["if ne"], &[]);
    let program = "CALLER 0xa0 SHR @never JUMPI STOP never: 0x7 0x8 SSTORE STOP";
    has(program, "", &[], &["if ", "sstore"]);
}

#[test]
fn loops_carry_only_what_changes() {
    let program = "CALLVALUE CALLER 0x0 loop: DUP3 DUP2 LT ISZERO @end JUMPI 0x1 ADD @loop JUMP
        end: 0x0 SSTORE STOP";
    let text = text(program, "loop");
    let params = text.lines().filter(|line| line.starts_with('b') && line.contains("(v"));
    let params: Vec<&str> = params.collect();
    assert!(params.iter().all(|line| line.matches(':').count() == 1), "{text}");
    assert!(!params.is_empty(), "{text}");
}

#[test]
fn a_counter_below_a_narrow_bound_is_narrow() {
    // for (i = 0; i < calldatasize; i++)
    let program = "0x0 loop: CALLDATASIZE DUP2 LT ISZERO @end JUMPI 0x1 ADD @loop JUMP end: STOP";
    let text = text(program, "");
    let add = text.lines().find(|line| line.contains("= add")).expect("an addition");
    assert!(add.contains(": 64 = add"), "{text}");
}

#[test]
fn a_checked_difference_is_no_larger_than_its_minuend() {
    // if (b > a) revert; a - b
    let program =
        "CALLVALUE CALLER DUP2 DUP2 LT @bad JUMPI SUB 0x0 SSTORE STOP bad: 0x0 0x0 REVERT";
    has(program, "", &[": 160 = narrow"], &[]);
}

#[test]
fn memory_is_checked_once() {
    let program = "CALLER 0x40 MSTORE @a JUMP a: 0x40 MLOAD 0x20 MLOAD 0x0 SSTORE 0x0 SSTORE STOP";
    has(program, "", &["mload 0x20 unchecked"], &["mload 0x40"]);
    // The same offset, whatever it is.
    let program = "CALLDATASIZE MLOAD 0x0 SSTORE 0x7 CALLDATASIZE MSTORE STOP";
    has(program, "", &["mstore v0, 0x7 unchecked"], &[]);
    // On one of two paths only.
    let program = "CALLER @a JUMPI 0x0 0x0 MSTORE a: 0x0 MLOAD 0x0 SSTORE STOP";
    has(program, "", &["mload 0x0 else"], &[]);
}

#[test]
fn computed_once_on_a_path() {
    let program = "CALLER CALLVALUE ADD 0x0 SSTORE @a JUMP a: CALLER CALLVALUE ADD 0x1 SSTORE STOP";
    assert_eq!(text(program, "").matches("= add").count(), 1);
}

#[test]
fn words_are_written_where_the_function_is_left() {
    // Two words change places for good; nothing is stored, the host moves them.
    has("SWAP1 CALLER a: CALL STOP", "", &["s-2 = s-1, s-1 = s-2"], &["s-1 @"]);
    // A word that an instruction of the host found in its place is not written again.
    let program = "CALLER CALLVALUE 0x1 0x0 SSTORE 0x2 0x1 SSTORE CALL";
    let text = text(program, "");
    let exits: Vec<&str> = text.lines().filter(|line| line.starts_with("exit")).collect();
    assert!(exits.iter().filter(|line| line.contains("s0 = v")).count() == 1, "{text}");
}

#[test]
fn gas_is_charged_once_for_what_always_follows() {
    let program = "@a JUMP a: @b JUMP b: CALLER 0x0 SSTORE @c JUMP c: STOP";
    // 13 instructions at 3.
    has(program, "", &["gas 39 else"], &["b2"]);
}
