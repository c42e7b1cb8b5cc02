use super::*;
use crate::{sample, verify};

#[test]
fn every_plain_operation_is_listed_once() {
    for (index, op) in PLAIN.into_iter().enumerate() {
        let name = plain_name(op).expect("PLAIN holds operations without a parameter");
        assert_eq!(PLAIN.iter().position(|&other| plain_name(other) == Some(name)), Some(index));
        assert_eq!(cond(name), None);
    }
}

#[test]
fn the_sample_reads_as_it_is_written() {
    let module = parse(sample::TEXT).expect("the sample is of the grammar");
    assert_eq!(module.to_string(), sample::TEXT);
    let branch = Terminator::Branch {
        cond: Cond::Ult,
        a: Operand::Slot(Slot(0)),
        b: Operand::Const(ConstId(1)),
        taken: Target::Back { region: 0, exit: ExitId(9) },
        next: Target::Exit(ExitId(4)),
    };
    assert_eq!(module.regions[0].terminator, branch);
    assert_eq!(module.exits.pool[4], Word([1, 1, 0, 0]));
    let last = Terminator::JumpDynamic { dest: Slot(-1), exit: ExitId(8) };
    assert_eq!(module.regions[2].terminator, last);
}

#[test]
fn the_documented_example_is_a_module() {
    let (_, behind) = include_str!("../display.rs").split_once("//! ```text\n").expect("example");
    let (example, _) = behind.split_once("//! ```").expect("its end");
    let text: String = example.lines().map(|line| format!("{}\n", &line[4..])).collect();
    let module = parse(&text).expect("of the grammar");
    assert_eq!(verify(&module), Ok(()));
    assert_eq!(module.to_string(), text);
}

#[test]
fn random_modules_round_trip() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2_000 {
        let module = sample::module(&mut rng);
        assert_eq!(verify(&module), Ok(()), "{module}");
        assert_eq!(parse(&module.to_string()).as_ref(), Ok(&module), "{module}");
        seen.extend(module.insts.iter().map(|inst| inst.op));
    }
    assert_eq!(seen.len(), sample::ops().len(), "not every operation was tried");
}

#[test]
fn undeclared_constants_join_the_pool() {
    let text = "code 1 ; comment\n\nregion r0 @0 need 1 grow 0 height 0 gas 0 entry x0 instructions 0\n\
                s-1=add 0x7,0x7 @0\n jump r0\n";
    let module = parse(text).expect("constants need no declaration");
    assert_eq!(module.exits.pool, [Word::from_u64(7)]);
    assert_eq!(
        module.insts[0].args,
        [Some(Operand::Const(ConstId(0))); 2].into_iter().chain([None]).collect::<Vec<_>>()[..]
    );
}

#[test]
fn errors_name_line_and_reason() {
    let error = |text: &str| parse(text).map(|_| ()).map_err(|error| error.to_string());
    let case = |text: &str, expected: &str| assert_eq!(error(text), Err(expected.into()), "{text}");
    case("", "line 0: expected a line with the length of the code, found \"\"");
    case("code 1\nfoo", "line 2: expected code, const, region or exit, found \"foo\"");
    case("code -1", "line 1: expected the length of the code, found \"-1\"");
    case("code 1 2", "line 1: expected the end of the line, found \"2\"");
    case("code 1\nconst c1 = 0x0", "line 2: expected the next constant of the pool, found \"c1\"");
    case("code 1\nconst c0 = 0xg", "line 2: expected a word such as 0x20, found \"0xg\"");
    case("code 1\nconst c0 = 0x", "line 2: expected a word such as 0x20, found \"0x\"");
    let region = "code 1\nregion r0 @0 need 1 grow 0 height 0 gas 0 entry x0 instructions 0\n";
    case(region, "line 2: expected a terminator, found \"\"");
    let inst = |line: &str, expected: &str| case(&format!("{region}{line}"), expected);
    inst("  frob s0 @0", "line 3: expected an operation or a terminator, found \"frob\"");
    inst("  s0 = add s1 s2 @0", "line 3: expected a pc such as @2a, found \"s2\"");
    inst("  s0 = add s1, @0", "line 3: expected a slot or a constant, found \"@0\"");
    inst("  s0 = add s99999 @0", "line 3: expected a slot or a constant, found \"s99999\"");
    inst(
        "  s0 = pure.foo s1 @0",
        "line 3: expected an operation or a terminator, found \"pure.foo\"",
    );
    inst("  if foo s1, s2", "line 3: expected a comparison such as ult, found \"foo\"");
    inst("  jump q1", "line 3: expected a region or an exit, found \"q1\"");
    inst("  leave x4294967296", "line 3: expected an exit such as x3, found \"x4294967296\"");
}

/// Damaged text never panics, neither here nor in the verifier or in the display of what is left.
#[test]
fn damaged_text_is_safe() {
    let mut rng = fastrand::Rng::with_seed(4);
    let mut read = 0;
    for round in 0..20_000 {
        let mut text = match round % 2 {
            0 => sample::TEXT.to_owned(),
            _ => sample::module(&mut rng).to_string(),
        };
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..text.len());
            let with = ["", "0", "-", "s9", "x", "é", "\n", "99999", "0x20", ",", "{"];
            text.replace_range(at..at + rng.usize(..2).min(text.len() - at), with[rng.usize(..11)]);
            if !text.is_ascii() {
                break;
            }
        }
        if let Ok(module) = parse(&text) {
            read += 1;
            let again = module.to_string();
            if verify(&module).is_ok() {
                assert_eq!(parse(&again), Ok(module));
            }
        }
    }
    assert!(read > 300, "nearly all damage was fatal: {read}");
}
