//! Runs compiled regions on the machine of the other tests, with helpers that compute.

use crate::{
    backend,
    support::{self, Left, Machine, Program},
};
use kiln_abi::{Helper, HelperTable, Word};
use kiln_ir::{Limits, fold, ssa::Function};

/// Compiles a region, and makes it executable.
pub fn compile(function: &Function) -> Program {
    let object = backend().compile(function, (&Limits::default()).into());
    Program::load(object.expect("the region compiles"), &function.exits)
}

/// A machine whose helpers compute.
pub fn machine() -> Box<Machine> {
    let mut machine = Machine::new();
    machine.cx.helpers = &HELPERS;
    machine
}

/// Runs from the head.
pub fn run(program: &Program, machine: &mut Machine) -> Left {
    program.run(machine, 0)
}

// SAFETY for all: compiled code passes pointers to words of its own.
macro_rules! pure {
    ($name:ident, $helper:ident, $a:ident) => {
        unsafe extern "C" fn $name(dst: *mut Word, $a: *const Word) {
            // SAFETY: see above.
            unsafe { *dst = fold::pure(Helper::$helper, *$a, Word::ZERO, Word::ZERO) }
        }
    };
    ($name:ident, $helper:ident, $a:ident, $b:ident) => {
        unsafe extern "C" fn $name(dst: *mut Word, $a: *const Word, $b: *const Word) {
            // SAFETY: see above.
            unsafe { *dst = fold::pure(Helper::$helper, *$a, *$b, Word::ZERO) }
        }
    };
    ($name:ident, $helper:ident, $a:ident, $b:ident, $c:ident) => {
        unsafe extern "C" fn $name(
            dst: *mut Word,
            $a: *const Word,
            $b: *const Word,
            $c: *const Word,
        ) {
            // SAFETY: see above.
            unsafe { *dst = fold::pure(Helper::$helper, *$a, *$b, *$c) }
        }
    };
}

pure!(mul, Mul, a, b);
pure!(div, Div, a, b);
pure!(sdiv, Sdiv, a, b);
pure!(rem, Rem, a, b);
pure!(smod, Smod, a, b);
pure!(addmod, Addmod, a, b, c);
pure!(mulmod, Mulmod, a, b, c);
pure!(signextend, Signextend, a, b);
pure!(byte, Byte, a, b);
pure!(shl, Shl, a, b);
pure!(shr, Shr, a, b);
pure!(sar, Sar, a, b);
pure!(clz, Clz, a);

pub static HELPERS: HelperTable = HelperTable {
    mul,
    div,
    sdiv,
    rem,
    smod,
    addmod,
    mulmod,
    signextend,
    byte,
    shl,
    shr,
    sar,
    clz,
    ..support::HELPERS
};
