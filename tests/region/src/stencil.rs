//! Reference arithmetic of the block IR's operations, and sequences of them out of bytes, compared with their stencils.
//!
//! **Owns** what operations mean, written down once more, in terms of 256-bit integers. **Callers guarantee** nothing of
//! the bytes. **Never** knows how stencils are made or patched.

use crate::support::{
    Builder, DONE, HEIGHT, LIBRARY, Left, Machine, OTHER, Program, SIDE, edges, inst, mock1, mock2,
    mock3, number, slot, word,
};
use kiln_abi::{Helper, HelperShape, Slot, Word};
use kiln_ir::{Cond, Inst, Op, Operand, Target, Terminator};
use kiln_tier0::Library;
use revm_primitives::U256;
use std::sync::LazyLock;

/// SAR.
pub fn sar(a: U256, by: usize) -> U256 {
    let fill = if a.bit(255) { !(U256::MAX >> by) } else { U256::ZERO };
    a >> by | fill
}

/// Whether a comparison holds.
pub fn holds(cond: Cond, a: U256, b: U256) -> bool {
    // Flipping the sign bit makes signed order unsigned order.
    let (s, t) = (a ^ (U256::from(1) << 255), b ^ (U256::from(1) << 255));
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Ult => a < b,
        Cond::Ugt => a > b,
        Cond::Ule => a <= b,
        Cond::Uge => a >= b,
        Cond::Slt => s < t,
        Cond::Sgt => s > t,
        Cond::Sle => s <= t,
        Cond::Sge => s >= t,
    }
}

/// What an operation makes of words: those without memory, environment or gas. Helpers are the mocks of
/// [`crate::support`].
pub fn reference(op: Op, imm: u32, [a, b, c]: [U256; 3]) -> Option<U256> {
    let by = imm as usize;
    Some(match op {
        Op::Copy => a,
        Op::Add => a.wrapping_add(b),
        Op::Sub => a.wrapping_sub(b),
        Op::Mul => a.wrapping_mul(b),
        Op::And => a & b,
        Op::Or => a | b,
        Op::Xor => a ^ b,
        Op::Not => !a,
        Op::ShlImm => a << by,
        Op::ShrImm => a >> by,
        Op::SarImm => sar(a, by),
        Op::ByteImm => U256::from(a.byte(31 - by)),
        Op::SignextendImm => sar(a << (248 - 8 * by), 248 - 8 * by),
        Op::Set(cond) => U256::from(u64::from(holds(cond, a, b))),
        Op::Pure(helper) => match helper.shape() {
            HelperShape::Pure1 => mock1(a),
            HelperShape::Pure2 => mock2(a, b),
            HelperShape::Pure3 => mock3(a, b, c),
            _ => return None,
        },
        _ => return None,
    })
}

/// Operations without a parameter of their own, and how many operands they take.
const OPS: [(Op, usize); 17] = [
    (Op::Copy, 1),
    (Op::Add, 2),
    (Op::Sub, 2),
    (Op::Mul, 2),
    (Op::And, 2),
    (Op::Or, 2),
    (Op::Xor, 2),
    (Op::Not, 1),
    (Op::ShlImm, 1),
    (Op::ShrImm, 1),
    (Op::SarImm, 1),
    (Op::ByteImm, 1),
    (Op::SignextendImm, 1),
    (Op::Mload, 1),
    (Op::Mstore, 2),
    (Op::Mstore8, 2),
    (Op::Calldataload, 1),
];

/// Helpers that compute, one of each shape.
const HELPERS: [(Helper, usize); 4] =
    [(Helper::Clz, 1), (Helper::Div, 2), (Helper::Sar, 2), (Helper::Addmod, 3)];

/// Decisions out of bytes. When they are used up, every decision is the first.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn value(&mut self) -> U256 {
        let edges = edges();
        match self.below(4) {
            0 => edges[self.below(edges.len())],
            1 => U256::from(self.byte()),
            2 => {
                let limbs = [(); 4].map(|()| match self.byte() {
                    0 => 0,
                    255 => u64::MAX,
                    byte => u64::from_le_bytes([byte, self.byte(), 0, self.byte(), 0, 0, 1, byte]),
                });
                U256::from_limbs(limbs)
            }
            _ => U256::from(0x0123_4567_89ab_cdefu64) << (8 * self.below(32)),
        }
    }

    /// Near and far from the stack pointer, so that displacements are short and long.
    fn slot(&mut self) -> i16 {
        self.below(2 * SLOT_MAX as usize) as i16 - SLOT_MAX
    }
}

/// Slots on either side of the stack pointer.
const SLOT_MAX: i16 = 20;
/// Instructions of a sequence.
const INSTS_MAX: usize = 12;
/// The last offset of a word in memory and in calldata.
const LAST: u64 = 224;

/// A sequence in the making, and what it comes to.
struct Sequence<'a> {
    bytes: Bytes<'a>,
    builder: Builder,
    insts: Vec<Inst>,
    words: Vec<Word>,
    memory: Vec<u8>,
    calldata: Vec<u8>,
}

impl Sequence<'_> {
    /// What is asked of a helper where there is no memory or calldata.
    const ACCESSES: [Op; 4] = [Op::Mload, Op::Mstore, Op::Mstore8, Op::Calldataload];

    fn at(slot: i16) -> usize {
        (HEIGHT as isize + slot as isize) as usize
    }

    fn operand(&mut self) -> (Operand, U256) {
        if self.bytes.below(3) == 0 {
            let value = self.bytes.value();
            return (self.builder.constant(value), value);
        }
        let at = self.bytes.slot();
        (slot(at), number(self.words[Self::at(at)]))
    }

    /// An offset at which there is a word, of memory and calldata.
    fn offset(&mut self) -> (Operand, U256) {
        match self.operand() {
            (operand, value) if value <= U256::from(LAST) => (operand, value),
            _ => {
                let value = U256::from(u64::from(self.bytes.byte()).min(LAST));
                (self.builder.constant(value), value)
            }
        }
    }

    fn add(&mut self) {
        let which = self.bytes.below(OPS.len() + Cond::ALL.len() + HELPERS.len());
        let (op, count) = match which.checked_sub(OPS.len()) {
            None => OPS[which],
            Some(at) if at < Cond::ALL.len() => (Op::Set(Cond::ALL[at]), 2),
            Some(at) => {
                let (helper, count) = HELPERS[at - Cond::ALL.len()];
                (Op::Pure(helper), count)
            }
        };
        let mut operands = [None; 3];
        let mut values = [U256::ZERO; 3];
        for (index, operand) in operands.iter_mut().take(count).enumerate() {
            let is_offset = index == 0 && Self::ACCESSES.contains(&op);
            let (is, value) = if is_offset { self.offset() } else { self.operand() };
            (*operand, values[index]) = (Some(is), value);
        }
        let imm = match op {
            Op::ShlImm | Op::ShrImm | Op::SarImm => 1 + self.bytes.below(255) as u32,
            Op::ByteImm => self.bytes.below(32) as u32,
            Op::SignextendImm => self.bytes.below(31) as u32,
            _ => 0,
        };
        let result = self.result(op, imm, values);
        let dst = result.map(|_| self.bytes.slot());
        if let (Some(dst), Some(result)) = (dst, result) {
            self.words[Self::at(dst)] = word(result);
        }
        let args: Vec<_> = operands.into_iter().flatten().collect();
        self.insts.push(Inst { imm, ..inst(op, dst, &args) });
    }

    fn result(&mut self, op: Op, imm: u32, values: [U256; 3]) -> Option<U256> {
        let at = usize::try_from(values[0]).unwrap_or(usize::MAX);
        match op {
            Op::Mload => Some(U256::from_be_slice(&self.memory[at..at + 32])),
            Op::Mstore => {
                self.memory[at..at + 32].copy_from_slice(&values[1].to_be_bytes::<32>());
                None
            }
            Op::Mstore8 => {
                self.memory[at] = values[1].byte(0);
                None
            }
            Op::Calldataload => Some(U256::from_be_slice(&self.calldata[at..at + 32])),
            op => Some(reference(op, imm, values).expect("an operation on words")),
        }
    }

    /// How the sequence ends, and where it must leave.
    fn end(&mut self) -> (Terminator, Left) {
        if self.bytes.below(2) == 0 {
            return (Terminator::Exit(DONE), Left { exit: DONE, moved: 0 });
        }
        let cond = Cond::ALL[self.bytes.below(Cond::ALL.len())];
        let ((a, x), (b, y)) = (self.operand(), self.operand());
        let (taken, next) = (Target::Exit(SIDE), Target::Exit(OTHER));
        let exit = if holds(cond, x, y) { SIDE } else { OTHER };
        (Terminator::Branch { cond, a, b, taken, next }, Left { exit, moved: 0 })
    }
}

/// Runs a sequence of operations out of bytes, with the stencils of this CPU or those for any, and compares stack,
/// memory and exit with reference arithmetic.
pub fn sequence(bytes: &[u8]) {
    static PORTABLE: LazyLock<Library> =
        LazyLock::new(|| Library::portable().expect("the library verifies"));
    let mut bytes = Bytes(bytes);
    let library: &Library = if bytes.below(2) == 0 { &LIBRARY } else { &PORTABLE };
    let mut machine = Machine::new();
    machine.scramble(&mut fastrand::Rng::with_seed(u64::from(bytes.byte())));
    for _ in 0..bytes.below(4) {
        let (at, value) = (bytes.slot(), bytes.value());
        machine.set(at, value);
    }
    (0..=255).zip(&mut machine.memory).for_each(|(byte, at)| *at = byte);
    machine.calldata = (0..=255).rev().collect();
    let mut sequence = Sequence {
        bytes,
        builder: Builder::new(),
        insts: Vec::new(),
        words: machine.words(),
        memory: machine.memory.clone(),
        calldata: machine.calldata.clone(),
    };
    (0..=sequence.bytes.below(INSTS_MAX)).for_each(|_| sequence.add());
    let (terminator, expected) = sequence.end();
    let Sequence { mut builder, insts, words, memory, .. } = sequence;
    builder.region(0, &insts, terminator);
    let left = Program::with(library, &builder.module).run(&mut machine, 0);
    let text = || format!("{}", builder.module);
    assert_eq!(left, expected, "{}", text());
    assert!(machine.host.calls.is_empty(), "{}", text());
    for (at, (found, expected)) in machine.words().iter().zip(&words).enumerate() {
        let slot = Slot(at as i16 - HEIGHT as i16);
        assert_eq!(found, expected, "{slot}\n{}", text());
    }
    assert_eq!(machine.memory, memory, "{}", text());
}
