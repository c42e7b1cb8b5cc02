//! Statements that work on the stack, memory, storage, and other accounts.

use super::Program;
use crate::generate::values;
use revm::bytecode::opcode as op;
use revm::primitives::{U256, hardfork::SpecId};

const UNARY: [u8; 2] = [op::ISZERO, op::NOT];
const BINARY: [u8; 22] = [
    op::ADD,
    op::MUL,
    op::SUB,
    op::DIV,
    op::SDIV,
    op::MOD,
    op::SMOD,
    op::EXP,
    op::SIGNEXTEND,
    op::LT,
    op::GT,
    op::SLT,
    op::SGT,
    op::EQ,
    op::AND,
    op::OR,
    op::XOR,
    op::BYTE,
    op::SHL,
    op::SHR,
    op::SAR,
    op::SUB,
];
const TERNARY: [u8; 2] = [op::ADDMOD, op::MULMOD];
const NULLARY: [u8; 20] = [
    op::ADDRESS,
    op::ORIGIN,
    op::CALLER,
    op::CALLVALUE,
    op::CALLDATASIZE,
    op::CODESIZE,
    op::GASPRICE,
    op::RETURNDATASIZE,
    op::COINBASE,
    op::TIMESTAMP,
    op::NUMBER,
    op::DIFFICULTY,
    op::GASLIMIT,
    op::CHAINID,
    op::SELFBALANCE,
    op::BASEFEE,
    op::BLOBBASEFEE,
    op::PC,
    op::MSIZE,
    op::GAS,
];

impl Program<'_, '_> {
    pub(super) fn push_constant(&mut self) {
        if self.choices.chance(25) {
            // A word that is not known at compile time.
            let offset = self.choices.below(4) * 32;
            self.push_small(offset);
            self.op(op::CALLDATALOAD, 1, 1);
        } else {
            let value = values::word(self.choices);
            self.push(value);
        }
    }

    pub(super) fn arithmetic(&mut self) {
        match self.choices.below(20) {
            0..=2 => {
                let opcode = self.choices.pick(&UNARY);
                self.op(opcode, 1, 1);
            }
            3 => {
                let opcode = self.choices.pick(&TERNARY);
                self.op(opcode, 3, 1);
            }
            4 => self.op_of_fork(op::CLZ, 1, 1),
            5..=9 => {
                let value = values::word(self.choices);
                let opcode = self.choices.pick(&BINARY);
                self.push(value);
                self.op_of_fork(opcode, 2, 1);
            }
            _ => {
                let opcode = self.choices.pick(&BINARY);
                self.op_of_fork(opcode, 2, 1);
            }
        }
    }

    pub(super) fn shuffle(&mut self) {
        let amsterdam = self.spec.is_enabled_in(SpecId::AMSTERDAM);
        match self.choices.below(10) {
            0..=3 => {
                let depth = 1 + self.choices.below(self.height.clamp(1, 16));
                self.op_deep(op::DUP1 + depth as u8 - 1, depth, depth + 1);
            }
            4..=7 => {
                let reach = self.height.saturating_sub(self.floor + 1).clamp(1, 16);
                let depth = 1 + self.choices.below(reach);
                self.op(op::SWAP1 + depth as u8 - 1, depth + 1, depth + 1);
            }
            8 if amsterdam => {
                let opcode = self.choices.pick(&[op::DUPN, op::SWAPN, op::EXCHANGE]);
                let immediate = match opcode {
                    op::EXCHANGE => self.choices.pick(&[0x8e, 0x9d, 0x8d, 0x2f, 0x00, 0x50]),
                    _ => self.choices.pick(&[0x80, 0x81, 0x90, 0x00, 0x5b, 0x5a]),
                };
                self.need(19);
                self.code.extend([opcode, immediate]);
                self.height += (opcode == op::DUPN) as usize;
            }
            _ => self.op(op::POP, 1, 0),
        }
    }

    pub(super) fn memory(&mut self) {
        let opcode = match self.choices.below(10) {
            0..=3 => op::MLOAD,
            4 => op::MSTORE8,
            _ => op::MSTORE,
        };
        // What is stored, before the offset: else that would be what is pushed for want of a word.
        let stored = (opcode != op::MLOAD) as usize;
        if self.choices.chance(10) {
            // An offset that is not known at compile time.
            self.need(stored + 1);
            self.push_small(0xff);
            self.op(op::AND, 2, 1);
        } else {
            self.need(stored);
            let offset = values::offset(self.choices);
            self.push(offset);
        }
        self.op(opcode, 1 + stored, 1 - stored);
    }

    pub(super) fn nullary(&mut self) {
        let opcode = match self.choices.below(5) {
            0 => op::GAS,
            1 if self.spec.is_enabled_in(SpecId::AMSTERDAM) => op::SLOTNUM,
            _ => self.choices.pick(&NULLARY),
        };
        self.op_of_fork(opcode, 0, 1);
    }

    pub(super) fn copy(&mut self) {
        let length = values::length(self.choices);
        let source = values::offset(self.choices);
        let target = values::offset(self.choices);
        let opcode = self.choices.pick(&[
            op::CALLDATACOPY,
            op::CODECOPY,
            op::MCOPY,
            op::RETURNDATACOPY,
            op::EXTCODECOPY,
        ]);
        if opcode == op::RETURNDATACOPY && self.choices.chance(95) {
            // Exactly what is there.
            self.op_of_fork(op::RETURNDATASIZE, 0, 1);
            self.push_small(0);
        } else {
            self.push(length);
            self.push(source);
        }
        self.push(target);
        if opcode == op::EXTCODECOPY {
            self.address();
            self.op(opcode, 4, 0);
        } else {
            self.op_of_fork(opcode, 3, 0);
        }
    }

    pub(super) fn storage(&mut self) {
        if self.choices.chance(80) {
            let key = self.choices.below(5);
            self.push_small(key);
        }
        let transient = self.spec.is_enabled_in(SpecId::CANCUN) && self.choices.chance(25);
        match (self.choices.chance(50), transient) {
            (false, false) => self.op(op::SLOAD, 1, 1),
            (true, false) => self.op(op::SSTORE, 2, 0),
            (false, true) => self.op(op::TLOAD, 1, 1),
            (true, true) => self.op(op::TSTORE, 2, 0),
        }
    }

    pub(super) fn range(&mut self) {
        let length = values::length(self.choices);
        let offset = values::offset(self.choices);
        self.push(length);
        self.push(offset);
    }

    pub(super) fn keccak(&mut self) {
        self.range();
        self.op(op::KECCAK256, 2, 1);
    }

    pub(super) fn log(&mut self) {
        let topics = self.choices.below(5);
        self.need(topics);
        self.range();
        self.op(op::LOG0 + topics as u8, 2 + topics, 0);
    }

    pub(super) fn account(&mut self) {
        let opcode =
            self.choices.pick(&[op::BALANCE, op::EXTCODESIZE, op::EXTCODEHASH, op::BLOCKHASH]);
        if opcode == op::BLOCKHASH {
            let back = self.choices.pick(&[0, 1, 256, 257, 20_000_001]);
            self.push_small(20_000_000 - back.min(20_000_000));
        } else {
            self.address();
        }
        self.op_of_fork(opcode, 1, 1);
        if self.choices.chance(10) {
            let index = self.choices.below(3);
            self.push_small(index);
            self.op_of_fork(op::BLOBHASH, 1, 1);
        }
    }

    /// Many words at once: towards the limit of the stack, or towards its bottom.
    pub(super) fn stack_extremes(&mut self) {
        match self.choices.below(8) {
            0..=2 => {
                let count = self.choices.pick(&[20, 60, 300]);
                self.duplicate(count);
            }
            3 => {
                // Just full, one less, one too many.
                let full = self.choices.pick(&[1023, 1024, 1024, 1024, 1025]);
                self.duplicate(full - self.height.clamp(1, 1000));
            }
            _ => {
                let bottom = if self.choices.chance(90) { self.floor + 2 } else { 0 };
                let count = self.choices.below((self.height + 2).saturating_sub(bottom));
                self.code.extend(std::iter::repeat_n(op::POP, count));
                self.height = self.height.saturating_sub(count);
            }
        }
    }

    fn duplicate(&mut self, count: usize) {
        self.need(1);
        for _ in 0..count {
            self.op(op::DUP1, 1, 2);
        }
    }

    /// Memory from its end on: a word more each time, or as much as gas may just pay for.
    pub(super) fn grow_memory(&mut self) {
        self.need(1);
        self.op(op::MSIZE, 0, 1);
        if self.choices.chance(20) {
            let far = self.choices.pick(&[1 << 10, 1 << 14, 1 << 16, 1 << 18]);
            self.push_small(far);
            self.op(op::ADD, 2, 1);
        }
        let opcode = self.choices.pick(&[op::MSTORE, op::MSTORE, op::MSTORE8]);
        self.op(opcode, 2, 0);
    }

    /// Sequences that compilers of EVM code got wrong before, or treat specially.
    pub(super) fn pattern(&mut self) {
        match self.choices.below(7) {
            0 => self.grow_memory(),
            6 => {
                // Word masks, as Solidity cleans values.
                let bits = self.choices.pick(&[8, 64, 128, 160, 255]);
                self.need(1);
                self.push((U256::from(1) << bits) - U256::from(1));
                self.op(op::AND, 2, 1);
            }
            1 => {
                // Gas seen between static costs.
                self.op(op::GAS, 0, 1);
                self.push_small(0);
                self.op(op::MSTORE, 2, 0);
                self.op(op::GAS, 0, 1);
            }
            2 => {
                // A selector.
                self.push_small(0);
                self.op(op::CALLDATALOAD, 1, 1);
                self.push_small(224);
                self.op_of_fork(op::SHR, 2, 1);
            }
            3 => {
                // The same memory twice in a block, then further up.
                for offset in [64, 0, 96, 64] {
                    self.need(1);
                    self.push_small(offset);
                    self.op(op::MSTORE, 2, 0);
                }
                self.push_small(65);
                self.op(op::MLOAD, 1, 1);
            }
            4 => {
                // A mapping's slot.
                self.need(1);
                self.push_small(0);
                self.op(op::MSTORE, 2, 0);
                self.push_small(64);
                self.push_small(0);
                self.op(op::KECCAK256, 2, 1);
                self.op(op::SLOAD, 1, 1);
            }
            _ => {
                // Words moved round: parallel moves with cycles.
                self.need(4);
                for depth in [2, 1, 3, 2, 3] {
                    self.op(op::SWAP1 + depth - 1, depth as usize + 1, depth as usize + 1);
                }
            }
        }
    }

    pub(super) fn noise(&mut self) {
        let byte = self.choices.below(256) as u8;
        self.code.push(byte);
    }
}
