//! Stencils written by hand, because they live from the processor's flags.
//!
//! **Owns** carry chains over four limbs, comparisons, the check at a block's start, the poll at a
//! back-edge, and the computed jump. Cranelift
//! has carry chains only inside one 128-bit operation and keeps all limbs of a comparison in
//! registers: it makes 73 bytes of an addition (here 48, or 32 in place), 75 of an addition of a
//! small constant (48, or 20), 54 of a full check (44), 89 of a computed jump (70), and of a comparison of two slots code that
//! runs out of registers. **Callers guarantee** nothing. **Never** skips the verifier: what is made
//! here has the shape of a function from Cranelift and goes through the same proof.

use crate::{
    key::{Binary, Key, Kind, Use},
    operand::{Field, Magic},
    stencil::{Authored, Symbol, Width},
};
use kiln_abi::context_offset;
use kiln_ir::Cond;

/// A register, by number. rax works, rcx and rdx hold what a constant needs.
#[derive(Clone, Copy)]
struct Reg(u8);

const RAX: Reg = Reg(0);
const RCX: Reg = Reg(1);
const RDX: Reg = Reg(2);
const CX: Reg = Reg(6);
const SP: Reg = Reg(7);

/// An operation of the arithmetic group: its number in the opcode.
#[derive(Clone, Copy)]
enum Alu {
    Add = 0,
    Or = 1,
    Adc = 2,
    Sbb = 3,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Condition codes.
const BELOW: u8 = 2;
const NOT_BELOW: u8 = 3;
const EQUAL: u8 = 4;
const NOT_EQUAL: u8 = 5;
const ABOVE: u8 = 7;
const LESS: u8 = 12;
const NOT_LESS: u8 = 13;

/// An operand whose limbs are at hand without touching the flags.
#[derive(Clone, Copy)]
enum Limbs {
    /// In memory.
    Memory(Reg, i32),
    /// A constant below 2^31.
    Imm31,
    /// A constant of one limb in rcx.
    Rcx,
}

struct Assembler<'m> {
    magic: &'m Magic,
    bytes: Vec<u8>,
    relocs: Vec<(usize, Symbol, Width)>,
    /// Conditional jumps out of the stencil, whose cold tails follow at the end.
    leaves: Vec<(usize, Symbol)>,
}

/// The stencil, if it is one of those written by hand.
pub(crate) fn author(key: Key, magic: &Magic) -> Option<Authored> {
    let bytes = vec![0x55, 0x48, 0x89, 0xe5];
    let mut asm = Assembler { magic, bytes, relocs: Vec::new(), leaves: Vec::new() };
    match key {
        Key::Check { need, grow, gas } => asm.check(need, grow, gas),
        Key::Poll => asm.poll(),
        Key::JumpDynamic => {
            asm.jump_dynamic();
            return Some(asm.finish(true));
        }
        Key::Not { in_place: true } => asm.not_in_place(),
        Key::Binary(Binary::Add, kind, false) => asm.chain(Alu::Add, Alu::Adc, kind),
        Key::Binary(Binary::Sub, kind, false) => asm.chain(Alu::Sub, Alu::Sbb, kind),
        Key::Binary(Binary::Add, kind, true) => asm.chain_in_place(Alu::Add, Alu::Adc, kind),
        Key::Binary(Binary::Sub, kind, true) => asm.chain_in_place(Alu::Sub, Alu::Sbb, kind),
        Key::Binary(Binary::SubFrom, kind, _) => asm.subtract_from(kind),
        Key::Compare(used, cond @ (Cond::Eq | Cond::Ne), kind @ (Kind::Slot | Kind::Pool)) => {
            asm.equal(used, if cond == Cond::Eq { EQUAL } else { NOT_EQUAL }, kind);
        }
        Key::Compare(used, cond, kind) => {
            let narrow = matches!(kind, Kind::Imm31 | Kind::Imm64);
            let (swapped, condition) = match cond {
                Cond::Eq | Cond::Ne => return None,
                Cond::Ult | Cond::Ugt | Cond::Ule | Cond::Uge if narrow => return None,
                Cond::Ult => (false, BELOW),
                Cond::Uge => (false, NOT_BELOW),
                Cond::Ugt => (true, BELOW),
                Cond::Ule => (true, NOT_BELOW),
                Cond::Slt => (false, LESS),
                Cond::Sge => (false, NOT_LESS),
                Cond::Sgt => (true, LESS),
                Cond::Sle => (true, NOT_LESS),
            };
            asm.less(used, swapped, condition, kind);
        }
        _ => return None,
    }
    Some(asm.finish(false))
}

impl Assembler<'_> {
    /// The jump to the next stencil, or to the address in rax; then the cold jumps out.
    fn finish(mut self, to_rax: bool) -> Authored {
        match to_rax {
            true => self.bytes.extend([0x48, 0x89, 0xec, 0x5d, 0xff, 0xe0]),
            false => self.tail(Symbol::Next),
        }
        for (at, symbol) in std::mem::take(&mut self.leaves) {
            let offset = (self.bytes.len() - at - 4) as i32;
            self.bytes[at..at + 4].copy_from_slice(&offset.to_le_bytes());
            self.tail(symbol);
        }
        Authored { bytes: self.bytes, relocs: self.relocs }
    }

    fn tail(&mut self, symbol: Symbol) {
        self.bytes.extend([0x48, 0x89, 0xec, 0x5d, 0xe9]);
        self.relocs.push((self.bytes.len(), symbol, Width::Relative));
        self.bytes.extend([0; 4]);
    }

    fn field(&self, field: Field) -> i32 {
        self.magic.of(field) as i32
    }

    /// `opcode reg, [base + disp]`, all 64 bits; `reg` may be an opcode's digit.
    fn memory(&mut self, opcode: u8, reg: u8, base: Reg, disp: i32) {
        self.bytes.extend([0x48, opcode]);
        // The context's and the pool's own displacements are short; a field's is long here.
        if disp == 0 {
            self.bytes.push(reg << 3 | base.0);
        } else if let Ok(disp) = i8::try_from(disp) {
            self.bytes.extend([0x40 | reg << 3 | base.0, disp as u8]);
        } else {
            self.bytes.push(0x80 | reg << 3 | base.0);
            self.bytes.extend(disp.to_le_bytes());
        }
    }

    fn load(&mut self, reg: Reg, base: Reg, disp: i32) {
        self.memory(0x8b, reg.0, base, disp);
    }

    fn store(&mut self, reg: Reg, base: Reg, disp: i32) {
        self.memory(0x89, reg.0, base, disp);
    }

    /// `op reg, [base + disp]`
    fn op_load(&mut self, op: Alu, reg: Reg, base: Reg, disp: i32) {
        self.memory((op as u8) << 3 | 3, reg.0, base, disp);
    }

    /// `op [base + disp], reg`
    fn op_store(&mut self, op: Alu, reg: Reg, base: Reg, disp: i32) {
        self.memory((op as u8) << 3 | 1, reg.0, base, disp);
    }

    /// `op to, from`
    fn op_reg(&mut self, op: Alu, to: Reg, from: Reg) {
        self.bytes.extend([0x48, (op as u8) << 3 | 3, 0xc0 | to.0 << 3 | from.0]);
    }

    /// `op rax, imm32`
    fn op_imm(&mut self, op: Alu, imm: i32) {
        self.bytes.extend([0x48, 0x81, 0xc0 | (op as u8) << 3]);
        self.bytes.extend(imm.to_le_bytes());
    }

    /// `op rax, 0`
    fn op_zero(&mut self, op: Alu) {
        self.bytes.extend([0x48, 0x83, 0xc0 | (op as u8) << 3, 0]);
    }

    /// `mov eax, imm32`, which keeps the flags.
    fn set_rax(&mut self, imm: i32) {
        self.bytes.push(0xb8);
        self.bytes.extend(imm.to_le_bytes());
    }

    /// Leaves the stencil if the condition holds.
    fn leave_if(&mut self, condition: u8, symbol: Symbol) {
        self.bytes.extend([0x0f, 0x80 | condition]);
        self.leaves.push((self.bytes.len(), symbol));
        self.bytes.extend([0; 4]);
    }

    /// The second operand; a constant is made ready.
    fn operand(&mut self, kind: Kind) -> Limbs {
        match kind {
            Kind::Slot => Limbs::Memory(SP, self.field(Field::B)),
            Kind::Imm31 | Kind::Zero => Limbs::Imm31,
            Kind::Imm64 => {
                self.bytes.extend([0x48, 0xb8 | RCX.0]);
                self.relocs.push((self.bytes.len(), Symbol::Wide, Width::Absolute));
                self.bytes.extend([0; 8]);
                Limbs::Rcx
            }
            Kind::Pool => {
                self.bytes.extend([0x48, 0x8d, 0x05 | RDX.0 << 3]);
                self.relocs.push((self.bytes.len(), Symbol::PoolB, Width::Relative));
                self.bytes.extend([0; 4]);
                Limbs::Memory(RDX, 0)
            }
        }
    }

    /// `op rax, limb k`
    fn op_limb(&mut self, op: Alu, limbs: Limbs, k: i32) {
        match limbs {
            Limbs::Memory(base, disp) => self.op_load(op, RAX, base, disp + 8 * k),
            Limbs::Imm31 if k == 0 => self.op_imm(op, self.field(Field::Imm)),
            Limbs::Rcx if k == 0 => self.op_reg(op, RAX, RCX),
            Limbs::Imm31 | Limbs::Rcx => self.op_zero(op),
        }
    }

    /// `mov rax, limb k`, which keeps the flags.
    fn load_limb(&mut self, limbs: Limbs, k: i32) {
        match limbs {
            Limbs::Memory(base, disp) => self.load(RAX, base, disp + 8 * k),
            Limbs::Imm31 if k == 0 => self.set_rax(self.field(Field::Imm)),
            Limbs::Rcx if k == 0 => self.bytes.extend([0x48, 0x89, 0xc8]),
            Limbs::Imm31 | Limbs::Rcx => self.set_rax(0),
        }
    }

    /// `dst = a op b`: `first` for the lowest limb, `rest` with carry for the others.
    fn chain(&mut self, first: Alu, rest: Alu, kind: Kind) {
        let b = self.operand(kind);
        let (a, dst) = (self.field(Field::A), self.field(Field::Dst));
        for k in 0..4 {
            self.load(RAX, SP, a + 8 * k);
            self.op_limb(if k == 0 { first } else { rest }, b, k);
            self.store(RAX, SP, dst + 8 * k);
        }
    }

    /// `dst = dst op b`.
    fn chain_in_place(&mut self, first: Alu, rest: Alu, kind: Kind) {
        let b = self.operand(kind);
        let dst = self.field(Field::Dst);
        for k in 0..4 {
            let (op, at) = (if k == 0 { first } else { rest }, dst + 8 * k);
            match b {
                Limbs::Memory(base, disp) => {
                    self.load(RAX, base, disp + 8 * k);
                    self.op_store(op, RAX, SP, at);
                }
                Limbs::Imm31 if k == 0 => {
                    self.memory(0x81, op as u8, SP, at);
                    self.bytes.extend(self.field(Field::Imm).to_le_bytes());
                }
                Limbs::Rcx if k == 0 => self.op_store(op, RCX, SP, at),
                Limbs::Imm31 | Limbs::Rcx => {
                    self.memory(0x83, op as u8, SP, at);
                    self.bytes.push(0);
                }
            }
        }
    }

    /// `dst = constant - a`.
    fn subtract_from(&mut self, kind: Kind) {
        let constant = self.operand(kind);
        let (a, dst) = (self.field(Field::A), self.field(Field::Dst));
        for k in 0..4 {
            self.load_limb(constant, k);
            self.op_load(if k == 0 { Alu::Sub } else { Alu::Sbb }, RAX, SP, a + 8 * k);
            self.store(RAX, SP, dst + 8 * k);
        }
    }

    /// `dst = !dst`.
    fn not_in_place(&mut self) {
        for k in 0..4 {
            self.memory(0xf7, 2, SP, self.field(Field::Dst) + 8 * k);
        }
    }

    /// The condition of `a - b`, or of `b - a` if swapped.
    fn less(&mut self, used: Use, swapped: bool, condition: u8, kind: Kind) {
        let b = self.operand(kind);
        let a = Limbs::Memory(SP, self.field(Field::A));
        let (left, right) = if swapped { (b, a) } else { (a, b) };
        for k in 0..4 {
            self.load_limb(left, k);
            self.op_limb(if k == 0 { Alu::Cmp } else { Alu::Sbb }, right, k);
        }
        self.outcome(used, condition);
    }

    /// Whether the words are equal.
    fn equal(&mut self, used: Use, condition: u8, kind: Kind) {
        let Limbs::Memory(base, disp) = self.operand(kind) else { return };
        let a = self.field(Field::A);
        for k in 0..4 {
            let reg = if k == 0 { RAX } else { RCX };
            self.load(reg, SP, a + 8 * k);
            self.op_load(Alu::Xor, reg, base, disp + 8 * k);
            if k != 0 {
                self.op_reg(Alu::Or, RAX, RCX);
            }
        }
        self.outcome(used, condition);
    }

    /// Writes the condition as a word, or branches.
    fn outcome(&mut self, used: Use, condition: u8) {
        if used == Use::Branch {
            return self.leave_if(condition, Symbol::Taken);
        }
        let dst = self.field(Field::Dst);
        // setcc al; movzx eax, al; xorps xmm0, xmm0
        self.bytes.extend([0x0f, 0x90 | condition, 0xc0, 0x0f, 0xb6, 0xc0, 0x0f, 0x57, 0xc0]);
        for half in [0, 16] {
            // movups [rdi + dst], xmm0
            self.bytes.extend([0x0f, 0x11, 0x80 | SP.0]);
            self.bytes.extend((dst + half).to_le_bytes());
        }
        self.store(RAX, SP, dst);
    }

    /// Takes one off the countdown; leaves if it was 0.
    fn poll(&mut self) {
        // sub dword [rsi + poll], 1
        let poll = context_offset!(poll) as u8;
        self.bytes.extend([0x83, 0x40 | (Alu::Sub as u8) << 3 | CX.0, poll, 1]);
        self.leave_if(BELOW, Symbol::Exit);
    }

    /// Leaves rax the address of the compiled JUMPDEST at the pc in a slot; leaves if there is none.
    fn jump_dynamic(&mut self) {
        let a = self.field(Field::A);
        self.load(RAX, SP, a + 8);
        self.op_load(Alu::Or, RAX, SP, a + 16);
        self.op_load(Alu::Or, RAX, SP, a + 24);
        self.leave_if(NOT_EQUAL, Symbol::Exit);
        self.load(RAX, SP, a);
        self.op_load(Alu::Cmp, RAX, CX, context_offset!(entries_len));
        self.leave_if(NOT_BELOW, Symbol::Exit);
        // From here on `kiln_abi::EntryTable`. mov ecx, eax; shr ecx, 5
        self.bytes.extend([0x89, 0xc1, 0xc1, 0xe9, 5]);
        self.load(RDX, CX, context_offset!(entries));
        // movzx ecx, word [rdx + 2 * rcx]; shl ecx, 5; and eax, 31; add ecx, eax
        self.bytes.extend([0x0f, 0xb7, 0x0c, 0x4a, 0xc1, 0xe1, 5, 0x83, 0xe0, 31, 0x01, 0xc1]);
        // mov eax, [rdx + 4 * rcx]; shr eax, 1: whether it is a JUMPDEST goes to the carry flag.
        self.bytes.extend([0x8b, 0x04, 0x8a, 0xd1, 0xe8]);
        self.leave_if(NOT_BELOW, Symbol::Exit);
        self.op_load(Alu::Add, RAX, CX, context_offset!(code_base));
    }

    /// Leaves if the stack does not hold enough words, has no room, or the gas does not suffice;
    /// charges the gas last.
    fn check(&mut self, need: bool, grow: bool, gas: bool) {
        let bounds = [
            (need, Field::A, context_offset!(stack_base), BELOW),
            (grow, Field::B, context_offset!(stack_end), ABOVE),
        ];
        for (wanted, field, bound, condition) in bounds {
            if wanted {
                self.memory(0x8d, RAX.0, SP, self.field(field));
                self.op_load(Alu::Cmp, RAX, CX, bound);
                self.leave_if(condition, Symbol::Exit);
            }
        }
        if gas {
            self.load(RAX, CX, context_offset!(gas));
            self.op_imm(Alu::Sub, self.field(Field::Imm));
            self.leave_if(BELOW, Symbol::Exit);
            self.store(RAX, CX, context_offset!(gas));
        }
    }
}
