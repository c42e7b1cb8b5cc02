//! Statements that call and create: other contracts, precompiles, code made on the spot, and functions of the
//! program itself.

use super::{Function, Label, Program, precompiles};
use crate::generate::{SELECTORS, contract_address, values};
use revm::bytecode::opcode as op;
use revm::primitives::{U256, hardfork::SpecId};

/// Functions of one program.
const FUNCTIONS_MAX: usize = 6;

impl Program<'_, '_> {
    /// Pushes an address worth asking: a contract of the case, a precompile, nothing, anything.
    pub(super) fn address(&mut self) {
        match self.choices.below(10) {
            0..=5 => {
                // Mostly one that comes behind this one: calls that go round burn all gas.
                let first = if self.choices.chance(90) { self.nth + 1 } else { 0 };
                let n = first + self.choices.below((self.contracts + 3).saturating_sub(first));
                self.push(U256::from_be_slice(contract_address(n).as_slice()));
            }
            6..=7 => {
                let precompile = self.choices.pick(&[1, 2, 3, 4, 4, 5, 6, 9, 10, 0x100]);
                self.push_small(precompile);
            }
            8 => self.op(op::CALLER, 0, 1),
            _ => {
                let value = values::word(self.choices);
                self.push(value);
            }
        }
    }

    /// One of the four calls; half of the time to a contract of the case with calldata it knows.
    pub(super) fn call(&mut self) {
        let homestead = self.spec.is_enabled_in(SpecId::HOMESTEAD);
        let byzantium = self.spec.is_enabled_in(SpecId::BYZANTIUM);
        let opcode = match self.choices.below(8) {
            0 => op::CALLCODE,
            1 | 2 if homestead => op::DELEGATECALL,
            3 | 4 if byzantium => op::STATICCALL,
            _ => op::CALL,
        };
        if self.choices.chance(30) {
            let selector = self.choices.pick(&SELECTORS);
            self.push(U256::from(selector) << 224);
            self.push_small(0);
            self.op(op::MSTORE, 2, 0);
        }
        self.range();
        self.range();
        if matches!(opcode, op::CALL | op::CALLCODE) {
            let value = self.choices.pick(&[0, 0, 0, 1, 1_000_000]);
            self.push_small(value);
        }
        self.address();
        match self.choices.below(4) {
            0 => self.op(op::GAS, 0, 1),
            1 => self.push(U256::MAX),
            2 => self.push_small(2300),
            _ => {
                let gas = 100 * self.choices.below(1000);
                self.push_small(gas);
            }
        }
        let pops = if matches!(opcode, op::CALL | op::CALLCODE) { 7 } else { 6 };
        self.op(opcode, pops, 1);
        self.behind_call();
    }

    /// What programs do with what a call left: nothing, copy the return data, or fail with it.
    fn behind_call(&mut self) {
        if !self.spec.is_enabled_in(SpecId::BYZANTIUM) || self.choices.chance(50) {
            return;
        }
        if self.choices.chance(40) {
            return self.copy_returndata();
        }
        let over = self.label();
        self.op(op::DUP1, 1, 2);
        self.push_label(over);
        self.op(op::JUMPI, 2, 0);
        self.copy_returndata();
        if self.choices.chance(30) {
            self.op(op::RETURNDATASIZE, 0, 1);
            self.push_small(0);
            self.op(op::REVERT, 2, 0);
        }
        self.place(over);
    }

    fn copy_returndata(&mut self) {
        self.op(op::RETURNDATASIZE, 0, 1);
        self.push_small(0);
        self.push_small(0);
        self.op(op::RETURNDATACOPY, 3, 0);
    }

    /// A precompile with an input that is good, or was before a byte of it was changed or cut off.
    pub(super) fn precompile(&mut self) {
        let (address, input) = self.choices.pick(precompiles::INPUTS);
        let mut input = input.to_vec();
        if self.choices.chance(30) && !input.is_empty() {
            let at = self.choices.below(input.len());
            input[at] ^= 1 << self.choices.below(8);
        }
        let len = if self.choices.chance(15) { self.choices.below(300) } else { input.len() };
        self.copy_data(input);
        let (room, to) = (self.choices.pick(&[0, 32, 64, 5]), self.choices.pick(&[0, 32, 256]));
        self.push_small(room);
        self.push_small(to);
        self.push_small(len);
        self.push_small(0);
        let is_static = self.spec.is_enabled_in(SpecId::BYZANTIUM) && self.choices.chance(60);
        if !is_static {
            self.push_small(0);
        }
        self.push_small(address.into());
        match self.choices.chance(85) {
            true => self.op(op::GAS, 0, 1),
            false => {
                let gas = self.choices.pick(&[0, 15, 59, 60, 700, 3000, 6900]);
                self.push_small(gas);
            }
        }
        match is_static {
            true => self.op(op::STATICCALL, 6, 1),
            false => self.op(op::CALL, 7, 1),
        }
        self.behind_call();
    }

    /// Puts bytes behind the program, and copies them to the start of memory.
    fn copy_data(&mut self, bytes: Vec<u8>) {
        let len = bytes.len();
        let data = self.label();
        self.data.push((data, bytes));
        self.push_small(len);
        self.push_label(data);
        self.push_small(0);
        self.op(op::CODECOPY, 3, 0);
    }

    /// Initcode in memory: returns a program, or some of itself, or reverts, or whatever its bytes do. What
    /// was created is called.
    pub(super) fn create(&mut self) {
        let fixed: [&[u8]; 5] = [
            &[0x60, 0x02, 0x60, 0x00, 0xf3],
            &[0x60, 0x00, 0x60, 0x00, 0xfd],
            &[0x60, 0x5b, 0x60, 0x00, 0x53, 0x60, 0x01, 0x60, 0x00, 0xf3],
            &[0x60, 0xef, 0x60, 0x00, 0x53, 0x60, 0x01, 0x60, 0x00, 0xf3],
            &[0x30, 0xff],
        ];
        let generated = self.may_nest() && self.choices.chance(60);
        let initcode = match generated {
            true => self.initcode(),
            false => self.choices.pick(&fixed).to_vec(),
        };
        let len = initcode.len();
        self.copy_data(initcode);
        let salted = self.spec.is_enabled_in(SpecId::PETERSBURG) && self.choices.chance(50);
        if salted {
            let salt = self.choices.below(3);
            self.push_small(salt);
        }
        let length = if generated { len } else { self.choices.pick(&[len, 32, 0, 100]) };
        self.push_small(length);
        self.push_small(0);
        let value = self.choices.pick(&[0, 0, 0, 1]);
        self.push_small(value);
        match salted {
            true => self.op(op::CREATE2, 4, 1),
            false => self.op(op::CREATE, 3, 1),
        }
        if self.choices.chance(60) {
            // (address) to (address, success).
            for _ in 0..5 {
                self.push_small(0);
            }
            self.op(op::DUP1 + 5, 6, 7);
            self.op(op::GAS, 0, 1);
            self.op(op::CALL, 7, 1);
            self.behind_call();
        }
    }

    /// Statements, then the code that is returned: a small program of its own.
    fn initcode(&mut self) -> Vec<u8> {
        let size = 1 + self.choices.below(5);
        let (nth, contracts) = (self.nth, self.contracts);
        let runtime = Program::nested(self.choices, self.spec, (nth, contracts), size);
        let mut code = Vec::new();
        if self.choices.chance(30) {
            // Storage of the account to be.
            code.extend([op::PUSH1, 1 + self.choices.below(4) as u8, op::PUSH1, 1, op::SSTORE]);
        }
        // codecopy(0, behind this, len), return(0, len)
        let [high, low] = (runtime.len() as u16).to_be_bytes();
        let at = code.len() as u8 + 15;
        code.extend([op::PUSH2, high, low, op::DUP1, op::PUSH1, at, op::PUSH1, 0, op::CODECOPY]);
        code.extend([op::PUSH1, 0, op::DUP2, op::SWAP1, op::RETURN, op::INVALID]);
        code.extend(runtime);
        code
    }

    /// As Solidity begins: the selector, and a function for some values of it.
    pub(super) fn dispatch(&mut self) {
        self.push_small(0);
        self.op(op::CALLDATALOAD, 1, 1);
        if self.spec.is_enabled_in(SpecId::PETERSBURG) {
            self.push_small(224);
            self.op(op::SHR, 2, 1);
        } else {
            self.push(U256::from(1) << 224);
            self.op(op::SWAP1, 2, 2);
            self.op(op::DIV, 2, 1);
        }
        let end = self.label();
        let mut arms = Vec::new();
        for selector in SELECTORS.iter().take(1 + self.choices.below(SELECTORS.len())) {
            let arm = self.label();
            self.op(op::DUP1, 1, 2);
            self.push(U256::from(*selector));
            self.op(op::EQ, 2, 1);
            self.push_label(arm);
            self.op(op::JUMPI, 2, 0);
            arms.push(arm);
        }
        self.push_label(end);
        self.op(op::JUMP, 1, 0);
        let height = self.height;
        self.nesting += 1;
        for arm in arms {
            self.place(arm);
            let count = 1 + self.choices.below(5);
            self.statements(count);
            match self.choices.below(3) {
                0 => {
                    self.settle(height);
                    self.push_label(end);
                    self.op(op::JUMP, 1, 0);
                }
                _ => self.epilogue(),
            }
            self.height = height;
        }
        self.nesting -= 1;
        self.place(end);
    }

    /// As Solidity emits it: return address below the arguments, `JUMP` back by a dynamic jump.
    pub(super) fn internal_call(&mut self) {
        let known = self.functions.len() - self.callable;
        let function = if self.functions.len() < FUNCTIONS_MAX && self.choices.chance(50) {
            let (args, results) = (self.choices.below(4), self.choices.below(3));
            let function = Function { label: self.label(), args, results };
            self.functions.push(function);
            function
        } else if known > 0 {
            self.functions[self.callable + self.choices.below(known)]
        } else {
            return self.arithmetic();
        };
        let back = self.label();
        self.push_label(back);
        for _ in 0..function.args {
            self.push_constant();
        }
        self.push_label(function.label);
        self.op(op::JUMP, function.args + 2, function.results);
        self.place(back);
    }

    /// Bodies of the functions called: (return address, arguments) to (results).
    pub(super) fn functions(&mut self) {
        self.nesting = super::NESTING_MAX - 1;
        // Bodies may call further functions, which come behind them.
        while self.callable < self.functions.len() {
            let Function { label, args, results } = self.functions[self.callable];
            self.callable += 1;
            self.place(label);
            self.height = 1 + args;
            self.floor = 1;
            let count = self.choices.below(4);
            self.statements(count);
            self.settle(1 + results);
            self.floor = 0;
            if results > 0 {
                // The return address from below the results to the top.
                self.op(op::SWAP1 + results as u8 - 1, results + 1, results + 1);
            }
            self.op(op::JUMP, 1, 0);
        }
    }

    /// Bytes behind the program.
    pub(super) fn place_data(&mut self) {
        for (label, bytes) in std::mem::take(&mut self.data) {
            let Label(index) = label;
            self.labels[index] = Some(self.code.len());
            self.code.extend(bytes);
        }
    }
}
