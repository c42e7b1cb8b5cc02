//! The helper table: every function compiled code may call.
//!
//! One row per helper in [`helpers!`]; the row gives its name and its *shape*, from which the
//! table's layout, the signature, and the [`Helper`] enum are derived. A helper without an
//! implementation does not compile.
//!
//! Words are passed by pointer. A destination may be the same word as an operand: helpers read all
//! operands before they write.

use crate::{Context, Word};

/// The address of the [`crate::Record`] that says how to leave in front of the instruction.
pub type ExitRecord = *const u32;

/// What a guarded helper answers.
pub type ContinueOrLeave = u64;
/// Compiled code goes on.
pub const CONTINUE: ContinueOrLeave = 0;
/// Compiled code leaves through the exit it named; [`Context::outcome`] says why.
pub const LEAVE: ContinueOrLeave = 1;

/// `dst = f(a)`; can not fail.
pub type Pure1Fn = unsafe extern "C" fn(dst: *mut Word, a: *const Word);
/// `dst = f(a, b)`; can not fail. `a` is the word on top of the stack.
pub type Pure2Fn = unsafe extern "C" fn(dst: *mut Word, a: *const Word, b: *const Word);
/// `dst = f(a, b, c)`; can not fail. `a` is the word on top of the stack.
pub type Pure3Fn =
    unsafe extern "C" fn(dst: *mut Word, a: *const Word, b: *const Word, c: *const Word);
/// Acts for an instruction with up to three pointers, or refuses before it did anything. The
/// pointers are the helper's to define: `dst` (where there is one) first, then operands from the
/// top of the stack downwards; unused ones are null.
pub type Guarded3Fn = unsafe extern "C" fn(
    cx: *mut Context,
    exit: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    p2: *const Word,
) -> ContinueOrLeave;
/// Makes the state in front of the instruction canonical, runs it, and leaves the canonical state
/// behind it. `sp` is the stack pointer of compiled code at the call.
pub type InstructionFn =
    unsafe extern "C" fn(cx: *mut Context, exit: ExitRecord, sp: *mut Word) -> ContinueOrLeave;
/// Expands memory to hold `size` bytes at the offset `*offset`, or at `offset_const` where `offset`
/// is null, or refuses before it did anything.
pub type ExpandFn = unsafe extern "C" fn(
    cx: *mut Context,
    exit: ExitRecord,
    offset: *const Word,
    offset_const: u64,
    size: u64,
) -> ContinueOrLeave;

/// The signature of a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HelperShape {
    /// [`Pure1Fn`].
    Pure1,
    /// [`Pure2Fn`].
    Pure2,
    /// [`Pure3Fn`].
    Pure3,
    /// [`Guarded3Fn`].
    Guarded3,
    /// [`InstructionFn`].
    Instruction,
    /// [`ExpandFn`].
    Expand,
}

macro_rules! shape_fn {
    (Pure1) => {
        Pure1Fn
    };
    (Pure2) => {
        Pure2Fn
    };
    (Pure3) => {
        Pure3Fn
    };
    (Guarded3) => {
        Guarded3Fn
    };
    (Instruction) => {
        InstructionFn
    };
    (Expand) => {
        ExpandFn
    };
}

macro_rules! helpers {
    ($($(#[$doc:meta])* $name:ident, $field:ident: $shape:ident;)*) => {
        /// Pointers to all helpers. Compiled code reaches a helper by its offset in this table.
        #[derive(Clone, Copy, Debug)]
        #[repr(C)]
        pub struct HelperTable {
            $($(#[$doc])* pub $field: shape_fn!($shape),)*
        }

        /// A helper, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Helper {
            $($(#[$doc])* $name,)*
        }

        impl Helper {
            /// All helpers, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The byte offset of the helper's pointer in [`HelperTable`].
            pub const fn offset(self) -> i32 {
                match self {
                    $(Self::$name => ::core::mem::offset_of!(HelperTable, $field) as i32,)*
                }
            }

            /// The helper's signature.
            pub const fn shape(self) -> HelperShape {
                match self {
                    $(Self::$name => HelperShape::$shape,)*
                }
            }

            /// The helper's name, as in the textual IR.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($field),)*
                }
            }
        }
    };
}

helpers! {
    /// MUL, all 256 bits.
    Mul, mul: Pure2;
    /// DIV; 0 for a zero divisor.
    Div, div: Pure2;
    /// SDIV; 0 for a zero divisor.
    Sdiv, sdiv: Pure2;
    /// MOD; 0 for a zero divisor.
    Rem, rem: Pure2;
    /// SMOD; 0 for a zero divisor.
    Smod, smod: Pure2;
    /// ADDMOD over 512-bit intermediates; 0 for a zero modulus.
    Addmod, addmod: Pure3;
    /// MULMOD over 512-bit intermediates; 0 for a zero modulus.
    Mulmod, mulmod: Pure3;
    /// SIGNEXTEND: `a` is the index of the sign byte, `b` the value.
    Signextend, signextend: Pure2;
    /// BYTE: `a` is the index from the most significant byte, `b` the value.
    Byte, byte: Pure2;
    /// SHL: `a` is the amount, `b` the value.
    Shl, shl: Pure2;
    /// SHR: `a` is the amount, `b` the value.
    Shr, shr: Pure2;
    /// SAR: `a` is the amount, `b` the value.
    Sar, sar: Pure2;
    /// CLZ (EIP-7939).
    Clz, clz: Pure1;
    /// CALLDATALOAD at any offset: `p0` the destination, `p1` the offset. Never refuses.
    Calldataload, calldataload: Guarded3;
    /// EXP with its dynamic gas: `p0` the destination, `p1` the base, `p2` the exponent.
    Exp, exp: Guarded3;
    /// KECCAK256: `p0` the destination, `p1` the offset, `p2` the length.
    Keccak256, keccak256: Guarded3;
    /// SLOAD: `p0` the destination, `p1` the key.
    Sload, sload: Guarded3;
    /// TLOAD: `p0` the destination, `p1` the key.
    Tload, tload: Guarded3;
    /// TSTORE: `p1` the key, `p2` the value.
    Tstore, tstore: Guarded3;
    /// CALLDATACOPY: `p0` the memory offset, `p1` the data offset, `p2` the length.
    Calldatacopy, calldatacopy: Guarded3;
    /// CODECOPY: `p0` the memory offset, `p1` the code offset, `p2` the length.
    Codecopy, codecopy: Guarded3;
    /// RETURNDATACOPY: `p0` the memory offset, `p1` the data offset, `p2` the length.
    Returndatacopy, returndatacopy: Guarded3;
    /// MCOPY: `p0` the destination, `p1` the source, `p2` the length.
    Mcopy, mcopy: Guarded3;
    /// Memory expansion for MLOAD, MSTORE and MSTORE8.
    Expand, expand: Expand;
    /// SSTORE with revm's Host calls in revm's order.
    Sstore, sstore: Instruction;
    /// LOG0 to LOG4 with revm's Host calls in revm's order.
    Log, log: Instruction;
    /// Any instruction, through the instruction table of the EVM.
    Instruction, instruction: Instruction;
}

impl Helper {
    /// Which of the three pointers of a [`Guarded3Fn`] are used, as its row above says.
    pub const fn pointers(self) -> [bool; 3] {
        match self {
            Self::Sload | Self::Tload | Self::Calldataload => [true, true, false],
            Self::Tstore => [false, true, true],
            _ => [true, true, true],
        }
    }

    /// Whether a [`Guarded3Fn`] writes a result to its first pointer.
    pub const fn has_destination(self) -> bool {
        matches!(self, Self::Calldataload | Self::Exp | Self::Keccak256 | Self::Sload | Self::Tload)
    }
}

const _: () = {
    // The table holds nothing but function pointers.
    assert!(size_of::<HelperTable>() == Helper::ALL.len() * size_of::<usize>());
};
