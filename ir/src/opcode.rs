//! The opcode table: one row per opcode says how it is lowered.
//!
//! Names, arity and immediates come from revm's `OPCODE_INFO`, static gas from the EVM's own gas
//! table; nothing is repeated here. A const block asserts that every opcode revm knows has a row and
//! that no row is for an opcode it does not know.

use crate::module::{Cond, Op};
use kiln_abi::Helper;
use revm_bytecode::opcode::{self as op, OPCODE_INFO};
use revm_primitives::hardfork::SpecId::{self, *};

/// How an opcode becomes block IR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lowering {
    /// PUSH0 to PUSH32.
    Push,
    /// DUP1 to DUP16, by depth.
    Dup(u8),
    /// SWAP1 to SWAP16, by depth.
    Swap(u8),
    /// DUPN, with its immediate.
    Dupn,
    /// SWAPN, with its immediate.
    Swapn,
    /// EXCHANGE, with its immediate.
    Exchange,
    /// POP.
    Pop,
    /// JUMPDEST.
    Jumpdest,
    /// PC: a constant.
    Pc,
    /// CODESIZE: a constant.
    Codesize,
    /// Two words to one, by one IR operation.
    Binary(Op),
    /// A comparison of two words.
    Compare(Cond),
    /// ISZERO.
    Iszero,
    /// NOT.
    Not,
    /// SHL, SHR, SAR: inline for a constant amount, else by helper.
    Shift(Op, Helper),
    /// BYTE and SIGNEXTEND: inline for a constant index, else by helper.
    Indexed(Op, Helper),
    /// A word computed by a helper that can not fail.
    Pure(Helper),
    /// MLOAD.
    Mload,
    /// MSTORE, MSTORE8.
    Mstore(Op),
    /// CALLDATALOAD.
    Calldataload,
    /// A word of the frame's environment that a single IR operation reads.
    Environment(Op),
    /// GAS.
    Gas,
    /// A word computed by a guarded helper.
    GuardedValue(Helper),
    /// A guarded helper that leaves no word.
    GuardedEffect(Helper),
    /// Run by an instruction helper, from and to the canonical state.
    Instruction(Helper),
    /// JUMP.
    Jump,
    /// JUMPI.
    Jumpi,
    /// STOP.
    Stop,
    /// RETURN.
    Return,
    /// REVERT.
    Revert,
    /// Run by the interpreter; compiled code can be entered again behind it.
    Suspend,
    /// Run by the interpreter; nothing comes behind it.
    End,
    /// Not an opcode of revm: run by the interpreter, nothing comes behind it.
    Unknown,
}

impl Lowering {
    /// Whether a block ends with this opcode.
    pub const fn ends_block(self) -> bool {
        matches!(
            self,
            Self::Jump
                | Self::Jumpi
                | Self::Stop
                | Self::Return
                | Self::Revert
                | Self::Suspend
                | Self::End
                | Self::Unknown
        )
    }
}

/// The slow way of an opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    /// Through the instruction table of the EVM.
    Table,
    /// One operation on its operands, whatever they are.
    Op(Op),
}

/// The slowest way that there is for an opcode which does not end its block; none if its only way is the ordinary
/// one.
pub(crate) const fn slow_path(lowering: Lowering) -> Option<Slow> {
    match lowering {
        Lowering::Binary(Op::Mul) => Some(Slow::Op(Op::Pure(Helper::Mul))),
        Lowering::Binary(op) => Some(Slow::Op(op)),
        Lowering::Compare(cond) => Some(Slow::Op(Op::Set(cond))),
        Lowering::Not => Some(Slow::Op(Op::Not)),
        Lowering::Shift(_, helper) | Lowering::Indexed(_, helper) | Lowering::Pure(helper) => {
            Some(Slow::Op(Op::Pure(helper)))
        }
        Lowering::Mload
        | Lowering::Mstore(_)
        | Lowering::Calldataload
        | Lowering::GuardedValue(_)
        | Lowering::GuardedEffect(_)
        | Lowering::Instruction(_) => Some(Slow::Table),
        Lowering::Push
        | Lowering::Dup(_)
        | Lowering::Swap(_)
        | Lowering::Dupn
        | Lowering::Swapn
        | Lowering::Exchange
        | Lowering::Pop
        | Lowering::Jumpdest
        | Lowering::Pc
        | Lowering::Codesize
        | Lowering::Iszero
        | Lowering::Environment(_)
        | Lowering::Gas
        | Lowering::Jump
        | Lowering::Jumpi
        | Lowering::Stop
        | Lowering::Return
        | Lowering::Revert
        | Lowering::Suspend
        | Lowering::End
        | Lowering::Unknown => None,
    }
}

macro_rules! rows {
    ($($opcode:ident => $lowering:expr;)*) => {
        /// The row of every opcode.
        pub const LOWERING: [Lowering; 256] = {
            let mut table = [Lowering::Unknown; 256];
            $(
                assert!(matches!(table[op::$opcode as usize], Lowering::Unknown), "two rows");
                table[op::$opcode as usize] = $lowering;
            )*
            let mut opcode = op::PUSH0 as usize;
            while opcode <= op::PUSH32 as usize {
                table[opcode] = Lowering::Push;
                opcode += 1;
            }
            let mut depth = 1;
            while depth <= 16 {
                table[op::DUP1 as usize + depth - 1] = Lowering::Dup(depth as u8);
                table[op::SWAP1 as usize + depth - 1] = Lowering::Swap(depth as u8);
                depth += 1;
            }
            table
        };
    };
}

use Lowering as L;

rows! {
    STOP => L::Stop;
    ADD => L::Binary(Op::Add);
    MUL => L::Binary(Op::Mul);
    SUB => L::Binary(Op::Sub);
    DIV => L::Pure(Helper::Div);
    SDIV => L::Pure(Helper::Sdiv);
    MOD => L::Pure(Helper::Rem);
    SMOD => L::Pure(Helper::Smod);
    ADDMOD => L::Pure(Helper::Addmod);
    MULMOD => L::Pure(Helper::Mulmod);
    EXP => L::GuardedValue(Helper::Exp);
    SIGNEXTEND => L::Indexed(Op::SignextendImm, Helper::Signextend);
    LT => L::Compare(Cond::Ult);
    GT => L::Compare(Cond::Ugt);
    SLT => L::Compare(Cond::Slt);
    SGT => L::Compare(Cond::Sgt);
    EQ => L::Compare(Cond::Eq);
    ISZERO => L::Iszero;
    AND => L::Binary(Op::And);
    OR => L::Binary(Op::Or);
    XOR => L::Binary(Op::Xor);
    NOT => L::Not;
    BYTE => L::Indexed(Op::ByteImm, Helper::Byte);
    SHL => L::Shift(Op::ShlImm, Helper::Shl);
    SHR => L::Shift(Op::ShrImm, Helper::Shr);
    SAR => L::Shift(Op::SarImm, Helper::Sar);
    CLZ => L::Pure(Helper::Clz);
    KECCAK256 => L::GuardedValue(Helper::Keccak256);
    ADDRESS => L::Environment(Op::Address);
    BALANCE => L::Instruction(Helper::Instruction);
    ORIGIN => L::Instruction(Helper::Instruction);
    CALLER => L::Environment(Op::Caller);
    CALLVALUE => L::Environment(Op::CallValue);
    CALLDATALOAD => L::Calldataload;
    CALLDATASIZE => L::Environment(Op::Calldatasize);
    CALLDATACOPY => L::GuardedEffect(Helper::Calldatacopy);
    CODESIZE => L::Codesize;
    CODECOPY => L::GuardedEffect(Helper::Codecopy);
    GASPRICE => L::Instruction(Helper::Instruction);
    EXTCODESIZE => L::Instruction(Helper::Instruction);
    EXTCODECOPY => L::Instruction(Helper::Instruction);
    RETURNDATASIZE => L::Environment(Op::Returndatasize);
    RETURNDATACOPY => L::GuardedEffect(Helper::Returndatacopy);
    EXTCODEHASH => L::Instruction(Helper::Instruction);
    BLOCKHASH => L::Instruction(Helper::Instruction);
    COINBASE => L::Instruction(Helper::Instruction);
    TIMESTAMP => L::Instruction(Helper::Instruction);
    NUMBER => L::Instruction(Helper::Instruction);
    DIFFICULTY => L::Instruction(Helper::Instruction);
    GASLIMIT => L::Instruction(Helper::Instruction);
    CHAINID => L::Instruction(Helper::Instruction);
    SELFBALANCE => L::Instruction(Helper::Instruction);
    BASEFEE => L::Instruction(Helper::Instruction);
    BLOBHASH => L::Instruction(Helper::Instruction);
    BLOBBASEFEE => L::Instruction(Helper::Instruction);
    SLOTNUM => L::Instruction(Helper::Instruction);
    POP => L::Pop;
    MLOAD => L::Mload;
    MSTORE => L::Mstore(Op::Mstore);
    MSTORE8 => L::Mstore(Op::Mstore8);
    SLOAD => L::GuardedValue(Helper::Sload);
    SSTORE => L::Instruction(Helper::Sstore);
    JUMP => L::Jump;
    JUMPI => L::Jumpi;
    PC => L::Pc;
    MSIZE => L::Environment(Op::Msize);
    GAS => L::Gas;
    JUMPDEST => L::Jumpdest;
    TLOAD => L::GuardedValue(Helper::Tload);
    TSTORE => L::GuardedEffect(Helper::Tstore);
    MCOPY => L::GuardedEffect(Helper::Mcopy);
    LOG0 => L::Instruction(Helper::Log);
    LOG1 => L::Instruction(Helper::Log);
    LOG2 => L::Instruction(Helper::Log);
    LOG3 => L::Instruction(Helper::Log);
    LOG4 => L::Instruction(Helper::Log);
    DUPN => L::Dupn;
    SWAPN => L::Swapn;
    EXCHANGE => L::Exchange;
    CREATE => L::Suspend;
    CALL => L::Suspend;
    CALLCODE => L::Suspend;
    RETURN => L::Return;
    DELEGATECALL => L::Suspend;
    CREATE2 => L::Suspend;
    STATICCALL => L::Suspend;
    REVERT => L::Revert;
    INVALID => L::End;
    SELFDESTRUCT => L::End;
}

const _: () = {
    let mut opcode = 0;
    while opcode < 256 {
        let known = OPCODE_INFO[opcode].is_some();
        let row = !matches!(LOWERING[opcode], Lowering::Unknown);
        assert!(known == row, "an opcode without a row, or a row without an opcode");
        opcode += 1;
    }
};

/// The first fork in which an opcode of revm does not end in `NotActivated` (`OpcodeNotFound` is for
/// bytes that are no opcode). What is not listed is there from Frontier on. Source: the `check!` in
/// the bodies of `revm_interpreter::instructions`.
pub const fn activated_in(opcode: u8) -> SpecId {
    match opcode {
        op::DELEGATECALL => HOMESTEAD,
        op::REVERT | op::STATICCALL | op::RETURNDATASIZE | op::RETURNDATACOPY => BYZANTIUM,
        op::SHL | op::SHR | op::SAR | op::EXTCODEHASH | op::CREATE2 => PETERSBURG,
        op::CHAINID | op::SELFBALANCE => ISTANBUL,
        op::BASEFEE => LONDON,
        op::PUSH0 => SHANGHAI,
        op::MCOPY | op::TLOAD | op::TSTORE | op::BLOBHASH | op::BLOBBASEFEE => CANCUN,
        op::CLZ => OSAKA,
        op::DUPN | op::SWAPN | op::EXCHANGE | op::SLOTNUM => AMSTERDAM,
        _ => FRONTIER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_unknown_bytes_end_blocks() {
        assert!(LOWERING[op::CALL as usize].ends_block());
        assert!(LOWERING[0x0c].ends_block());
        assert!(!LOWERING[op::SSTORE as usize].ends_block());
    }
}
