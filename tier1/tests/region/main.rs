//! Optimised regions: what LLVM makes of them does what the functions say.

use kiln_abi::CodeObject;
use kiln_ir::{Bounds, ssa::Function};
use kiln_region_tests::{Compile, Refused, region_tests};
use kiln_tier1::{CompileError, Compiler, Target};
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
}

region_tests!(&crate::Llvm);
