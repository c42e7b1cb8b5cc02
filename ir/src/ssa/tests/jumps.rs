use super::Program;
use kiln_abi::Pc;

impl Program {
    /// Where the block at a label jumps, by label.
    fn targets(&self, label: &str) -> Option<Vec<Pc>> {
        let analysis = self.analysis();
        let block = analysis.block_at(self.labels[label]).expect("a block");
        analysis.jumps().targets(block).map(<[Pc]>::to_vec)
    }

    fn pcs(&self, labels: &[&str]) -> Option<Vec<Pc>> {
        Some(labels.iter().map(|&label| self.labels[label]).collect())
    }
}

#[test]
fn a_function_returns_to_its_callers() {
    let program = Program::new(
        "@a 0x1 @double JUMP a: @b SWAP1 @double JUMP b: STOP double: DUP1 ADD SWAP1 JUMP",
    );
    assert_eq!(program.targets("double"), program.pcs(&["a", "b"]));
    assert_eq!(program.targets("a"), program.pcs(&["double"]));
    assert_eq!(program.targets("b"), None);
}

#[test]
fn functions_that_call_functions() {
    let program =
        Program::new("@end @outer JUMP end: STOP outer: @back @inner JUMP back: JUMP inner: JUMP");
    assert_eq!(program.targets("inner"), program.pcs(&["back"]));
    assert_eq!(program.targets("back"), program.pcs(&["end"]));
}

#[test]
fn paths_of_different_heights_meet_at_the_top() {
    // On one path there is one word more below the return address.
    let program =
        Program::new("CALLER @deep JUMPI @end @f JUMP deep: 0x7 @end @f JUMP f: JUMP end: STOP");
    assert_eq!(program.targets("f"), program.pcs(&["end"]));
}

#[test]
fn a_masked_function_pointer_is_followed() {
    let program = Program::new(
        "@a CALLER @other JUMPI @go JUMP other: POP @b @go JUMP go: 0xffffffff AND JUMP \
         a: STOP b: STOP",
    );
    assert_eq!(program.targets("go"), program.pcs(&["a", "b"]));
}

#[test]
fn what_comes_from_outside_is_not_resolved() {
    let program = Program::new("0x0 CALLDATALOAD a: JUMP b: STOP");
    assert_eq!(program.targets("a"), None);
    // Nor is a destination that was computed.
    let program = Program::new("@b 0x0 ADD a: JUMP b: STOP");
    assert_eq!(program.targets("a"), None);
}

#[test]
fn what_only_an_unresolved_jump_reaches_is_analysed_too() {
    let program = Program::new("CALLER JUMP a: @b @f JUMP f: JUMP b: STOP");
    assert_eq!(program.targets("f"), program.pcs(&["b"]));
}

#[test]
fn too_many_callers_are_not_told_apart() {
    let calls = |count: usize| {
        let calls: String = (0..count).map(|n| format!("@r{n} @f JUMP r{n}: ")).collect();
        Program::new(&format!("{calls} STOP f: JUMP"))
    };
    assert_eq!(calls(4).targets("f").map(|targets| targets.len()), Some(4));
    assert_eq!(calls(5).targets("f"), None);
}

/// The work is linear whatever the code: each block is visited a bounded number of times.
#[test]
fn the_work_is_bounded() {
    let mut rng = fastrand::Rng::with_seed(9);
    // Every block pushes addresses of others and jumps to one that comes from somewhere.
    let dense: Vec<u8> = (0..4000)
        .flat_map(|_| {
            let mut block = vec![0x5b];
            for _ in 0..rng.usize(..4) {
                block.extend([0x61, rng.u8(..0x60), rng.u8(..)]);
            }
            block.extend([[0x56, 0x57, 0x80, 0x90][rng.usize(..4)], [0x56, 0x57][rng.usize(..2)]]);
            block
        })
        .collect();
    let destinations = vec![0x5b; 24_576];
    let deep: Vec<u8> = (0..8000).flat_map(|_| [0x5b, 0x8f, 0x57]).collect();
    // A chain in which each block adds a destination.
    let pushes: Vec<u8> = (0..6000).flat_map(|_| [0x5b, 0x60, 0x00]).collect();
    for code in [dense, destinations, deep, pushes] {
        let program = Program::of(code);
        let analysis = program.analysis();
        let (visits, blocks) = (analysis.jumps().visits(), program.blocks.blocks.len());
        assert!(visits <= 18 * blocks, "{visits} visits of {blocks} blocks");
    }
}
