use super::Program;
use crate::Limits;
use crate::ssa::{
    Analysis, Choice, INSTRUCTIONS_MAX, NODES_MAX, Region, SPAN_MAX, Stage, build, build_staged,
    choose, verify,
};
use kiln_abi::Pc;

const CHOICE: Choice = Choice { hot: 100, regions_max: 8 };

impl Program {
    /// The heads of the regions chosen for counts by label; other blocks never ran.
    fn heads(&self, counts: &[(&str, u64)]) -> Vec<Pc> {
        let count = |pc: Pc| {
            let at = counts.iter().find(|(label, _)| self.labels.get(*label) == Some(&pc));
            at.map_or(0, |&(_, count)| count)
        };
        let regions = choose(&self.analysis(), &count, CHOICE);
        regions.iter().map(Region::head).collect()
    }
}

const NESTED: &str = "
    0x5 outer: 0x9 inner: 0x1 SWAP1 SUB DUP1 @inner JUMPI tail: POP 0x1 SWAP1 SUB DUP1 @outer JUMPI
    end: STOP";

#[test]
fn the_outermost_loop_that_is_warm_is_taken_whole() {
    let program = Program::new(NESTED);
    let heads = program.heads(&[("outer", 1000), ("inner", 9000), ("tail", 1000), ("end", 1)]);
    assert_eq!(heads, [program.labels["outer"]]);
    // A loop around it that ran hardly ever is no place to begin.
    let heads = program.heads(&[("outer", 1), ("inner", 9000), ("tail", 1), ("end", 1)]);
    assert_eq!(heads, [program.labels["inner"]]);
    assert_eq!(program.heads(&[("outer", 9), ("inner", 99)]), []);
}

const CALLS: &str = "
    0x5 loop: @a 0x1 @twice JUMP a: POP @b 0x2 @twice JUMP b: POP 0x1 SWAP1 SUB DUP1 @loop JUMPI
    end: STOP
    twice: DUP1 ADD SWAP1 JUMP";

#[test]
fn calls_are_copied_into_the_loop_of_their_caller() {
    let program = Program::new(CALLS);
    let counts = [("loop", 1000), ("a", 1000), ("b", 1000), ("twice", 2000), ("end", 1)];
    assert_eq!(program.heads(&counts), [program.labels["loop"]]);
    let function = program.function("loop");
    // One block goes round: all calls and returns are within it.
    let text = function.to_string();
    assert!(text.matches("poll").count() == 1 && !text.contains("eq"), "{text}");
    assert!(function.blocks.len() <= 4, "{text}");
}

#[test]
fn a_return_out_of_the_region_is_predicted() {
    let program = Program::new(CALLS);
    let function = program.function("twice");
    // Both callers are compared with, and the JUMP is the interpreter's otherwise.
    let text = function.to_string();
    let compares = text.lines().filter(|line| line.contains("if eq")).count();
    assert!(compares >= 2, "{text}");
}

#[test]
fn limits_hold_for_hostile_code() {
    let mut rng = fastrand::Rng::with_seed(4);
    let jumps: Vec<u8> = (0..2000)
        .flat_map(|_| [0x5b, 0x61, rng.u8(..0x20), rng.u8(..), 0x80, 0x15, 0x90, 0x57])
        .collect();
    // Blocks that each leave a word more than they found.
    let growing: Vec<u8> = (0..2000).flat_map(|_| [0x5b, 0x36, 0x36, 0x80, 0x15]).collect();
    let digging: Vec<u8> = (0..3000).flat_map(|_| [0x5b, 0x50, 0x50, 0x9f]).collect();
    let giant = vec![0x36; 2000];
    let constants: Vec<u8> = (0..500u32)
        .flat_map(|n| {
            let mut push = vec![0x7f; 33];
            push[29..].copy_from_slice(&n.to_be_bytes());
            push
        })
        .collect();
    let loads: Vec<u8> = (0..1000).flat_map(|_| [0x5b, 0x36, 0x36, 0x51, 0x51, 0x52]).collect();
    for code in [jumps, growing, digging, giant, constants, loads] {
        let program = Program::of(code);
        let analysis = program.analysis();
        let count = |pc: Pc| 100 + u64::from(pc.0 % 7);
        let mut work = 0;
        for region in choose(&analysis, &count, Choice { regions_max: 20, ..CHOICE }) {
            assert!(region.blocks() <= NODES_MAX && region.instructions() <= INSTRUCTIONS_MAX);
            let Ok(function) = build(&analysis, &region, &Limits::default()) else { continue };
            assert_eq!(verify(&function), Ok(()));
            let span = SPAN_MAX as u16;
            assert!(function.need <= span && function.grow <= span);
            // One for the entry, and at most one more for each prediction.
            assert!(function.blocks.len() <= 5 * NODES_MAX);
            let instructions = region.instructions() as usize;
            let insts: usize = function.blocks.iter().map(|block| block.insts.len()).sum();
            assert!(insts <= 2 * instructions + 2 * function.blocks.len() + usize::from(span));
            work += function.stores.len() + function.exits.fixups.len();
            assert!(work <= 20 * 8192);
        }
    }
}

#[test]
fn what_is_the_interpreters_alone_is_no_region() {
    let program = Program::new("CALL a: INVALID b: STOP");
    let analysis = program.analysis();
    assert!(Region::grow(&analysis, Pc(0), &|_| 1).is_none());
    assert!(Region::grow(&analysis, Pc(900), &|_| 1).is_none());
    assert!(Region::grow(&analysis, program.labels["b"], &|_| 1).is_some());
    assert!(choose(&analysis, &|_| 0, CHOICE).is_empty());
}

#[test]
fn a_region_that_is_cut_goes_on_in_another() {
    let blocks: String = (0..200).map(|n| format!("b{n}: CALLER @end JUMPI ")).collect();
    let program = Program::new(&format!("{blocks} end: STOP"));
    let analysis = program.analysis();
    let regions = choose(&analysis, &|_| 1000, CHOICE);
    assert!(regions.len() >= 3, "{}", regions.len());
    let heads: Vec<Pc> = regions.iter().map(Region::head).collect();
    let cut: Vec<Pc> = regions.iter().flat_map(|region| region.cut().to_vec()).collect();
    assert!(regions[0].is_truncated());
    assert!(cut.iter().all(|cut| heads.contains(cut)), "{cut:?} {heads:?}");
}

/// The loop of the fibonacci benchmark: each round is one block, with one charge and one poll.
#[test]
fn a_round_of_fibonacci_is_one_block() {
    let program = Program::new(
        "PUSH0 CALLDATALOAD PUSH0 0x1 loop: DUP3 ISZERO @end JUMPI DUP2 DUP2 ADD SWAP2 POP SWAP1 SWAP2
         0x1 SWAP1 SUB SWAP2 @loop JUMP end: SWAP2 POP POP PUSH0 MSTORE 0x20 PUSH0 RETURN",
    );
    let function = program.function("loop");
    let text = function.to_string();
    let round = function.blocks.iter().find(|block| block.params.len() == 3);
    let round = round.unwrap_or_else(|| panic!("{text}"));
    assert_eq!(round.insts.len(), 2, "{text}");
    assert_eq!(round.gas, 18 * 3, "{text}");
    let targets: Vec<_> = round.terminator.targets().filter_map(|target| target.block()).collect();
    assert!(targets.iter().any(|(to, _)| function.block(*to) == round), "{text}");
}

#[test]
fn a_text_with_labels_is_the_text_with_lines_added() {
    let program = Program::new(CALLS);
    let function = program.function("loop");
    let labelled = function.labelled(&|pc| format!("label {pc}")).to_string();
    let (labels, rest): (Vec<&str>, Vec<&str>) =
        labelled.lines().partition(|line| line.starts_with("  ; label @"));
    assert!(rest.iter().copied().eq(function.to_string().lines()), "{labelled}");
    // Each instruction ends in the pc of the label before it, and no label repeats the one before it.
    let mut label = "";
    for line in labelled.lines() {
        if let Some(own) = line.strip_prefix("  ; label ") {
            assert_ne!(label, own, "{labelled}");
            label = own;
        } else if line.starts_with('b') {
            label = "";
        } else if line.contains(" @") && line.starts_with("  ") {
            assert!(line.ends_with(&format!(" {label}")), "{line} behind {label}");
        }
    }
    assert!(labels.len() >= 2, "{labelled}");
}

#[test]
fn stages_come_in_order() {
    let program = Program::new(CALLS);
    let (limits, mut stages) = (Limits::default(), Vec::new());
    let mut ended = |stage| stages.push(stage);
    let (code, blocks, config) = (&program.code, &program.blocks, &program.config);
    let analysis = Analysis::new_staged(code, blocks, config, &limits, &mut ended).unwrap();
    let region = Region::grow(&analysis, program.labels["loop"], &|_| 1).unwrap();
    let function = build_staged(&analysis, &region, &limits, &mut ended).unwrap();
    assert_eq!(function, program.function("loop"));
    use Stage::{Build, Jumps, Optimise, Place, Summaries};
    assert_eq!(stages, [Summaries, Jumps, Build, Optimise, Place]);
}
