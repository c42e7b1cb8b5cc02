//! Optimised regions: what Cranelift makes of them does what the functions say.

use kiln_abi::{CodeObject, Pc};
use kiln_ir::{
    Bounds, Limits, Op,
    ssa::{self, Function, Target, Terminator},
};
use kiln_region_tests::{Compile, Refused, build::Builder, region_tests};
use kiln_tier0::{
    CompileError,
    region::{Compiler, Origin},
};
use revm_primitives::U256;
use std::cell::RefCell;

thread_local! {
    static COMPILER: RefCell<Compiler> = RefCell::new(Compiler::new().expect("the target is supported"));
}

struct Cranelift;

impl Compile for Cranelift {
    fn compile(&self, function: &Function, bounds: Bounds<'_>) -> Result<CodeObject, Refused> {
        let compiled = COMPILER.with_borrow_mut(|compiler| compiler.compile(function, bounds));
        compiled.map_err(|error| match error {
            CompileError::Malformed(what) => Refused::Malformed(what),
            CompileError::TooLarge => Refused::TooLarge,
            CompileError::Text { is, max } => Refused::Text { is, max },
            CompileError::Cancelled(_) => Refused::Cancelled,
            other => Refused::Other(other.to_string()),
        })
    }

    fn lowered(&self, function: &Function) -> usize {
        let clif = COMPILER.with_borrow_mut(|compiler| compiler.clif(function, &|_| String::new()));
        // Headers of blocks count as well.
        let is_inst =
            |line: &&str| line.starts_with(['@', ' ']) && !line.trim_start().starts_with(';');
        clif.expect("it compiles").lines().filter(is_inst).count()
    }
}

region_tests!(&crate::Cranelift);

/// Loads that may each leave, with the same words to be written; how many stores to the stack there are.
fn stores_of_exits(slots: [i16; 2]) -> usize {
    let mut builder = Builder::new(3, 2);
    let block = builder.block(0);
    let words = [-1, -2].map(|slot| builder.slot(block, slot));
    let sum = builder.word(block, Op::Add, &words, 0);
    let difference = builder.word(block, Op::Sub, &words, 0);
    let stores = [(slots[0], sum), (slots[1], difference)];
    for at in 0..32 {
        let exit = builder.exit(&stores);
        builder.function.exits.exits[exit.0 as usize].height = 2;
        let (at, load) = (builder.constant(U256::from(32 * at)), ssa::Op::Word(Op::Mload));
        builder.inst(block, load, &[at], 0, Some(U256::MAX), Some(exit));
    }
    let done = builder.exit(&stores);
    builder.function.exits.exits[done.0 as usize].height = 2;
    builder.end(block, Terminator::Jump(Target::Exit(done)));
    let clif = Compiler::new().unwrap().clif(&builder.function, &|pc| pc.to_string()).unwrap();
    let is_store = |line: &&str| line.contains(" store") && line.contains(" region1 ");
    clif.lines().filter(is_store).count()
}

#[test]
fn exits_share_their_stores() {
    // In front of the first; and by a block that all go through.
    assert_eq!(stores_of_exits([0, 1]), 8);
    assert_eq!(stores_of_exits([-3, 1]), 8);
}

#[test]
fn what_code_is_made_from_changes_nothing_of_it() {
    let mut builder = Builder::new(2, 1);
    let block = builder.block(3);
    let (a, b) = (builder.slot(block, -1), builder.slot(block, -2));
    let sum = builder.word(block, Op::Add, &[a, b], 0);
    let exit = builder.exit(&[(0, sum)]);
    builder.end(block, Terminator::Jump(Target::Exit(exit)));
    let (limits, mut compiler) = (Limits::default(), Compiler::new().unwrap());
    let traced = compiler.trace(&builder.function, &limits).unwrap();
    assert_eq!(traced.object, compiler.compile(&builder.function, &limits).unwrap());
    let origins = &traced.origins;
    assert!(origins.is_sorted_by(|a, b| a.0 < b.0), "{origins:?}");
    assert_eq!(origins[0], (0, Origin::Frame));
    assert!(origins.last().unwrap().0 <= traced.object.code_len);
    for part in [Origin::Head, Origin::Charge(block), Origin::Inst(Pc(0)), Origin::Exits] {
        assert!(origins.iter().any(|(_, origin)| *origin == part), "{part} in {origins:?}");
    }
}
