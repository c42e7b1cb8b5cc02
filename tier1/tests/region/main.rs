//! Optimised regions: what LLVM makes of them does what the functions say.

use kiln_abi::CodeObject;
use kiln_ir::{Bounds, Limits, ssa::Function};
use kiln_region_tests::{
    Compile, Refused,
    control::fibonacci,
    region_tests,
    run::{machine, run},
    support::Program,
};
use kiln_tier1::{CompileError, Compiler, Target};
use revm_primitives::U256;
use std::cell::RefCell;

thread_local! {
    static COMPILER: RefCell<Compiler> =
        RefCell::new(Compiler::new(Target::Host).expect("the target is supported"));
}

struct Llvm;

impl Compile for Llvm {
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
        let ir = COMPILER.with_borrow_mut(|compiler| compiler.llvm_ir(function, false));
        ir.expect("it compiles").lines().filter(|line| line.starts_with("  ")).count()
    }
}

region_tests!(&crate::Llvm);

#[test]
fn code_for_any_cpu_does_the_same() {
    let (builder, done, _) = fibonacci(256);
    let function = &builder.function;
    let runs = [Target::Host, Target::Baseline].map(|target| {
        let mut compiler = Compiler::new(target).expect("the target is supported");
        let object = compiler.compile(function, &Limits::NONE).expect("the region compiles");
        let program = Program::load(object, &function.exits);
        let mut machine = machine();
        machine.set(-1, U256::from(300));
        assert_eq!(run(&program, &mut machine).exit, done);
        (machine.words(), machine.cx.gas, machine.cx.poll)
    });
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn a_compiler_goes_on_behind_what_it_refused() {
    let mut compiler = Compiler::new(Target::Host).expect("the target is supported");
    let (mut builder, ..) = fibonacci(64);
    let whole = builder.function.clone();
    builder.function.blocks[2].insts[0].args[1] = None;
    let first = compiler.compile(&whole, &Limits::NONE).expect("the region compiles");
    let refused = compiler.compile(&builder.function, &Limits::NONE);
    assert_eq!(refused, Err(CompileError::Malformed("an operand is missing")));
    // And makes the same of the same.
    assert_eq!(compiler.compile(&whole, &Limits::NONE), Ok(first));
}
