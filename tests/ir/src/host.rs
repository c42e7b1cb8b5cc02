//! A toy host: a frame, a plain interpreter of it, and the frame as compiled code sees it.
//!
//! The host's effects depend on the gas they observe, and some are refused by compiled code, so that
//! exits, fixups, `gas_back` and `rest` are all on the path.

use kiln_abi::{ExitId, ExitKind, ExitTable, Helper, Pc, STACK_LIMIT, Slot, Source, Word};
use kiln_ir::eval::{Environment, Machine};
use kiln_ir::fold::{from_u256, to_u256};
use kiln_ir::{Cond, Op, decode_dup_swap, decode_exchange, fold};
use revm_bytecode::opcode::OPCODE_INFO;
use revm_primitives::U256;

/// Bytes up to which compiled code may expand memory, and up to which anyone may.
pub const EXPAND_MAX: u64 = 1024;
pub const MEMORY_MAX: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    OutOfGas,
    Stack,
    Memory,
    Jump,
    Invalid,
    Stop,
    Return,
    Revert,
}

/// A frame and its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub code: Vec<u8>,
    pub costs: [u16; 256],
    pub pc: usize,
    pub stack: Vec<Word>,
    pub gas: u64,
    pub memory: Vec<u8>,
    pub effects: Vec<(u8, [Word; 3], u64)>,
}

pub fn word(value: u64) -> Word {
    Word::from_u64(value)
}

impl Frame {
    /// A frame that begins, with an empty stack and no memory.
    pub fn new(code: Vec<u8>, costs: [u16; 256], gas: u64) -> Self {
        let (stack, memory, effects) = Default::default();
        Self { code, costs, pc: 0, stack, gas, memory, effects }
    }

    pub fn opcode(&self) -> u8 {
        self.code.get(self.pc).copied().unwrap_or(0)
    }

    /// Runs one instruction; changes nothing where it halts.
    pub fn step(&mut self) -> Result<(), Halt> {
        let before = self.clone_light();
        let result = self.charge_and_run();
        if result.is_err() {
            (self.pc, self.gas) = (before.0, before.1);
            self.stack = before.2;
        }
        result
    }

    fn clone_light(&self) -> (usize, u64, Vec<Word>) {
        (self.pc, self.gas, self.stack.clone())
    }

    fn charge_and_run(&mut self) -> Result<(), Halt> {
        let opcode = self.opcode();
        let cost = u64::from(self.costs[opcode as usize]);
        self.gas = self.gas.checked_sub(cost).ok_or(Halt::OutOfGas)?;
        self.pc += 1;
        self.body(opcode)
    }

    fn pop(&mut self) -> Result<Word, Halt> {
        self.stack.pop().ok_or(Halt::Stack)
    }

    fn push(&mut self, word: Word) -> Result<(), Halt> {
        if self.stack.len() == STACK_LIMIT {
            return Err(Halt::Stack);
        }
        self.stack.push(word);
        Ok(())
    }

    fn pops<const N: usize>(&mut self) -> Result<[Word; 3], Halt> {
        let mut words = [Word::ZERO; 3];
        for word in &mut words[..N] {
            *word = self.pop()?;
        }
        Ok(words)
    }

    fn expand(&mut self, offset: Word, size: u64, max: u64) -> Result<u64, Halt> {
        let offset = offset.as_u64().filter(|&offset| offset < max).ok_or(Halt::Memory)?;
        let end = (offset + size).next_multiple_of(32);
        if end > max.max(self.memory.len() as u64) {
            return Err(Halt::Memory);
        }
        if end as usize > self.memory.len() {
            self.memory.resize(end as usize, 0);
        }
        Ok(offset)
    }

    /// Something the host does: a word that depends on everything it saw.
    pub fn effect(&mut self, opcode: u8, args: [Word; 3], gas: u64) -> Word {
        self.effects.push((opcode, args, gas));
        let mixed = args.iter().fold(to_u256(word(gas)), |mixed, arg| {
            mixed.wrapping_mul(U256::from(0x1_0000_01b3_u64)) ^ to_u256(*arg)
        });
        from_u256(mixed)
    }

    fn body(&mut self, opcode: u8) -> Result<(), Halt> {
        match opcode {
            0x01..=0x0b | 0x10..=0x1e => self.arithmetic(opcode),
            0x20 | 0x54 | 0x5c | 0x37 | 0x39 | 0x3e | 0x5e | 0x5d | 0x55 | 0x42 | 0xa0 | 0xa1
            | 0xf1 => self.host(opcode),
            0x30 | 0x33 | 0x34 | 0x36 | 0x3d | 0x38 | 0x58..=0x5a => self.environment(opcode),
            0x35 => {
                let offset = self.pop()?;
                self.push(calldata(offset))
            }
            0x31 | 0x32 | 0x3a..=0x3c | 0x3f..=0x41 | 0x43..=0x4b | 0xa2..=0xa4 => {
                self.table(opcode)
            }
            0x50 => self.pop().map(|_| ()),
            0x51..=0x53 => self.memory(opcode),
            0x56 | 0x57 => self.jump(opcode),
            0x5b => Ok(()),
            0x5f..=0x7f => self.push_data(usize::from(opcode - 0x5f)),
            0x80..=0x8f => {
                let depth = usize::from(opcode - 0x7f);
                let at = self.stack.len().checked_sub(depth).ok_or(Halt::Stack)?;
                self.push(self.stack[at])
            }
            0x90..=0x9f => {
                let top = self.stack.len().checked_sub(1).ok_or(Halt::Stack)?;
                let at = top.checked_sub(usize::from(opcode - 0x8f)).ok_or(Halt::Stack)?;
                self.stack.swap(top, at);
                Ok(())
            }
            0xe6..=0xe8 => self.deep(opcode),
            0x00 => Err(Halt::Stop),
            0xf3 | 0xfd => {
                let [offset, len, _] = self.pops::<2>()?;
                self.effect(opcode, [offset, len, Word::ZERO], self.gas);
                Err(if opcode == 0xf3 { Halt::Return } else { Halt::Revert })
            }
            _ => Err(Halt::Invalid),
        }
    }

    /// DUPN, SWAPN, EXCHANGE. An immediate that is cut off is 0.
    fn deep(&mut self, opcode: u8) -> Result<(), Halt> {
        let immediate = self.code.get(self.pc).copied().unwrap_or(0);
        self.pc += 1;
        let (near, far) = match opcode {
            0xe8 => decode_exchange(immediate).ok_or(Halt::Invalid)?,
            _ => (0, decode_dup_swap(immediate).ok_or(Halt::Invalid)?),
        };
        let top = self.stack.len().checked_sub(1).ok_or(Halt::Stack)?;
        let at = |depth: u16| top.checked_sub(usize::from(depth)).ok_or(Halt::Stack);
        if opcode == 0xe6 {
            return self.push(self.stack[at(far - 1)?]);
        }
        self.stack.swap(at(near)?, at(far)?);
        Ok(())
    }

    fn arithmetic(&mut self, opcode: u8) -> Result<(), Halt> {
        let pure = |helper| (Op::Pure(helper), 2);
        let (op, count) = match opcode {
            0x01 => (Op::Add, 2),
            0x02 => (Op::Mul, 2),
            0x03 => (Op::Sub, 2),
            0x04 => pure(Helper::Div),
            0x05 => pure(Helper::Sdiv),
            0x06 => pure(Helper::Rem),
            0x07 => pure(Helper::Smod),
            0x08 => (Op::Pure(Helper::Addmod), 3),
            0x09 => (Op::Pure(Helper::Mulmod), 3),
            0x0a => return self.host(opcode),
            0x0b => pure(Helper::Signextend),
            0x10 => (Op::Set(Cond::Ult), 2),
            0x11 => (Op::Set(Cond::Ugt), 2),
            0x12 => (Op::Set(Cond::Slt), 2),
            0x13 => (Op::Set(Cond::Sgt), 2),
            0x14 => (Op::Set(Cond::Eq), 2),
            0x15 => (Op::Set(Cond::Eq), 1),
            0x16 => (Op::And, 2),
            0x17 => (Op::Or, 2),
            0x18 => (Op::Xor, 2),
            0x19 => (Op::Not, 1),
            0x1a => pure(Helper::Byte),
            0x1b => pure(Helper::Shl),
            0x1c => pure(Helper::Shr),
            0x1d => pure(Helper::Sar),
            _ => (Op::Pure(Helper::Clz), 1),
        };
        let [a, b, c] = match count {
            1 => self.pops::<1>()?,
            2 => self.pops::<2>()?,
            _ => self.pops::<3>()?,
        };
        self.push(match op {
            Op::Pure(helper) => fold::pure(helper, a, b, c),
            op => fold::binary(op, a, b, 0).expect("a data operation"),
        })
    }

    fn host(&mut self, opcode: u8) -> Result<(), Halt> {
        let (args, pushes) = match opcode {
            0x42 => (self.pops::<0>()?, true),
            0x54 | 0x5c => (self.pops::<1>()?, true),
            0x0a | 0x20 => (self.pops::<2>()?, true),
            0x55 | 0x5d | 0xa0 => (self.pops::<2>()?, false),
            0xf1 => {
                self.pops::<3>()?;
                self.pops::<3>()?;
                (self.pops::<1>()?, true)
            }
            _ => (self.pops::<3>()?, false),
        };
        let result = self.effect(opcode, args, self.gas);
        if pushes { self.push(result) } else { Ok(()) }
    }

    /// Any other instruction of the host.
    fn table(&mut self, opcode: u8) -> Result<(), Halt> {
        let info = OPCODE_INFO[opcode as usize].ok_or(Halt::Invalid)?;
        let mut args = [Word::ZERO; 3];
        for index in 0..usize::from(info.inputs()) {
            args[index % 3] = self.pop()?;
        }
        let result = self.effect(opcode, args, self.gas);
        if info.outputs() == 0 { Ok(()) } else { self.push(result) }
    }

    fn environment(&mut self, opcode: u8) -> Result<(), Halt> {
        let value = match opcode {
            0x30 => environment(Environment::Address, self),
            0x33 => environment(Environment::Caller, self),
            0x34 => environment(Environment::CallValue, self),
            0x36 => environment(Environment::Calldatasize, self),
            0x3d => environment(Environment::Returndatasize, self),
            0x38 => word(self.code.len() as u64),
            0x58 => word(self.pc as u64 - 1),
            0x59 => environment(Environment::Msize, self),
            _ => word(self.gas),
        };
        self.push(value)
    }

    fn memory(&mut self, opcode: u8) -> Result<(), Halt> {
        let offset = self.pop()?;
        if opcode == 0x51 {
            let at = self.expand(offset, 32, MEMORY_MAX)?;
            return self.push(self.load(at));
        }
        let value = self.pop()?;
        let at = self.expand(offset, if opcode == 0x52 { 32 } else { 1 }, MEMORY_MAX)?;
        match opcode {
            0x52 => self.store(at, value),
            _ => self.memory[at as usize] = value.0[0] as u8,
        }
        Ok(())
    }

    fn load(&self, at: u64) -> Word {
        from_u256(U256::from_be_slice(&self.memory[at as usize..][..32]))
    }

    fn store(&mut self, at: u64, value: Word) {
        self.memory[at as usize..][..32].copy_from_slice(&to_u256(value).to_be_bytes::<32>());
    }

    fn jump(&mut self, opcode: u8) -> Result<(), Halt> {
        let dest = self.pop()?;
        if opcode == 0x57 && self.pop()?.is_zero() {
            return Ok(());
        }
        let dest = dest.as_u64().filter(|&dest| is_jumpdest(&self.code, dest)).ok_or(Halt::Jump)?;
        self.pc = dest as usize;
        Ok(())
    }

    fn push_data(&mut self, len: usize) -> Result<(), Halt> {
        let data = |index: usize| self.code.get(self.pc + index).copied().unwrap_or(0);
        let bytes: Vec<u8> = (0..len).map(data).collect();
        self.pc += len;
        self.push(from_u256(U256::from_be_slice(&bytes)))
    }
}

fn is_jumpdest(code: &[u8], dest: u64) -> bool {
    let mut pc = 0;
    while (pc as u64) < dest && pc < code.len() {
        pc += if (0x60..0x80).contains(&code[pc]) { usize::from(code[pc]) - 0x5e } else { 1 };
    }
    pc as u64 == dest && code.get(pc) == Some(&0x5b)
}

fn calldata(offset: Word) -> Word {
    from_u256(to_u256(offset).wrapping_mul(U256::from(31)))
}

fn environment(what: Environment, frame: &Frame) -> Word {
    match what {
        Environment::Address => word(0xadd),
        Environment::Caller => word(0xca11),
        Environment::CallValue => Word([0, 1, 2, 3]),
        Environment::Calldatasize => word(4),
        Environment::Returndatasize => word(5),
        Environment::Msize => word(frame.memory.len() as u64),
    }
}

/// The frame as compiled code sees it.
pub struct Compiled<'a> {
    pub exits: &'a ExitTable,
    /// Leaders of what may be entered by a computed jump, in the order of the regions.
    pub leaders: &'a [(Pc, bool)],
    pub frame: Frame,
    /// All words a stack may hold; the frame's own stack is stale while this runs.
    pub words: Vec<Word>,
    pub sp: usize,
    /// Back-edges that may be taken until one is not, and then again.
    pub polls: u32,
}

impl<'a> Compiled<'a> {
    /// A frame in front of compiled code with these exits and leaders.
    pub fn new(frame: Frame, exits: &'a ExitTable, leaders: &'a [(Pc, bool)]) -> Self {
        Self { exits, leaders, frame, words: vec![Word::ZERO; STACK_LIMIT], sp: 0, polls: 3 }
    }

    fn at(&self, slot: Slot) -> usize {
        self.sp.checked_add_signed(slot.0.into()).expect("a slot of the stack")
    }

    /// Puts the frame's stack where compiled code works on it.
    pub fn begin(&mut self) {
        self.sp = self.frame.stack.len();
        // Words above are whatever was left there.
        self.words.fill(Word([0xdead; 4]));
        self.words[..self.sp].copy_from_slice(&self.frame.stack);
    }

    pub fn canonical(&mut self, exit: ExitId, gas: u64) {
        let exit = self.exits.exit(exit);
        self.sp = self.sp.checked_add_signed(-isize::from(exit.moved)).expect("the entry pointer");
        let fixups = self.exits.fixups(exit);
        let sources: Vec<Word> = fixups
            .iter()
            .map(|fixup| match fixup.source {
                Source::Slot(slot) => self.word(slot),
                Source::Const(id) => self.exits.pool[id as usize],
            })
            .collect();
        for (fixup, source) in fixups.iter().zip(sources) {
            self.set_word(fixup.slot, source);
        }
        let height = self.at(Slot(exit.height));
        self.frame.stack = self.words[..height].to_vec();
        self.frame.pc = exit.pc.0 as usize;
        self.frame.gas += gas;
    }
}

impl Compiled<'_> {
    /// What a guarded helper comes to, unless it refuses.
    pub fn act(&mut self, exit: ExitId, args: [Option<Word>; 3]) -> Option<Word> {
        let exit = self.exits.exit(exit);
        let args = args.map(Option::unwrap_or_default);
        if args[0].0[0] % 8 == 7 {
            return None;
        }
        let gas = self.frame.gas + u64::from(exit.rest);
        Some(self.frame.effect(self.frame.code[exit.pc.0 as usize], args, gas))
    }
}

impl Machine for Compiled<'_> {
    fn word(&self, slot: Slot) -> Word {
        self.words[self.at(slot)]
    }
    fn set_word(&mut self, slot: Slot, value: Word) {
        let at = self.at(slot);
        self.words[at] = value;
    }
    fn height(&self) -> usize {
        self.sp
    }
    fn move_sp(&mut self, words: i16) {
        self.sp = self.at(Slot(words));
    }
    fn poll(&mut self) -> bool {
        self.polls = self.polls.checked_sub(1).unwrap_or(3);
        self.polls != 3
    }
    fn gas(&self) -> u64 {
        self.frame.gas
    }
    fn set_gas(&mut self, gas: u64) {
        self.frame.gas = gas;
    }
    fn memory_covers(&self, offset: u64, size: u64) -> bool {
        offset.checked_add(size).is_some_and(|end| end <= self.frame.memory.len() as u64)
    }
    fn load_word(&self, offset: u64) -> Word {
        self.frame.load(offset)
    }
    fn store_word(&mut self, offset: u64, value: Word) {
        self.frame.store(offset, value);
    }
    fn store_byte(&mut self, offset: u64, value: u8) {
        self.frame.memory[offset as usize] = value;
    }
    fn expand(&mut self, _: ExitId, offset: Word, size: u64) -> bool {
        self.frame.expand(offset, size, EXPAND_MAX).is_ok()
    }
    fn calldata_word(&mut self, offset: Word) -> Word {
        calldata(offset)
    }
    fn environment(&self, what: Environment) -> Word {
        environment(what, &self.frame)
    }
    fn guarded(
        &mut self,
        _: Helper,
        exit: ExitId,
        dst: Option<Slot>,
        args: [Option<Word>; 3],
    ) -> bool {
        let result = self.act(exit, args);
        if let (Some(dst), Some(result)) = (dst, result) {
            self.set_word(dst, result);
        }
        result.is_some()
    }
    fn instruction(&mut self, _: Helper, exit: ExitId) -> bool {
        let rest = self.exits.exit(exit).rest;
        self.canonical(exit, u64::from(rest));
        let opcode = self.frame.opcode();
        self.frame.body(opcode).expect("operands are there, and room for the result");
        self.frame.gas -= u64::from(rest);
        let words = &self.frame.stack;
        self.words[..words.len()].copy_from_slice(words);
        // Nothing above the stack survives.
        self.words[words.len()..].fill(Word([0xdead; 4]));
        true
    }
    fn entry(&self, destination: Word) -> Option<usize> {
        let pc = destination.as_u64()?;
        let at = |&(leader, jumpdest): &(Pc, bool)| jumpdest && u64::from(leader.0) == pc;
        self.leaders.iter().position(at)
    }
}

/// Runs a frame in compiled code where `enter` finds some at its pc, and interprets what that leaves. `enter`
/// answers how the code was left, with the canonical state in the frame; nothing if there is none.
pub fn evaluate<'a>(
    mut compiled: Compiled<'a>,
    mut enter: impl FnMut(&mut Compiled<'a>) -> Option<ExitKind>,
) -> (Halt, Frame) {
    loop {
        let kind = enter(&mut compiled);
        if kind == Some(ExitKind::Resume) {
            continue;
        }
        let expected = match compiled.frame.opcode() {
            0x00 => Some(ExitKind::Stop),
            0xf3 => Some(ExitKind::Return),
            0xfd => Some(ExitKind::Revert),
            _ => None,
        };
        if let Some(kind @ (ExitKind::Stop | ExitKind::Return | ExitKind::Revert)) = kind {
            assert_eq!(Some(kind), expected);
        }
        if let Err(halt) = compiled.frame.step() {
            return (halt, compiled.frame);
        }
    }
}

pub fn interpret(mut frame: Frame) -> (Halt, Frame) {
    loop {
        if let Err(halt) = frame.step() {
            return (halt, frame);
        }
    }
}
/// Code that mostly finds its operands, with jumps that mostly land.
pub fn code(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut code = Vec::new();
    let mut jumps = Vec::new();
    (0..rng.usize(..12)).for_each(|_| code.extend([0x60, rng.u8(..)]));
    for _ in 0..rng.usize(1..60) {
        match rng.u8(..24) {
            0..4 => code.extend([0x60, rng.u8(..)]),
            4 => code.extend([0x60, [0, 1, 31, 32, 64, 255][rng.usize(..6)]]),
            5 => {
                code.push(0x7f);
                let byte = [0, 0x80, 0xff][rng.usize(..3)];
                code.extend((0..32).map(|_| if rng.bool() { byte } else { rng.u8(..) }));
            }
            6..9 => code.push(0x80 + rng.u8(..6)),
            9..12 => code.push(0x90 + rng.u8(..6)),
            12 => code.push(0x5b),
            13..15 => {
                jumps.push(code.len() + 1);
                code.extend([0x61, 0, 0, 0x56 + rng.u8(..3).min(1)]);
            }
            15 => code.extend([0x60, rng.u8(..8) * 16, [0x51, 0x52, 0x53][rng.usize(..3)]]),
            16 => code.push([0x51, 0x52, 0x35, 0x5a, 0x59, 0x58][rng.usize(..6)]),
            17 => code.push([0x20, 0x37, 0x5e, 0x54, 0x55, 0x5c, 0x5d, 0x0a][rng.usize(..8)]),
            18 => code.push([0x42, 0x55, 0xa0, 0xa1, 0xf1, 0x50][rng.usize(..6)]),
            19 => code.push([0x30, 0x33, 0x34, 0x36, 0x3d, 0x38][rng.usize(..6)]),
            20 if rng.u8(..4) == 0 => {
                code.push([0x56, 0x57, 0xf3, 0xfd, 0x00, 0xfe, 0x0c][rng.usize(..7)]);
            }
            _ => code.push([rng.u8(1..0x0c), rng.u8(0x10..0x1f)][rng.usize(..2)]),
        }
    }
    let dests: Vec<usize> = (0..code.len()).filter(|&pc| code[pc] == 0x5b).collect();
    for at in jumps {
        let dest = rng.choice(&dests).copied().unwrap_or(0);
        code[at..at + 2].copy_from_slice(&(dest as u16).to_be_bytes());
    }
    code
}
