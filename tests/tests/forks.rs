//! One code on all forks in one engine, the newest first: what one fork's program does is not done on another.

use kiln_tests::Case;
use kiln_tests::asm::assemble;
use kiln_tests::case::specs;
use kiln_tests::compare::check;
use kiln_tests::engine::{Engines, Kind};

/// Each does something that compiled code does by itself on the forks that know it.
const CODES: [&str; 7] = [
    "PUSH0 PUSH0 MSTORE PUSH 32 PUSH 0 RETURN",
    "PUSH 1 CLZ PUSH 0 MSTORE PUSH 32 PUSH 0 RETURN",
    "PUSH 7 PUSH 0 MSTORE PUSH 32 PUSH 0 PUSH 32 MCOPY PUSH 64 PUSH 0 RETURN",
    "PUSH 7 PUSH 1 TSTORE PUSH 1 TLOAD PUSH 0 MSTORE PUSH 32 PUSH 0 RETURN",
    "PUSH 1 PUSH 3 SHL PUSH 0 MSTORE PUSH 32 PUSH 0 RETURN",
    "RETURNDATASIZE PUSH 0 MSTORE PUSH 32 PUSH 0 RETURN",
    "PUSH 9 PUSH 0 MSTORE PUSH 32 PUSH 0 REVERT",
];

#[test]
fn newer_forks_leave_nothing_to_older_ones() {
    let engines = Engines::new().expect("engines start");
    for text in CODES {
        let code = assemble(text).expect("assembles");
        let mut forks: Vec<_> = specs().collect();
        forks.reverse();
        for spec in forks {
            let case = Case::of_code(spec, code.clone());
            let difference = check(&engines, Kind::COMPARED, &case);
            assert!(difference.is_none(), "{text}, {spec:?}: {}", difference.unwrap());
        }
    }
}
