//! Which operands each opcode is given, from revm's own table of opcodes.
//!
//! **Owns** the class of every opcode, and the words that operands are. **Callers guarantee** nothing. **Never**
//! emits code.

use revm::bytecode::opcode::{self as op, OpCode};
use revm::primitives::{U256, address};

/// What an opcode does with its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// One, two or three words to one: arithmetic, comparison, shift. It halts only for want of gas.
    Word,
    /// It may halt, ends the frame, or touches memory or host: each run has a frame of its own. What the
    /// operands are, from the top of the stack downwards.
    Frame(&'static [Role]),
    /// It has no operand, or none whose value counts.
    Without,
}

/// What an operand is to a memory or host opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// An offset or a length, in memory or data.
    Range,
    /// A word that is written, logged or looked up.
    Value,
    /// Gas that is passed on.
    Gas,
    /// An account.
    Account,
    /// Wei that is sent.
    Wei,
    /// Where a jump goes.
    Target,
    /// Whether it goes there.
    Condition,
}

use Class::{Frame, Without, Word};
use Role::{Account, Condition, Gas, Range, Target, Value, Wei};

/// An account that answers with the calldata.
pub(crate) const ECHO: revm::primitives::Address =
    address!("0x0000000000000000000000000000000000ec0000");

/// The class of an opcode of revm. None for one that this table does not know: then a test fails.
pub(crate) fn class_of(opcode: u8) -> Option<Class> {
    let info = OpCode::info_by_op(opcode)?;
    Some(match opcode {
        // Whatever arithmetic there will be comes in below the hash.
        op::ADD..op::KECCAK256 if info.inputs() > 0 && info.outputs() == 1 => Word,
        op::KECCAK256 | op::LOG0 | op::RETURN | op::REVERT => Frame(&[Range, Range]),
        op::MLOAD | op::CALLDATALOAD => Frame(&[Range]),
        op::MSTORE | op::MSTORE8 => Frame(&[Range, Value]),
        op::MCOPY | op::CALLDATACOPY | op::CODECOPY | op::RETURNDATACOPY => {
            Frame(&[Range, Range, Range])
        }
        op::EXTCODECOPY => Frame(&[Account, Range, Range, Range]),
        op::LOG1 => Frame(&[Range, Range, Value]),
        op::LOG2 => Frame(&[Range, Range, Value, Value]),
        op::LOG3 => Frame(&[Range, Range, Value, Value, Value]),
        op::LOG4 => Frame(&[Range, Range, Value, Value, Value, Value]),
        op::CREATE => Frame(&[Wei, Range, Range]),
        op::CREATE2 => Frame(&[Wei, Range, Range, Value]),
        op::CALL | op::CALLCODE => Frame(&[Gas, Account, Wei, Range, Range, Range, Range]),
        op::DELEGATECALL | op::STATICCALL => Frame(&[Gas, Account, Range, Range, Range, Range]),
        op::BALANCE | op::EXTCODESIZE | op::EXTCODEHASH | op::SELFDESTRUCT => Frame(&[Account]),
        op::SLOAD | op::TLOAD | op::BLOCKHASH | op::BLOBHASH => Frame(&[Value]),
        op::SSTORE | op::TSTORE => Frame(&[Value, Value]),
        op::JUMP => Frame(&[Target]),
        op::JUMPI => Frame(&[Target, Condition]),
        op::POP | op::DUP1..=op::DUP16 | op::SWAP1..=op::SWAP16 => Without,
        op::DUPN | op::SWAPN | op::EXCHANGE => Without,
        op::PUSH0..=op::PUSH32 | op::STOP | op::INVALID | op::JUMPDEST => Without,
        op::ADDRESS | op::ORIGIN | op::CALLER | op::CALLVALUE | op::CALLDATASIZE => Without,
        op::CODESIZE | op::GASPRICE | op::RETURNDATASIZE | op::COINBASE | op::TIMESTAMP => Without,
        op::NUMBER | op::DIFFICULTY | op::GASLIMIT | op::CHAINID | op::SELFBALANCE => Without,
        op::BASEFEE | op::BLOBBASEFEE | op::SLOTNUM | op::PC | op::MSIZE | op::GAS => Without,
        _ => return None,
    })
}

/// All opcodes of revm.
pub(crate) fn opcodes() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|&opcode| OpCode::info_by_op(opcode).is_some())
}

/// The opcodes from words to a word, with their number of operands.
pub(crate) fn word_opcodes() -> impl Iterator<Item = (u8, usize)> {
    let inputs = |opcode| OpCode::info_by_op(opcode).map_or(0, |info| info.inputs() as usize);
    opcodes().filter(|&opcode| class_of(opcode) == Some(Word)).map(move |op| (op, inputs(op)))
}

/// A word as an operand, and whether it belongs to those that every compiler gets in every combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operand {
    pub(crate) value: U256,
    pub(crate) is_core: bool,
}

fn one() -> U256 {
    U256::from(1)
}

/// Where carries, signs and limbs begin and end.
fn core() -> Vec<U256> {
    let mut core = [0, 1, 2].map(U256::from).to_vec();
    for bits in [63, 64, 128, 255] {
        let power = one() << bits;
        core.extend([power - one(), power, power + one()]);
    }
    core.extend((0..4).map(|limb| U256::from(u64::MAX) << (64 * limb)));
    core.push(U256::MAX);
    core
}

fn with_core(more: Vec<U256>) -> Vec<Operand> {
    let core = core();
    let mut all: Vec<_> = core.iter().chain(&more).copied().collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(|value| Operand { value, is_core: core.contains(&value) }).collect()
}

/// The words that operands of arithmetic are.
pub(crate) fn words() -> Vec<Operand> {
    let mut more = [7u64, 30, 31, 32, 63, 64, 127, 128, 255, 256].map(U256::from).to_vec();
    for bits in [127, 192] {
        let power = one() << bits;
        more.extend([power - one(), power, power + one()]);
    }
    more.extend([U256::MAX - one(), one() << 64 | one() << 200]);
    with_core(more)
}

impl Role {
    /// The words that such an operand is.
    pub(crate) fn words(self) -> Vec<Operand> {
        match self {
            Self::Range => {
                let mut more = [31u64, 32, 33, 64, 95, 96, 97, 255, 256].map(U256::from).to_vec();
                more.extend(
                    [(1u64 << 32) - 1, 1 << 32, u64::MAX - 31, u64::MAX - 32].map(U256::from),
                );
                more.extend([U256::MAX - U256::from(31), U256::MAX - U256::from(32)]);
                with_core(more)
            }
            // No valid target: that one is the default.
            Self::Value
            | Self::Gas
            | Self::Account
            | Self::Wei
            | Self::Target
            | Self::Condition => with_core(Vec::new()),
        }
    }

    /// What it is where others vary. None: it is a valid target.
    pub(crate) fn default_word(self) -> Option<U256> {
        Some(match self {
            Self::Range => U256::from(32),
            Self::Value => U256::from(0x77),
            Self::Gas => U256::from(5_000),
            Self::Account => U256::from_be_slice(ECHO.as_slice()),
            Self::Wei => U256::ZERO,
            Self::Target => return None,
            Self::Condition => one(),
        })
    }
}

#[test]
fn no_opcode_is_forgotten() {
    let mut words = 0;
    for opcode in opcodes() {
        let name = OpCode::name_by_op(opcode);
        let info = OpCode::info_by_op(opcode).expect("an opcode of revm");
        let class = class_of(opcode);
        let class = class.unwrap_or_else(|| panic!("{name} is in no class: see class_of"));
        match class {
            Word => words += 1,
            Frame(roles) => assert_eq!(roles.len(), info.inputs() as usize, "{name}"),
            Without => assert!(
                info.inputs() == 0 || info.inputs() <= info.outputs() || opcode == op::POP,
                "{name} has operands"
            ),
        }
    }
    assert_eq!(words, 26, "arithmetic opcodes");
}
