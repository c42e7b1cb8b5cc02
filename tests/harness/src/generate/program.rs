//! Programs: statements over a stack whose height the generator knows. Emission and control flow
//! are here, what works on data is in [`statements`], loops in [`loops`], frames and functions in [`calls`].

mod calls;
mod loops;
mod precompiles;
mod statements;

use super::Choices;
use crate::asm::push_word;
use revm::bytecode::opcode as op;
use revm::primitives::{U256, hardfork::SpecId};

/// Statements nested deeper than this are simple ones.
const NESTING_MAX: usize = 3;

#[derive(Clone, Copy)]
struct Label(usize);

/// A function of the program.
#[derive(Clone, Copy)]
struct Function {
    label: Label,
    args: usize,
    results: usize,
}

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
    /// Words at the bottom that statements leave alone: loop counters, return addresses.
    floor: usize,
    nesting: usize,
    functions: Vec<Function>,
    /// Functions before this one are not called any more: no recursion.
    callable: usize,
    /// Bytes to come behind the code.
    data: Vec<(Label, Vec<u8>)>,
    /// Whether this is in another program's data.
    is_nested: bool,
}

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
        contracts: (usize, usize),
        size: usize,
    ) -> Vec<u8> {
        let mut program = Self::new(choices, spec, contracts, false);
        if program.choices.chance(25) {
            program.dispatch();
        }
        program.body(size)
    }

    /// The same, for code that a program of that contract creates.
    fn nested(
        choices: &'c mut Choices<'a>,
        spec: SpecId,
        contracts: (usize, usize),
        size: usize,
    ) -> Vec<u8> {
        Self::new(choices, spec, contracts, true).body(size)
    }

    const fn new(
        choices: &'c mut Choices<'a>,
        spec: SpecId,
        (nth, contracts): (usize, usize),
        is_nested: bool,
    ) -> Self {
        Self {
            choices,
            spec,
            nth,
            contracts,
            code: Vec::new(),
            labels: Vec::new(),
            uses: Vec::new(),
            height: 0,
            floor: 0,
            nesting: 0,
            functions: Vec::new(),
            callable: 0,
            data: Vec::new(),
            is_nested,
        }
    }

    fn body(mut self, size: usize) -> Vec<u8> {
        self.statements(size);
        self.epilogue();
        self.functions();
        self.place_data();
        self.link()
    }

    /// Whether it may make programs of its own.
    const fn may_nest(&self) -> bool {
        !self.is_nested
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
        match self.choices.below(200) {
            0..=19 => self.push_constant(),
            20..=59 => self.arithmetic(),
            60..=83 => self.shuffle(),
            84..=107 => self.memory(),
            108..=115 => self.nullary(),
            116..=123 => self.copy(),
            124..=134 => self.storage(),
            135..=138 => self.keccak(),
            139..=140 => self.log(),
            141..=144 => self.account(),
            145..=159 => self.branch(),
            160..=167 => self.repeat(),
            168..=175 => self.internal_call(),
            176..=179 => self.computed_jump(),
            180..=185 => self.call(),
            186..=187 => self.precompile(),
            188..=189 => self.create(),
            190..=191 => self.leave(),
            192 => self.stack_extremes(),
            193..=194 => self.hidden_jumpdest(),
            195 if self.choices.chance(25) => self.noise(),
            196 if self.choices.chance(40) => self.long_loop(),
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

    /// DUP or SWAP, which may reach below the floor.
    fn op_deep(&mut self, opcode: u8, pops: usize, pushes: usize) {
        let floor = std::mem::take(&mut self.floor);
        self.op(opcode, pops, pushes);
        self.floor = floor;
    }

    /// Pushes until there are so many words above the floor; rarely does not, so that programs underflow.
    fn need(&mut self, words: usize) {
        let floor = if self.floor > 0 && self.choices.below(400) == 399 { 0 } else { self.floor };
        let words = floor + words;
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

    /// Statements that leave alone what is on the stack, and leave nothing there.
    fn statements_above(&mut self, count: usize) {
        let height = self.height;
        let floor = std::mem::replace(&mut self.floor, height);
        self.statements(count);
        self.settle(height);
        self.floor = floor;
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
