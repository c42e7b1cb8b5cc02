use super::Program;
use crate::{
    module,
    ssa::{Def, Function, Op, Store, Target, Terminator, Value, verify},
};
use kiln_abi::{ExitId, ExitKind, Slot, Source, Word};

/// A loop with a store on each way out, a helper, memory, and an instruction of the host.
fn function() -> Function {
    Program::new(
        "loop: DUP1 0x40 MSTORE 0x20 MLOAD SLOAD ADD 0x1 DUP2 SSTORE CALLER ADD DUP1 @loop JUMPI
         SWAP1 CALL",
    )
    .function("loop")
}

#[track_caller]
fn breaks(rule: &str, change: impl FnOnce(&mut Function)) {
    let mut function = function();
    change(&mut function);
    let found = verify(&function).expect_err("a broken rule");
    assert_eq!(found.rule, rule, "{}\n{function}", found.place);
}

/// The block that holds the loop.
const BODY: usize = 1;

fn with_exit(function: &Function, op: impl Fn(Op) -> bool) -> ExitId {
    let insts = function.blocks.iter().flat_map(|block| &block.insts);
    insts.filter(|inst| op(inst.op)).find_map(|inst| inst.exit).expect("an exit")
}

fn is_run(op: Op) -> bool {
    matches!(op, Op::Run(_))
}

#[test]
fn blocks() {
    breaks("there is a first block", |f| f.blocks.clear());
    breaks("the pc is in the code", |f| f.pc.0 = 1000);
    breaks("the stack range fits the EVM stack", |f| f.grow = 1025);
    breaks("the first block has no parameters", |f| {
        let value = Value(f.values.len() as u32);
        let def = Def::Param { block: crate::ssa::BlockId(0), index: 0 };
        f.values.push(crate::ssa::ValueData { def, max: Word::MAX });
        f.blocks[0].params.push(value);
    });
    breaks("a block that charges has an exit for it", |f| f.blocks[BODY].gas_exit = None);
    breaks("a block that charges has an exit for it", |f| f.blocks[BODY].gas = 0);
    breaks("the height is within the stack range", |f| f.blocks[BODY].height = 500);
    breaks("without gas the block is left in front of its leader", |f| f.blocks[BODY].height -= 1);
    breaks("every exit has its stores", |f| {
        f.stores_end.pop();
    });
    breaks("stores lie in the order of the exits", |f| f.stores_end[0] = 1000);
    breaks("every store is of an exit", |f| f.stores.extend_from_within(..1));
}

#[test]
fn edges() {
    let change = |target: fn(&mut Target)| {
        move |f: &mut Function| f.blocks[BODY].terminator.targets_mut(target)
    };
    breaks("a back-edge goes back", |f| {
        f.blocks[0].terminator.targets_mut(|target| {
            if let Target::Block { block, args } = target.clone() {
                *target = Target::Back { block, args, exit: ExitId(0) };
            }
        });
    });
    breaks(
        "a jump back polls",
        change(|target| {
            if let Target::Back { block, args, .. } = target.clone() {
                *target = Target::Block { block, args };
            }
        }),
    );
    breaks(
        "one argument for each parameter",
        change(|target| {
            if let Target::Back { args, .. } = target {
                args.pop();
            }
        }),
    );
    breaks(
        "a target is in the function",
        change(|target| {
            if let Target::Back { block, .. } = target {
                block.0 = 99;
            }
        }),
    );
    breaks(
        "the first block is no target",
        change(|target| {
            if let Target::Back { block, .. } = target {
                block.0 = 0;
            }
        }),
    );
    breaks("each block is reached from one before", |f| {
        f.blocks[0].terminator = Terminator::Jump(Target::Exit(f.entry_exit));
    });
}

#[test]
fn values() {
    breaks("a value is in the function", |f| f.blocks[BODY].insts[0].args[0] = Some(Value(999)));
    breaks("a value is defined where it says", |f| {
        let param = f.blocks[BODY].params[0];
        f.values[param.0 as usize].def = Def::Const(Word::ONE);
    });
    breaks("a value is defined once", |f| {
        let inst = *f.blocks[BODY].insts.iter().find(|inst| inst.dst.is_some()).expect("a result");
        f.blocks[BODY].insts.push(inst);
    });
    breaks("a value is defined", |f| {
        let def = Def::Inst(crate::ssa::BlockId(1));
        f.values.push(crate::ssa::ValueData { def, max: Word::MAX });
    });
    breaks("a constant bounds itself", |f| {
        let constant = |data: &&mut crate::ssa::ValueData| matches!(data.def, Def::Const(_));
        f.values.iter_mut().find(constant).expect("a constant").max = Word::MAX;
    });
    breaks("a value is defined on every path to its use", |f| {
        f.blocks[BODY].insts.reverse();
    });
    breaks("an argument is within its parameter's bound", |f| {
        let param = f.blocks[BODY].params[0];
        f.values[param.0 as usize].max = Word::ONE;
    });
    breaks("the bound of a result follows from those of the operands", |f| {
        let caller = |inst: &&crate::ssa::Inst| inst.op == Op::Word(module::Op::Caller);
        let dst = f.blocks[BODY].insts.iter().find(caller).and_then(|inst| inst.dst);
        f.values[dst.expect("a result").0 as usize].max = Word::ONE;
    });
}

#[test]
fn instructions() {
    let find = |f: &mut Function, op: fn(Op) -> bool| {
        let index = f.blocks[BODY].insts.iter().position(|inst| op(inst.op));
        (BODY, index.expect("such an instruction"))
    };
    let is_add = |op| op == Op::Word(module::Op::Add);
    let is_load = |op| op == Op::Word(module::Op::Mload);
    let is_store = |op| op == Op::Word(module::Op::Mstore);
    let change = |f: &mut Function, op: fn(Op) -> bool, change: fn(&mut crate::ssa::Inst)| {
        let (block, index) = find(f, op);
        change(&mut f.blocks[block].insts[index]);
    };
    breaks("operands as many as the operation has", |f| change(f, is_add, |i| i.args[1] = None));
    breaks("a result where the operation has one", |f| {
        change(f, is_store, |inst| inst.op = Op::Word(module::Op::Add));
    });
    breaks("the immediate is in range", |f| change(f, is_add, |inst| inst.imm = 1));
    breaks("the pc is in the code", |f| change(f, is_add, |inst| inst.pc.0 = 999));
    breaks("the operation is one of the SSA form", |f| {
        change(f, is_add, |inst| inst.op = Op::Word(module::Op::Copy));
    });
    breaks("only accesses to memory are unchecked", |f| change(f, is_add, |i| i.checked = false));
    breaks("an unchecked access lies within an earlier one", |f| {
        change(f, is_store, |inst| (inst.checked, inst.exit) = (false, None));
    });
    breaks("an exit where the operation may leave", |f| {
        change(f, is_load, |inst| inst.checked = true);
    });
    breaks("a slot that is read is within the stack range and was written", |f| {
        let slot = Op::Slot(Slot(f.grow as i16));
        let reads = &mut f.blocks[0].insts;
        reads.iter_mut().find(|inst| inst.dst.is_some()).expect("a read").op = slot;
    });
}

#[test]
fn exits() {
    breaks("the stack pointer does not move", |f| f.exits.exits[1].moved = 1);
    breaks("the rest is part of the gas given back", |f| f.exits.exits[1].rest = 1);
    breaks("fixups lie in the order of the exits", |f| f.exits.exits[3].fixups_start = 7);
    breaks("every fixup is of an exit", |f| f.exits.fixups.extend_from_within(..1));
    breaks("the entry exit changes nothing", |f| f.exits.exits[0].kind = ExitKind::Resume);
    breaks("an exit is used in one place", |f| f.blocks[BODY].gas_exit = Some(f.entry_exit));
    breaks("an exit is in the table", |f| f.blocks[BODY].gas_exit = Some(ExitId(99)));
    breaks("no more gas is given back than was charged", |f| {
        let exit = with_exit(f, is_run);
        f.exits.exits[exit.0 as usize].gas_back = 10_000;
    });
    breaks("an exit stands in front of its instruction", |f| {
        let exit = with_exit(f, is_run);
        f.exits.exits[exit.0 as usize].kind = ExitKind::Resume;
    });
    breaks("a poll's exit resumes at its target", |f| {
        let exit = f.blocks[BODY].terminator.targets().find_map(Target::exit).expect("a poll");
        f.exits.exits[exit.0 as usize].pc.0 += 1;
    });
    breaks("every exit is used", |f| {
        let exit = *f.exits.exits.last().expect("an exit");
        let exit =
            kiln_abi::Exit { fixups_start: f.exits.fixups.len() as u32, fixups_len: 0, ..exit };
        f.exits.exits.push(exit);
        f.stores_end.push(f.stores.len() as u32);
    });
}

#[test]
fn writes() {
    breaks("a store writes a word that is on the stack at the exit", |f| {
        f.stores[0].slot = Slot(100);
    });
    breaks("a store writes no constant", |f| {
        let word = (0..f.values.len() as u32).map(Value).find(|&v| f.constant(v).is_some());
        f.stores[0].value = word.expect("a constant");
    });
    breaks("a slot is written once", |f| {
        let exit =
            (0..f.stores_end.len() as u32).map(ExitId).find(|&exit| f.stores(exit).len() > 1);
        let first = f.stores_end[exit.expect("an exit with two stores").0 as usize - 1] as usize;
        f.stores[first + 1].slot = f.stores[first].slot;
    });
    breaks("all words are written at an exit", |f| {
        // The key of SSTORE goes to the place of a word that needs no write.
        let record = *f.exits.exit(with_exit(f, is_run));
        let fixups = &mut f.exits.fixups[record.fixups_start as usize..];
        fixups[0].slot = Slot(-(f.need as i16));
    });
    breaks("a constant is in the pool", |f| {
        let constant = |fixup: &&mut kiln_abi::Fixup| matches!(fixup.source, Source::Const(_));
        let fixup = f.exits.fixups.iter_mut().find(constant).expect("a constant");
        fixup.source = Source::Const(99);
    });
    breaks("no fixup reads what a store of the exit writes", |f| {
        let exit = (0..f.stores_end.len() as u32)
            .map(ExitId)
            .find(|&exit| !f.stores(exit).is_empty() && f.exits.exit(exit).fixups_len != 0);
        let exit = exit.expect("an exit with stores and fixups");
        let Store { slot, .. } = f.stores(exit)[0];
        let start = f.exits.exit(exit).fixups_start as usize;
        f.exits.fixups[start].source = Source::Slot(slot);
    });
}
