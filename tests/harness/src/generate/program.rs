//! Programs: statements over a stack whose height the generator knows. Emission and control flow
//! are here, what works on data is in [`statements`].

mod statements;

use super::Choices;
use crate::asm::push_word;
use revm::bytecode::opcode as op;
use revm::primitives::{U256, hardfork::SpecId};

/// Statements nested deeper than this are simple ones.
const NESTING_MAX: usize = 3;

#[derive(Clone, Copy)]
struct Label(usize);

/// A program in the making.
pub(super) struct Program<'c, 'a> {
    choices: &'c mut Choices<'a>,
    spec: SpecId,
    /// Which contract this is, and how many there are.
    nth: usize,
    contracts: usize,
    code: Vec<u8>,
    labels: Vec<Option<usize>>,
    uses: Vec<(usize, Label)>,
    /// Words on the stack, as far as the program keeps to its structure.
    height: usize,
    nesting: usize,
    functions: Vec<Label>,
    /// Functions before this one are not called any more: no recursion.
    callable: usize,
}

/// Functions of one program.
const FUNCTIONS_MAX: usize = 6;

/// The fork from which on an opcode is activated, as far as it is not all of them.
fn activated_in(opcode: u8) -> SpecId {
    match opcode {
        op::DELEGATECALL => SpecId::HOMESTEAD,
        op::REVERT | op::STATICCALL | op::RETURNDATASIZE | op::RETURNDATACOPY => SpecId::BYZANTIUM,
        op::SHL | op::SHR | op::SAR | op::EXTCODEHASH | op::CREATE2 => SpecId::PETERSBURG,
        op::CHAINID | op::SELFBALANCE => SpecId::ISTANBUL,
        op::BASEFEE => SpecId::LONDON,
        op::PUSH0 => SpecId::SHANGHAI,
        op::MCOPY | op::TLOAD | op::TSTORE | op::BLOBHASH | op::BLOBBASEFEE => SpecId::CANCUN,
        op::CLZ => SpecId::OSAKA,
        op::DUPN | op::SWAPN | op::EXCHANGE | op::SLOTNUM => SpecId::AMSTERDAM,
        _ => SpecId::FRONTIER,
    }
}

impl<'c, 'a> Program<'c, 'a> {
    /// A program of about `size` statements for the `nth` of a case's contracts.
    pub(super) fn generate(
        choices: &'c mut Choices<'a>,
        spec: SpecId,
        (nth, contracts): (usize, usize),
        size: usize,
    ) -> Vec<u8> {
        let mut program = Self {
            choices,
            spec,
            nth,
            contracts,
            code: Vec::new(),
            labels: Vec::new(),
            uses: Vec::new(),
            height: 0,
            nesting: 0,
            functions: Vec::new(),
            callable: 0,
        };
        program.statements(size);
        program.epilogue();
        program.functions();
        program.link()
    }

    fn statements(&mut self, count: usize) {
        for _ in 0..count {
            if self.choices.is_exhausted() {
                return;
            }
            self.statement();
        }
    }

    fn statement(&mut self) {
        match self.choices.below(100) {
            0..=9 => self.push_constant(),
            10..=29 => self.arithmetic(),
            30..=41 => self.shuffle(),
            42..=53 => self.memory(),
            54..=57 => self.nullary(),
            58..=61 => self.copy(),
            62..=67 => self.storage(),
            68..=69 => self.keccak(),
            70 => self.log(),
            71..=72 => self.account(),
            73..=80 => self.branch(),
            81..=84 => self.repeat(),
            85..=88 => self.internal_call(),
            89..=90 => self.computed_jump(),
            91..=94 => self.call(),
            95 => self.create(),
            96 => self.leave(),
            97 => self.stack_extremes(),
            98 => self.hidden_jumpdest(),
            _ if self.choices.chance(25) => self.noise(),
            _ => self.pattern(),
        }
    }

    // Emission.

    fn op(&mut self, opcode: u8, pops: usize, pushes: usize) {
        self.need(pops);
        self.code.push(opcode);
        self.height = self.height - pops + pushes;
    }

    /// An opcode that not all forks have: nearly always only where it is activated.
    fn op_of_fork(&mut self, opcode: u8, pops: usize, pushes: usize) {
        if self.spec.is_enabled_in(activated_in(opcode)) || self.choices.below(200) == 199 {
            return self.op(opcode, pops, pushes);
        }
        self.need(pops);
        for _ in 0..pops {
            self.op(op::POP, 1, 0);
        }
        for _ in 0..pushes {
            self.push_constant();
        }
    }

    fn push(&mut self, value: U256) {
        let has_push0 = self.spec.is_enabled_in(SpecId::SHANGHAI);
        if value.is_zero() && has_push0 && !self.choices.chance(10) {
            self.code.push(op::PUSH0);
        } else if self.choices.chance(3) {
            self.code.push(op::PUSH32);
            self.code.extend(value.to_be_bytes::<32>());
        } else {
            push_word(&mut self.code, value);
        }
        self.height += 1;
    }

    fn push_small(&mut self, value: usize) {
        self.push(U256::from(value));
    }

    /// Pushes until the stack holds `words`; rarely does not, so that programs underflow.
    fn need(&mut self, words: usize) {
        while self.height < words {
            if self.choices.below(1000) == 999 {
                self.height = words;
                return;
            }
            self.push_constant();
        }
    }

    fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
        self.code.push(op::JUMPDEST);
    }

    fn push_label(&mut self, label: Label) {
        self.code.push(op::PUSH2);
        self.uses.push((self.code.len(), label));
        self.code.extend([0, 0]);
        self.height += 1;
    }

    fn link(mut self) -> Vec<u8> {
        for (at, label) in self.uses {
            let target = self.labels[label.0].unwrap_or_default() as u16;
            self.code[at..at + 2].copy_from_slice(&target.to_be_bytes());
        }
        self.code
    }

    // Statements.

    /// Pushes a condition: mostly a comparison, sometimes any word, sometimes a constant.
    fn condition(&mut self) {
        match self.choices.below(8) {
            0 => self.push_constant(),
            1 => self.need(1),
            _ => {
                self.need(2);
                let shape = self.choices.below(3);
                if shape > 0 && self.height < 1000 {
                    self.op(op::DUP2, 2, 3);
                    self.op(op::DUP2, 2, 3);
                }
                let opcode = self.choices.pick(&[op::LT, op::GT, op::SLT, op::SGT, op::EQ]);
                self.op(opcode, 2, 1);
                for _ in 0..self.choices.pick(&[0, 0, 1, 2]) {
                    self.op(op::ISZERO, 1, 1);
                }
            }
        }
    }

    fn branch(&mut self) {
        if self.nesting >= NESTING_MAX {
            return self.arithmetic();
        }
        self.nesting += 1;
        let (other, end) = (self.label(), self.label());
        self.condition();
        self.push_label(other);
        self.op(op::JUMPI, 2, 0);
        let height = self.height;
        let count = 1 + self.choices.below(3);
        self.statements(count);
        self.settle(height);
        if self.choices.chance(50) {
            self.push_label(end);
            self.op(op::JUMP, 1, 0);
        }
        self.place(other);
        let count = self.choices.below(3);
        self.statements(count);
        self.settle(height);
        self.place(end);
        self.nesting -= 1;
    }

    /// Brings the stack to a height; rarely leaves it, so that blocks are entered at several.
    fn settle(&mut self, height: usize) {
        if self.choices.below(300) == 299 {
            self.height = height;
            return;
        }
        while self.height > height {
            self.op(op::POP, 1, 0);
        }
        while self.height < height {
            self.push_constant();
        }
    }

    fn repeat(&mut self) {
        if self.nesting >= NESTING_MAX - 1 {
            return self.memory();
        }
        self.nesting += 1;
        let head = self.label();
        let times = 1 + self.choices.below(6);
        self.push_small(times);
        self.place(head);
        let height = self.height;
        let count = 1 + self.choices.below(4);
        self.statements(count);
        self.settle(height);
        self.push_small(1);
        self.op(op::SWAP1, 2, 2);
        self.op(op::SUB, 2, 1);
        self.op(op::DUP1, 1, 2);
        self.push_label(head);
        self.op(op::JUMPI, 2, 0);
        self.op(op::POP, 1, 0);
        self.nesting -= 1;
    }

    /// As Solidity emits it: return address below the arguments, `JUMP` back by a dynamic jump.
    fn internal_call(&mut self) {
        let known = self.functions.len() - self.callable;
        let function = if self.functions.len() < FUNCTIONS_MAX && self.choices.chance(50) {
            let label = self.label();
            self.functions.push(label);
            label
        } else if known > 0 {
            self.functions[self.callable + self.choices.below(known)]
        } else {
            return self.arithmetic();
        };
        let back = self.label();
        self.push_label(back);
        self.push_constant();
        self.push_label(function);
        self.op(op::JUMP, 3, 1);
        self.place(back);
    }

    /// Bodies of the functions called: (return address, argument) to (result).
    fn functions(&mut self) {
        self.nesting = NESTING_MAX - 1;
        // Bodies may call further functions, which come behind them.
        while self.callable < self.functions.len() {
            let label = self.functions[self.callable];
            self.callable += 1;
            self.place(label);
            self.height = 2;
            let count = self.choices.below(4);
            self.statements(count);
            self.settle(2);
            self.op(op::SWAP1, 2, 2);
            self.op(op::JUMP, 1, 0);
        }
    }

    fn computed_jump(&mut self) {
        let label = self.label();
        let opcode = self.choices.pick(&[op::ADD, op::XOR, op::OR, op::MUL]);
        let neutral = if opcode == op::MUL { 1 } else { 0 };
        self.push_label(label);
        if self.choices.chance(40) {
            // Not known at compile time: calldata behind its end is zero.
            self.push_small(10_000);
            self.op(op::CALLDATALOAD, 1, 1);
            if neutral == 1 {
                self.op(op::ISZERO, 1, 1);
            }
        } else {
            self.push_small(neutral);
        }
        self.op(opcode, 2, 1);
        if self.choices.below(100) == 99 {
            // All 256 bits count.
            self.push(U256::from(1) << 64);
            self.op(op::OR, 2, 1);
        }
        self.op(op::JUMP, 1, 0);
        if self.choices.chance(50) {
            self.hidden_jumpdest();
            self.height = self.height.saturating_sub(1);
        }
        self.place(label);
    }

    /// Ends the frame in one arm of a branch.
    fn leave(&mut self) {
        let over = self.label();
        self.condition();
        self.push_label(over);
        self.op(op::JUMPI, 2, 0);
        let height = self.height;
        match self.choices.below(8) {
            0 => self.op(op::STOP, 0, 0),
            1 => {
                self.range();
                self.op(op::RETURN, 2, 0);
            }
            2 => {
                self.range();
                self.op(op::REVERT, 2, 0);
            }
            3 => self.op(op::INVALID, 0, 0),
            4 => {
                self.address();
                self.op(op::SELFDESTRUCT, 1, 0);
            }
            5 => {
                self.push_constant();
                self.op(op::JUMP, 1, 0);
            }
            6 => self.code.push(0x0c),
            _ => self.op(op::POP, 0, 0),
        }
        self.height = height;
        self.place(over);
    }

    /// A JUMPDEST byte inside of push data.
    fn hidden_jumpdest(&mut self) {
        self.code.extend([op::PUSH2, op::JUMPDEST, op::JUMPDEST]);
        self.height += 1;
    }

    /// Returns the words on the stack, so that every value is observed.
    fn epilogue(&mut self) {
        let mut words = self.height.min(24);
        if self.choices.chance(10) {
            words = 0;
        }
        for word in 0..words {
            self.push_small(32 * word);
            self.op(op::MSTORE, 2, 0);
        }
        self.push_small(32 * words);
        self.push_small(0);
        let end = self.choices.pick(&[op::RETURN, op::RETURN, op::REVERT, op::STOP]);
        self.op(end, 2, 0);
    }
}
