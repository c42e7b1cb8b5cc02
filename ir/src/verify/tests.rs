use super::*;
use crate::{parse, sample};
use kiln_abi::{Fixup, Word};

fn sample() -> Module {
    parse(sample::TEXT).expect("the sample is of the grammar")
}

/// The sample with a change, which must break exactly this rule at this place.
#[track_caller]
fn refused(change: impl FnOnce(&mut Module), expected: &str) {
    let mut module = sample();
    change(&mut module);
    let error = verify(&module).expect_err(expected);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn accepts_the_sample() {
    assert_eq!(verify(&sample()), Ok(()));
    assert_eq!(verify(&Module::default()), Ok(()));
}

#[test]
fn regions() {
    let header = |rule: &str| format!("region r1 @20: {rule}");
    refused(|m| m.regions.swap(1, 2), "region r2 @20: regions lie by ascending pc");
    refused(|m| m.regions[1].pc = Pc(0), "region r1 @0: regions lie by ascending pc");
    refused(|m| m.code_len = 0x22, "exit x7: the pc is in the code");
    refused(|m| m.regions[2].pc = Pc(101), "region r2 @65: the pc is in the code");
    refused(|m| m.regions[1].need = 1025, &header("the stack range fits the EVM stack"));
    refused(|m| m.regions[1].grow = 1025, &header("the stack range fits the EVM stack"));
    refused(|m| m.regions[1].height = 1, &header("the height is within the stack range"));
    refused(|m| m.regions[1].height = -3, &header("the height is within the stack range"));
    refused(
        |m| m.regions[1].insts_start += 1,
        &header("instructions lie in the order of the regions"),
    );
    refused(|m| m.regions[1].insts_len = 1, &header("instructions are in range"));
    refused(|m| m.regions[1].insts_len = u32::MAX, &header("instructions are in range"));
    refused(
        |m| m.regions[0].insts_len -= 1,
        "region r1 @20: instructions lie in the order of the regions",
    );
    refused(|m| m.insts.push(m.insts[0]), "module: every instruction is of a region");
}

#[test]
fn entry_exits() {
    let entry = |change: fn(&mut Exit), rule: &str| {
        refused(|m| change(&mut m.exits.exits[5]), &format!("region r1 @20: {rule}"));
    };
    entry(|x| x.kind = ExitKind::Resume, "the kind of an exit fits where it is used");
    entry(|x| x.pc = Pc(0x21), "the entry exit changes nothing");
    entry(|x| x.moved = 1, "an exit has moved by the height behind a terminator, else by 0");
    entry(|x| x.height = -1, "the entry exit changes nothing");
    entry(|x| x.gas_back = 1, "the entry exit changes nothing");
    refused(|m| m.regions[1].entry_exit = ExitId(19), "region r1 @20: an exit is in the table");
}

#[test]
fn exits() {
    let exit = |change: fn(&mut Exit), expected: &str| {
        refused(|m| change(&mut m.exits.exits[1]), expected);
    };
    exit(|x| x.fixups_start = 1, "exit x1: fixups lie in the order of the exits");
    exit(|x| x.fixups_len = 4, "exit x1: fixups are in range");
    exit(|x| x.fixups_len = 1, "exit x2: fixups lie in the order of the exits");
    exit(|x| x.rest = 51, "exit x1: the rest is part of the gas given back");
    exit(|x| x.pc = Pc(101), "exit x1: the pc is in the code");
    exit(|x| x.height = 1, "exit x1: a fixup writes a word that is on the stack at the exit");
    let at = |rule: &str| format!("region r0, instruction 2 @5: {rule}");
    exit(|x| x.height = 4, &at("the height at an exit is within the stack range"));
    exit(|x| x.gas_back = 61, &at("no more gas is given back than was charged"));
    exit(|x| x.pc = Pc(6), &at("an exit stands in front of its instruction"));
    exit(|x| x.kind = ExitKind::Stop, &at("the kind of an exit fits where it is used"));
    exit(|x| x.moved = -1, &at("an exit has moved by the height behind a terminator, else by 0"));
    let fixup = |change: fn(&mut Fixup), expected: &str| {
        refused(|m| change(&mut m.exits.fixups[1]), expected);
    };
    fixup(|f| f.slot = Slot(0), "exit x1: a slot is written by one fixup");
    fixup(|f| f.source = Source::Const(5), "exit x1: a constant is in the pool");
    fixup(|f| f.slot = Slot(-4), &at("a slot of a fixup is within the stack range"));
    fixup(|f| f.source = Source::Slot(Slot(3)), &at("a slot of a fixup is within the stack range"));
    refused(|m| m.exits.fixups.push(m.exits.fixups[0]), "module: every fixup is of an exit");
}

#[test]
fn instructions() {
    let inst = |index: usize, change: fn(&mut Inst), rule: &str| {
        let pc = if index == 0 { 1 } else { sample().insts[index].pc.0 };
        let expected = format!("region r0, instruction {index} @{pc:x}: {rule}");
        refused(|m| change(&mut m.insts[index]), &expected);
    };
    let dst = "a destination where the operation writes one";
    let operands = "operands as many as the operation has";
    let slot = "a slot is within the stack range";
    let shape = "the helper has the shape of the operation";
    inst(0, |i| i.dst = None, dst);
    inst(2, |i| i.dst = Some(Slot(0)), dst);
    inst(0, |i| i.args[1] = None, operands);
    inst(0, |i| i.args[0] = None, operands);
    inst(0, |i| i.args[2] = i.args[1], operands);
    inst(0, |i| i.dst = Some(Slot(3)), slot);
    inst(0, |i| i.dst = Some(Slot(-4)), slot);
    inst(0, |i| i.args[0] = Some(Operand::Slot(Slot(3))), slot);
    inst(0, |i| i.args[0] = Some(Operand::Const(ConstId(5))), "a constant is in the pool");
    for op in [Op::Pure(Helper::Sload), Op::Guarded(Helper::Mul), Op::Instruction(Helper::Exp)] {
        let mut module = sample();
        module.insts[0].op = op;
        assert_eq!(verify(&module).map_err(|error| error.rule), Err(shape), "{op:?}");
    }
    inst(0, |i| i.exit = Some(ExitId(1)), "an exit where the operation may leave");
    inst(2, |i| i.exit = None, "an exit where the operation may leave");
    inst(3, |i| i.exit = Some(ExitId(1)), "an exit where the operation may leave");
    inst(5, |i| i.exit = None, "an exit where the operation may leave");
    inst(6, |i| i.exit = None, "an exit where the operation may leave");
    inst(2, |i| i.exit = Some(ExitId(19)), "an exit is in the table");
    refused(|m| m.insts[0].pc = Pc(101), "region r0, instruction 0 @65: the pc is in the region");
}

#[test]
fn immediates() {
    let allowed = |op: Op, imm: u32| {
        let mut module = sample();
        (module.insts[1].op, module.insts[1].imm) = (op, imm);
        verify(&module).is_ok()
    };
    for op in [Op::ShlImm, Op::ShrImm, Op::SarImm] {
        assert_eq!([0, 1, 255, 256].map(|imm| allowed(op, imm)), [false, true, true, false]);
    }
    assert_eq!([0, 31, 32].map(|imm| allowed(Op::ByteImm, imm)), [true, true, false]);
    assert_eq!([0, 30, 31].map(|imm| allowed(Op::SignextendImm, imm)), [true, true, false]);
    assert_eq!([0, 1].map(|imm| allowed(Op::Copy, imm)), [true, false]);
    refused(|m| m.insts[7].imm = 61, "region r0, instruction 7 @c: the immediate is in range");
}

#[test]
fn memory() {
    let at = |index: usize, pc: u32, rule: &str| {
        format!("region r0, instruction {index} @{pc:x}: {rule}")
    };
    let earlier = "an unchecked access lies within an earlier one";
    let checked = "an access at an offset that is not constant is checked";
    let constant = |id| Some(Operand::Const(ConstId(id)));
    refused(|m| m.insts[3].args[0] = constant(1), &at(3, 8, earlier));
    refused(|m| m.insts[3].args[0] = Some(Operand::Slot(Slot(0))), &at(3, 8, checked));
    refused(|m| m.insts[2].args[0] = constant(3), &at(2, 5, "a constant offset is below 2^31"));
    refused(|m| m.insts[2].args[0] = constant(4), &at(2, 5, "a constant offset is below 2^31"));
    refused(|m| m.insts[0].checked = false, &at(0, 1, "only accesses to memory are unchecked"));
    refused(|m| m.insts.swap(2, 3), &at(2, 8, earlier));
    // A byte makes sure of its whole word, and of nothing behind it.
    let mut module = sample();
    module.insts[2].op = Op::Mstore8;
    assert_eq!(verify(&module), Ok(()));
    module.exits.pool[0] = Word::from_u64(31);
    assert_eq!(verify(&module).map_err(|error| error.rule), Err(earlier));
}

#[test]
fn terminators() {
    let ends = |region: usize, terminator: Terminator, expected: &str| {
        refused(|m| m.regions[region].terminator = terminator, expected);
    };
    let r0 = |rule: &str| format!("terminator of region r0 @0: {rule}");
    let moved = "an exit has moved by the height behind a terminator, else by 0";
    let kind = "the kind of an exit fits where it is used";
    let slot = "a slot is within the stack range";
    ends(0, Terminator::Jump(Target::Region(3)), &r0("a target is in the module"));
    ends(0, Terminator::Jump(Target::Exit(ExitId(19))), &r0("an exit is in the table"));
    ends(0, Terminator::Jump(Target::Exit(ExitId(2))), &r0(moved));
    let once = "an exit with fixups is used in one place";
    ends(0, Terminator::Jump(Target::Exit(ExitId(1))), &r0(once));
    ends(0, Terminator::Exit(ExitId(4)), &r0(moved));
    ends(0, Terminator::JumpDynamic { dest: Slot(0), exit: ExitId(4) }, &r0(kind));
    ends(0, Terminator::JumpDynamic { dest: Slot(3), exit: ExitId(8) }, &r0(slot));
    let branch = |a, taken| Terminator::Branch {
        cond: crate::Cond::Eq,
        a: Operand::Slot(a),
        b: Operand::Slot(Slot(0)),
        taken,
        next: Target::Region(1),
    };
    ends(0, branch(Slot(-4), Target::Region(1)), &r0(slot));
    ends(0, branch(Slot(0), Target::Region(3)), &r0("a target is in the module"));
    refused(
        |m| m.exits.exits[6].height = -1,
        "terminator of region r1 @20: RETURN and REVERT have two words on the stack",
    );
    refused(|m| m.exits.exits[4].kind = ExitKind::Return, &r0(kind));
}

#[test]
fn back_edges() {
    let ends = |region: usize, target: Target, rule: &str| {
        let pc = sample().regions[region].pc;
        let expected = format!("terminator of region r{region} {pc}: {rule}");
        refused(|m| m.regions[region].terminator = Terminator::Jump(target), &expected);
    };
    let back = |region, exit| Target::Back { region, exit: ExitId(exit) };
    ends(0, Target::Region(0), "a jump back polls");
    ends(2, Target::Region(1), "a jump back polls");
    ends(0, back(1, 9), "a back-edge goes back");
    ends(2, back(3, 9), "a back-edge goes back");
    ends(0, back(0, 19), "an exit is in the table");
    ends(0, back(0, 4), "a poll's exit resumes at its target");
    ends(2, back(1, 9), "a poll's exit resumes at its target");
    let exit = |change: fn(&mut Exit), rule: &str| {
        let expected = format!("terminator of region r0 @0: {rule}");
        refused(|m| change(&mut m.exits.exits[9]), &expected);
    };
    let resumes = "a poll's exit resumes at its target";
    exit(|x| x.kind = ExitKind::Interpret, resumes);
    exit(|x| x.height = -2, resumes);
    exit(|x| x.gas_back = 1, resumes);
    exit(|x| x.pc = Pc(1), resumes);
    exit(|x| x.moved = 0, "an exit has moved by the height behind a terminator, else by 0");
}

#[test]
fn words_are_written_before_they_are_read() {
    let read = "a slot is written before it is read";
    let at_exit = "all words are written at an exit";
    refused(
        |m| m.insts[0].args[0] = Some(Operand::Slot(Slot(0))),
        &format!("region r0, instruction 0 @1: {read}"),
    );
    refused(
        |m| m.exits.fixups[0].source = Source::Slot(Slot(2)),
        "region r0, instruction 2 @5: a fixup reads a slot that was written",
    );
    refused(|m| m.exits.exits[1].height = 3, &format!("region r0, instruction 2 @5: {at_exit}"));
    // No temporary outlives an instruction that the host runs.
    refused(
        |m| {
            m.exits.fixups[2].slot = Slot(-1);
            m.exits.exits[3].height = 0;
            if let Terminator::Branch { a, .. } = &mut m.regions[0].terminator {
                *a = Operand::Slot(Slot(2));
            }
        },
        &format!("terminator of region r0 @0: {read}"),
    );
    refused(
        |m| {
            (m.regions[2].grow, m.regions[2].height) = (2, 2);
            m.regions[2].terminator = Terminator::Jump(Target::Back { region: 0, exit: ExitId(9) });
        },
        "terminator of region r2 @30: all words are written where a region ends",
    );
    refused(
        |m| {
            m.regions[1].grow = 1;
            m.exits.exits[6].height = 1;
        },
        &format!("terminator of region r1 @20: {at_exit}"),
    );
}

#[test]
fn sets_of_slots() {
    for end in [-5, 0, 1, 63, 64, 65, 127, 128, 1023, 1024] {
        let below = Slots::below(end);
        for slot in -8..1024 {
            assert_eq!(below.contains(slot), slot < end.max(0), "{slot} below {end}");
        }
        assert!(!below.contains(1024));
        let mut more = below;
        more.insert(end);
        assert!(below.is_within(&more));
        assert_eq!(more.is_within(&below), !(0..1024).contains(&end), "{end}");
    }
}
