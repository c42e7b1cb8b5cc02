//! Words in vector registers.
//!
//! **Owns** what moves a word as a whole, or treats its bits or bytes alike: 10 bytes to copy a slot, where
//! four limbs take 38, 25 for a load from memory that is there (53). Most code runs a few times while it is
//! in the caches, so bytes cost more than what this does to code that runs over and over: a load of 32
//! bytes waits for stores of single limbs before it to leave the store buffer. So comparisons with zero,
//! whose operand mostly was just computed, stay as they are. **Callers guarantee** a CPU with AVX2, and
//! that the upper halves of the vector registers are of no use to anyone. **Never** touches more than
//! ymm0.

use super::*;
use crate::key::{Binary, Offset, Use};
use kiln_ir::Cond;

/// VEX prefix and opcode of an instruction with ymm0 as its first operands.
type Vector = &'static [u8];

/// `vmovdqu ymm0, [..]`
const LOAD: Vector = &[0xc5, 0xfe, 0x6f];
/// `vmovdqu [..], ymm0`
const STORE: Vector = &[0xc5, 0xfe, 0x7f];
/// `vpand ymm0, ymm0, [..]`
const AND: Vector = &[0xc5, 0xfd, 0xdb];
/// `vpor ymm0, ymm0, [..]`
const OR: Vector = &[0xc5, 0xfd, 0xeb];
/// `vpxor ymm0, ymm0, [..]`
const XOR: Vector = &[0xc5, 0xfd, 0xef];
/// `vpshufb ymm0, ymm0, [..]`
const SHUFFLE: Vector = &[0xc4, 0xe2, 0x7d, 0x00];
/// `vpermq ymm0, [..], imm8`
const PERMUTE: Vector = &[0xc4, 0xe3, 0xfd, 0x00];
/// `vptest ymm0, ymm0`
const TEST: Vector = &[0xc4, 0xe2, 0x7d, 0x17, 0xc0];
/// `vpxor xmm0, xmm0, xmm0`, which clears all of ymm0.
const CLEAR: Vector = &[0xc5, 0xf9, 0xef, 0xc0];
/// `vmovd xmm0, eax`, which clears the rest of ymm0.
const FROM_EAX: Vector = &[0xc5, 0xf9, 0x6e, 0xc0];
/// `vmovq xmm0, rax`, which clears the rest of ymm0.
const FROM_RAX: Vector = &[0xc4, 0xe1, 0xf9, 0x6e, 0xc0];

/// A place in memory.
type Place = (Reg, i32);

impl Assembler<'_> {
    /// Writes the stencil, if it is of this file.
    pub(super) fn wide(&mut self, key: Key) -> bool {
        match key {
            Key::Copy(kind) => self.copy(kind),
            Key::Binary(Binary::And, kind @ (Kind::Slot | Kind::Pool), _) => {
                self.bits(AND, kind, key)
            }
            Key::Binary(Binary::Or, kind @ (Kind::Slot | Kind::Pool), _) => {
                self.bits(OR, kind, key)
            }
            Key::Binary(Binary::Xor, kind @ (Kind::Slot | Kind::Pool), _) => {
                self.bits(XOR, kind, key)
            }
            Key::Binary(Binary::Add, Kind::Imm31, in_place) => {
                self.add_small(Alu::Add, Alu::Adc, in_place);
            }
            Key::Binary(Binary::Sub, Kind::Imm31, in_place) => {
                self.add_small(Alu::Sub, Alu::Sbb, in_place);
            }
            Key::Compare(used, cond @ (Cond::Eq | Cond::Ne), kind @ (Kind::Slot | Kind::Pool)) => {
                let a = self.slot(Field::A);
                self.vector(LOAD, a);
                self.with(XOR, kind);
                self.bytes.extend(TEST);
                self.decide(used, if cond == Cond::Eq { EQUAL } else { NOT_EQUAL });
            }
            Key::Mload(offset) => {
                let from = self.covered_word(offset);
                self.reversed(from);
                self.store_word(Field::Dst);
            }
            Key::Mstore(offset, kind) => self.mstore(offset, kind),
            Key::Calldataload(offset) => self.calldataload(offset),
            _ => return false,
        }
        true
    }

    /// The condition as a word in the destination, or a branch.
    fn decide(&mut self, used: Use, condition: u8) {
        match used {
            Use::Branch => self.leave_if(condition, Symbol::Taken),
            Use::Set => {
                // setcc al; movzx eax, al
                self.bytes.extend([0x0f, 0x90 | condition, 0xc0, 0x0f, 0xb6, 0xc0]);
                self.bytes.extend(FROM_EAX);
                self.store_word(Field::Dst);
            }
        }
    }

    fn slot(&self, field: Field) -> Place {
        (SP, self.field(field))
    }

    fn vector(&mut self, vector: Vector, (base, disp): Place) {
        self.bytes.extend(vector);
        self.address(0, base, disp);
    }

    fn store_word(&mut self, field: Field) {
        let slot = self.slot(field);
        self.vector(STORE, slot);
    }

    /// With a constant of the pool.
    fn pooled(&mut self, vector: Vector, symbol: Symbol) {
        self.bytes.extend(vector);
        self.bytes.push(0x05);
        self.relocs.push((self.bytes.len(), symbol, Width::Relative));
        self.bytes.extend([0; 4]);
    }

    /// With the second operand.
    fn with(&mut self, vector: Vector, kind: Kind) {
        match kind {
            Kind::Pool => self.pooled(vector, Symbol::PoolB),
            _ => {
                let b = self.slot(Field::B);
                self.vector(vector, b);
            }
        }
    }

    fn copy(&mut self, kind: Kind) {
        match kind {
            Kind::Slot => {
                let a = self.slot(Field::A);
                self.vector(LOAD, a);
            }
            Kind::Pool => self.pooled(LOAD, Symbol::PoolA),
            Kind::Zero => self.bytes.extend(CLEAR),
            Kind::Imm31 => {
                self.set(RAX, self.field(Field::Imm));
                self.bytes.extend(FROM_EAX);
            }
            Kind::Imm64 => {
                self.set_wide(RAX);
                self.bytes.extend(FROM_RAX);
            }
        }
        self.store_word(Field::Dst);
    }

    /// `dst = a op b`, where in place `a` is the destination.
    fn bits(&mut self, vector: Vector, kind: Kind, key: Key) {
        let in_place = matches!(key, Key::Binary(_, _, true));
        let a = self.slot(if in_place { Field::Dst } else { Field::A });
        self.vector(LOAD, a);
        self.with(vector, kind);
        self.store_word(Field::Dst);
    }

    /// `dst = a op imm`: a carry out of the lowest limb is rare, and goes its way out of line.
    fn add_small(&mut self, first: Alu, rest: Alu, in_place: bool) {
        if !in_place {
            let a = self.slot(Field::A);
            self.vector(LOAD, a);
            self.store_word(Field::Dst);
        }
        self.memory_imm(first, SP, self.field(Field::Dst), self.field(Field::Imm));
        self.go_if(BELOW, Way::Carry(rest));
    }

    /// ymm0 = the word at a place, most significant byte first.
    fn reversed(&mut self, from: Place) {
        self.vector(PERMUTE, from);
        self.bytes.push(0b00_01_10_11);
        self.vector(SHUFFLE, (CX, context_offset!(swap_bytes)));
    }

    /// Where a word of memory lies, once it is there.
    fn covered_word(&mut self, offset: Offset) -> Place {
        let (base, limit) = (context_offset!(mem_base), context_offset!(mem_word_limit));
        match offset {
            Offset::Slot => {
                self.high_limbs();
                self.go_if(NOT_EQUAL, Way::Expand(Thunk::ExpandSlot32));
                self.load(RAX, SP, self.field(Field::A));
                self.op_load(Alu::Cmp, RAX, CX, limit);
                self.go_if(NOT_BELOW, Way::Expand(Thunk::ExpandSlot32));
                self.op_load(Alu::Add, RAX, CX, base);
                (RAX, 0)
            }
            Offset::Const => {
                self.memory_imm(Alu::Cmp, CX, limit, self.field(Field::Imm));
                self.go_if(NOT_ABOVE, Way::Expand(Thunk::ExpandConst32));
                self.load(RAX, CX, base);
                (RAX, self.field(Field::Imm))
            }
            Offset::Covered => {
                self.load(RAX, CX, base);
                (RAX, self.field(Field::Imm))
            }
        }
    }

    /// rax = whatever bits the upper limbs of the first operand have; the zero flag says whether none.
    fn high_limbs(&mut self) {
        let a = self.field(Field::A);
        self.load(RAX, SP, a + 8);
        self.op_load(Alu::Or, RAX, SP, a + 16);
        self.op_load(Alu::Or, RAX, SP, a + 24);
    }

    fn mstore(&mut self, offset: Offset, kind: Kind) {
        let to = self.covered_word(offset);
        match kind {
            Kind::Slot => {
                let b = self.slot(Field::B);
                self.reversed(b);
            }
            // Reversed already, as are the 64 bits.
            Kind::Pool => self.pooled(LOAD, Symbol::PoolB),
            Kind::Imm31 | Kind::Imm64 | Kind::Zero => self.bytes.extend(CLEAR),
        }
        self.vector(STORE, to);
        if matches!(kind, Kind::Imm31 | Kind::Imm64) {
            self.set_wide(RCX);
            let (base, disp) = to;
            self.store(RCX, base, disp + 24);
        }
    }

    fn calldataload(&mut self, offset: Offset) {
        let (data, len) = (context_offset!(calldata), context_offset!(calldata_len));
        let constant = offset != Offset::Slot;
        let outside = Way::Calldataload { constant };
        let from = if constant {
            self.memory_imm(Alu::Cmp, CX, len, self.field(Field::Len));
            self.go_if(BELOW, outside);
            self.load(RAX, CX, data);
            (RAX, self.field(Field::Imm))
        } else {
            // The offset is below 2^32, so that the end does not overflow: mov ecx, [a + 4]; or rax, rcx
            self.high_limbs();
            self.bytes.push(0x8b);
            self.address(RCX.0, SP, self.field(Field::A) + 4);
            self.op_reg(Alu::Or, RAX, RCX);
            self.go_if(NOT_EQUAL, outside);
            self.load(RAX, SP, self.field(Field::A));
            // lea rcx, [rax + 32]
            self.memory(0x8d, RCX.0, RAX, 32);
            self.op_load(Alu::Cmp, RCX, CX, len);
            self.go_if(ABOVE, outside);
            self.op_load(Alu::Add, RAX, CX, data);
            (RAX, 0)
        };
        self.reversed(from);
        self.store_word(Field::Dst);
    }
}
