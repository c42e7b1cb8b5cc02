//! Names of the stencils.
//!
//! **Owns** the list of all stencils and their dense numbering. **Callers guarantee** nothing.
//! **Never** knows what a stencil's code is.

use kiln_ir::Cond;

/// What an operand of a stencil is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A word in a stack slot.
    Slot,
    /// A constant below 2^31.
    Imm31,
    /// A constant below 2^64.
    Imm64,
    /// A constant in the pool behind the code.
    Pool,
    /// Zero.
    Zero,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Slot, Self::Imm31, Self::Imm64, Self::Pool, Self::Zero];
}

/// A limb-wise or carrying operation with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `b - a`: the constant on the left.
    SubFrom,
    /// `a * b`.
    Mul,
    /// `a & b`.
    And,
    /// `a | b`.
    Or,
    /// `a ^ b`.
    Xor,
}

impl Binary {
    const ALL: [Self; 7] =
        [Self::Add, Self::Sub, Self::SubFrom, Self::Mul, Self::And, Self::Or, Self::Xor];
}

/// A shift by a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shift {
    /// To the left.
    Left,
    /// To the right, zeros come in.
    Right,
    /// To the right, the sign comes in.
    Signed,
}

/// How a memory or calldata operation is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Offset {
    /// By a slot.
    Slot,
    /// By a constant.
    Const,
    /// By a constant that is known to lie in memory.
    Covered,
}

impl Offset {
    const ALL: [Self; 3] = [Self::Slot, Self::Const, Self::Covered];
}

/// A word the context holds, or points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Environment {
    /// The frame's address.
    Address,
    /// The caller's address.
    Caller,
    /// The call's value.
    CallValue,
    /// Bytes of calldata.
    Calldatasize,
    /// Bytes of return data.
    Returndatasize,
    /// Bytes of memory.
    Msize,
    /// Gas left.
    Gas,
}

impl Environment {
    const ALL: [Self; 7] = [
        Self::Address,
        Self::Caller,
        Self::CallValue,
        Self::Calldatasize,
        Self::Returndatasize,
        Self::Msize,
        Self::Gas,
    ];
}

/// What happens with the outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// It becomes a word.
    Set,
    /// It decides a branch.
    Branch,
}

/// A stencil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The precondition of a block: which of its parts are checked.
    Check {
        /// Words the stack must hold.
        need: bool,
        /// Room the stack must have.
        grow: bool,
        /// Gas to charge.
        gas: bool,
    },
    /// `dst = a`.
    Copy(Kind),
    /// `dst = a op b`; `b` is of the given kind; whether `dst` is `a`.
    Binary(Binary, Kind, bool),
    /// `dst = a & b`, where all bits of the constant above the lowest 31 are set.
    AndSigned {
        /// Whether `dst` is `a`.
        in_place: bool,
    },
    /// `dst` = the lowest 64, 128, 192 or 160 bits of `a`.
    Mask {
        /// Limbs kept whole.
        limbs: u8,
        /// Whether half of the next limb is kept too.
        half: bool,
        /// Whether `dst` is `a`.
        in_place: bool,
    },
    /// `dst = !a`.
    Not {
        /// Whether `dst` is `a`.
        in_place: bool,
    },
    /// `a cond b`.
    Compare(Use, Cond, Kind),
    /// `dst = a shift (64 * limbs + bits)`; whether there are bits.
    Shift(Shift, u8, bool),
    /// `dst` = a byte of `a`.
    Byte,
    /// `dst` = `a` sign-extended from a bit of the given limb.
    Signextend(u8),
    /// `dst` = memory.
    Mload(Offset),
    /// memory = value.
    Mstore(Offset, Kind),
    /// memory = low byte of the value: a slot or a constant.
    Mstore8(Offset, Kind),
    /// `dst` = calldata.
    Calldataload(Offset),
    /// `dst` = a word of the context.
    Environment(Environment),
    /// Sets an argument register of a helper call to the address of an operand.
    Argument(u8, Kind),
    /// Sets the argument register that holds the exit.
    ExitArgument,
    /// Calls a helper's thunk.
    Call,
    /// Moves the stack pointer.
    Adjust,
    /// A jump to the pc in a slot.
    JumpDynamic,
    /// Counts down at a back-edge, and leaves where the countdown was over.
    Poll,
}

/// Argument registers of a helper call that hold pointers.
pub(crate) const ARGUMENTS: u8 = 4;

impl Key {
    const COPY: usize = 8;
    const BINARY: usize = Self::COPY + 5;
    const AND_SIGNED: usize = Self::BINARY + 7 * 4 * 2;
    const MASK: usize = Self::AND_SIGNED + 2;
    const NOT: usize = Self::MASK + 16;
    const COMPARE: usize = Self::NOT + 2;
    const SHIFT: usize = Self::COMPARE + 2 * 10 * 5;
    const BYTE: usize = Self::SHIFT + 24;
    const SIGNEXTEND: usize = Self::BYTE + 1;
    const MLOAD: usize = Self::SIGNEXTEND + 4;
    const MSTORE: usize = Self::MLOAD + 3;
    const MSTORE8: usize = Self::MSTORE + 3 * 5;
    const CALLDATALOAD: usize = Self::MSTORE8 + 3 * 5;
    const ENVIRONMENT: usize = Self::CALLDATALOAD + 3;
    const ARGUMENT: usize = Self::ENVIRONMENT + 7;
    const EXIT_ARGUMENT: usize = Self::ARGUMENT + ARGUMENTS as usize * 5;
    const CALL: usize = Self::EXIT_ARGUMENT + 1;
    const ADJUST: usize = Self::CALL + 1;
    const JUMP_DYNAMIC: usize = Self::ADJUST + 1;
    const POLL: usize = Self::JUMP_DYNAMIC + 1;
    /// Upper bound of [`Key::index`].
    pub(crate) const COUNT: usize = Self::POLL + 1;

    /// The key's place in the library.
    #[inline]
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Check { need, grow, gas } => {
                need as usize | (grow as usize) << 1 | (gas as usize) << 2
            }
            Self::Copy(kind) => Self::COPY + kind as usize,
            Self::Binary(op, kind, in_place) => {
                Self::BINARY + (op as usize * 4 + kind as usize) * 2 + in_place as usize
            }
            Self::AndSigned { in_place } => Self::AND_SIGNED + in_place as usize,
            Self::Mask { limbs, half, in_place } => {
                Self::MASK + limbs as usize * 4 + half as usize * 2 + in_place as usize
            }
            Self::Not { in_place } => Self::NOT + in_place as usize,
            Self::Compare(used, cond, kind) => {
                Self::COMPARE + (used as usize * 10 + cond as usize) * 5 + kind as usize
            }
            Self::Shift(shift, limbs, bits) => {
                Self::SHIFT + shift as usize * 8 + limbs as usize * 2 + bits as usize
            }
            Self::Byte => Self::BYTE,
            Self::Signextend(limb) => Self::SIGNEXTEND + limb as usize,
            Self::Mload(offset) => Self::MLOAD + offset as usize,
            Self::Mstore(offset, kind) => Self::MSTORE + offset as usize * 5 + kind as usize,
            Self::Mstore8(offset, kind) => Self::MSTORE8 + offset as usize * 5 + kind as usize,
            Self::Calldataload(offset) => Self::CALLDATALOAD + offset as usize,
            Self::Environment(what) => Self::ENVIRONMENT + what as usize,
            Self::Argument(number, kind) => Self::ARGUMENT + number as usize * 5 + kind as usize,
            Self::ExitArgument => Self::EXIT_ARGUMENT,
            Self::Call => Self::CALL,
            Self::Adjust => Self::ADJUST,
            Self::JumpDynamic => Self::JUMP_DYNAMIC,
            Self::Poll => Self::POLL,
        }
    }

    /// Whether there is a stencil for this that handles whole words: `hand/wide.rs`.
    pub(crate) fn is_wide(self) -> bool {
        match self {
            Self::Copy(_) | Self::Mload(_) | Self::Mstore(..) | Self::Calldataload(_) => true,
            Self::Binary(Binary::And | Binary::Or | Binary::Xor, kind, _)
            | Self::Compare(_, Cond::Eq | Cond::Ne, kind) => {
                matches!(kind, Kind::Slot | Kind::Pool)
            }
            Self::Binary(Binary::Add | Binary::Sub, kind, _) => kind == Kind::Imm31,
            _ => false,
        }
    }

    /// All stencils of the library.
    pub(crate) fn all() -> Vec<Self> {
        let mut keys = vec![Self::Byte, Self::ExitArgument, Self::Call, Self::Adjust];
        keys.extend([Self::JumpDynamic, Self::Poll]);
        Self::push_checks_and_moves(&mut keys);
        Self::push_arithmetic(&mut keys);
        Self::push_compares(&mut keys);
        Self::push_memory(&mut keys);
        keys
    }

    fn push_checks_and_moves(keys: &mut Vec<Self>) {
        for bits in 1..8u8 {
            let [need, grow, gas] = [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0];
            keys.push(Self::Check { need, grow, gas });
        }
        keys.extend(Kind::ALL.map(Self::Copy));
        for number in 0..ARGUMENTS {
            keys.extend([Kind::Slot, Kind::Pool].map(|kind| Self::Argument(number, kind)));
        }
        keys.extend(Environment::ALL.map(Self::Environment));
    }

    fn push_arithmetic(keys: &mut Vec<Self>) {
        for op in Binary::ALL {
            let kinds: &[Kind] = match op {
                Binary::SubFrom => &[Kind::Imm31, Kind::Pool],
                Binary::Mul => &[Kind::Slot, Kind::Imm64],
                _ => &Kind::ALL[..4],
            };
            keys.extend(kinds.iter().map(|&kind| Self::Binary(op, kind, false)));
            if !matches!(op, Binary::SubFrom | Binary::Mul) {
                keys.extend(kinds.iter().map(|&kind| Self::Binary(op, kind, true)));
            }
        }
        for in_place in [false, true] {
            keys.extend([Self::Not { in_place }, Self::AndSigned { in_place }]);
            for (limbs, half) in [(1, false), (2, false), (2, true), (3, false)] {
                keys.push(Self::Mask { limbs, half, in_place });
            }
        }
        for shift in [Shift::Left, Shift::Right, Shift::Signed] {
            for limbs in 0..4 {
                keys.push(Self::Shift(shift, limbs, true));
                if limbs != 0 {
                    keys.push(Self::Shift(shift, limbs, false));
                }
            }
        }
        keys.extend((0..4).map(Self::Signextend));
    }

    fn push_compares(keys: &mut Vec<Self>) {
        for used in [Use::Set, Use::Branch] {
            for cond in Cond::ALL {
                let kinds: &[Kind] = match cond {
                    Cond::Eq | Cond::Ne => &Kind::ALL,
                    Cond::Ult | Cond::Uge => &[Kind::Slot, Kind::Imm31, Kind::Imm64, Kind::Pool],
                    Cond::Ugt | Cond::Ule => &[Kind::Imm31, Kind::Imm64, Kind::Pool],
                    Cond::Slt | Cond::Sge => &[Kind::Slot, Kind::Imm31, Kind::Pool],
                    Cond::Sgt | Cond::Sle => &[Kind::Imm31, Kind::Pool],
                };
                keys.extend(kinds.iter().map(|&kind| Self::Compare(used, cond, kind)));
            }
        }
    }

    fn push_memory(keys: &mut Vec<Self>) {
        for offset in Offset::ALL {
            keys.push(Self::Mload(offset));
            keys.extend(
                [Kind::Slot, Kind::Imm64, Kind::Pool, Kind::Zero]
                    .map(|kind| Self::Mstore(offset, kind)),
            );
            keys.extend([Kind::Slot, Kind::Imm31].map(|kind| Self::Mstore8(offset, kind)));
        }
        keys.extend([Offset::Slot, Offset::Const].map(Self::Calldataload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_without_collisions() {
        let mut seen = [false; Key::COUNT];
        for key in Key::all() {
            assert!(!std::mem::replace(&mut seen[key.index()], true), "{key:?} is numbered twice");
        }
    }
}
