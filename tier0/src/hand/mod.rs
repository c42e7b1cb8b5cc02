//! Stencils written by hand.
//!
//! **Owns** the assembler they are written with, and which stencils are: what lives from the processor's
//! flags ([`carry`]), checks and jumps ([`flow`]), and what handles whole words in vector registers
//! ([`wide`]). Each is here because Cranelift's code for it is larger, for a reason that its file names.
//! **Callers guarantee** that the CPU has what they ask for. **Never** skips the verifier: what is made
//! here has the shape of a function from Cranelift and goes through the same proof.

mod carry;
mod flow;
mod wide;

use crate::{
    key::{Key, Kind},
    operand::{Field, Magic},
    stencil::{Authored, Symbol, Thunk, Width},
};
use kiln_abi::{Helper, context_offset};

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
const NOT_ABOVE: u8 = 6;
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

/// What a conditional jump leads to: cold code at the end.
#[derive(Clone, Copy)]
enum Way {
    /// Out of the stencil.
    Out(Symbol),
    /// The gas that was just taken is given back, then out.
    GiveBack,
    /// The carry into the upper limbs of the destination, then on.
    Carry(Alu),
    /// Memory is expanded for the offset in a slot, or a constant one, and the stencil begins again.
    Expand(Thunk),
    /// The helper reads calldata at the offset in a slot, or in the pool; then on.
    Calldataload { constant: bool },
}

struct Assembler<'m> {
    magic: &'m Magic,
    bytes: Vec<u8>,
    relocs: Vec<(usize, Symbol, Width)>,
    /// Conditional jumps, whose cold code follows at the end.
    ways: Vec<(usize, Way)>,
}

/// The stencil, if it is one of those written by hand; `wide` says whether those are wanted that handle
/// whole words.
pub(crate) fn author(key: Key, magic: &Magic, wide: bool) -> Option<Authored> {
    let bytes = vec![0x55, 0x48, 0x89, 0xe5];
    let mut asm = Assembler { magic, bytes, relocs: Vec::new(), ways: Vec::new() };
    if key == Key::JumpDynamic {
        asm.jump_dynamic();
        return Some(asm.finish(true));
    }
    let done = wide && asm.wide(key) || asm.flow(key) || asm.carry(key);
    done.then(|| asm.finish(false))
}

impl Assembler<'_> {
    /// The jump to the next stencil, or to the address in rax; then the cold jumps out.
    fn finish(mut self, to_rax: bool) -> Authored {
        match to_rax {
            true => self.bytes.extend([0x48, 0x89, 0xec, 0x5d, 0xff, 0xe0]),
            false => self.tail(Symbol::Next),
        }
        for (at, way) in std::mem::take(&mut self.ways) {
            let offset = (self.bytes.len() - at - 4) as i32;
            self.bytes[at..at + 4].copy_from_slice(&offset.to_le_bytes());
            self.cold(way);
        }
        Authored { bytes: self.bytes, relocs: self.relocs }
    }

    fn tail(&mut self, symbol: Symbol) {
        self.bytes.extend([0x48, 0x89, 0xec, 0x5d, 0xe9]);
        self.relocs.push((self.bytes.len(), symbol, Width::Relative));
        self.bytes.extend([0; 4]);
    }

    /// The cold code at the end of a way.
    fn cold(&mut self, way: Way) {
        match way {
            Way::Out(symbol) => self.tail(symbol),
            Way::GiveBack => {
                // add qword [rsi + gas], imm32
                self.memory_imm(Alu::Add, CX, context_offset!(gas), self.field(Field::Imm));
                self.tail(Symbol::Exit);
            }
            Way::Carry(op) => {
                for k in 1..4 {
                    self.memory(0x83, op as u8, SP, self.field(Field::Dst) + 8 * k);
                    self.bytes.push(0);
                }
                self.tail(Symbol::Next);
            }
            Way::Expand(thunk) => {
                match thunk {
                    Thunk::ExpandSlot1 | Thunk::ExpandSlot32 => {
                        self.memory(0x8d, RDX.0, SP, self.field(Field::A));
                    }
                    Thunk::ExpandConst1 | Thunk::ExpandConst32 => {
                        self.set(RDX, self.field(Field::Imm));
                    }
                }
                self.set(RCX, self.field(Field::Len));
                self.call(Symbol::Thunk(thunk as u8));
                self.tail(Symbol::Back);
            }
            Way::Calldataload { constant } => {
                self.memory(0x8d, RDX.0, SP, self.field(Field::Dst));
                match constant {
                    true => self.pool_address(RCX, Symbol::PoolA),
                    false => self.memory(0x8d, RCX.0, SP, self.field(Field::A)),
                }
                self.call(Symbol::Thunk(Helper::Calldataload as u8));
                self.tail(Symbol::Next);
            }
        }
    }

    fn call(&mut self, symbol: Symbol) {
        self.bytes.push(0xe8);
        self.relocs.push((self.bytes.len(), symbol, Width::Relative));
        self.bytes.extend([0; 4]);
    }

    /// `lea reg, [rip + constant]`
    fn pool_address(&mut self, reg: Reg, symbol: Symbol) {
        self.bytes.extend([0x48, 0x8d, 0x05 | reg.0 << 3]);
        self.relocs.push((self.bytes.len(), symbol, Width::Relative));
        self.bytes.extend([0; 4]);
    }

    fn field(&self, field: Field) -> i32 {
        self.magic.of(field) as i32
    }

    /// `opcode reg, [base + disp]`, all 64 bits; `reg` may be an opcode's digit.
    fn memory(&mut self, opcode: u8, reg: u8, base: Reg, disp: i32) {
        self.bytes.extend([0x48, opcode]);
        self.address(reg, base, disp);
    }

    /// ModRM and displacement of `[base + disp]`.
    fn address(&mut self, reg: u8, base: Reg, disp: i32) {
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

    /// `op qword [base + disp], imm32`
    fn memory_imm(&mut self, op: Alu, base: Reg, disp: i32, imm: i32) {
        self.memory(0x81, op as u8, base, disp);
        self.bytes.extend(imm.to_le_bytes());
    }

    /// `mov reg, imm32`, not negative; keeps the flags.
    fn set(&mut self, reg: Reg, imm: i32) {
        self.bytes.push(0xb8 | reg.0);
        self.bytes.extend(imm.to_le_bytes());
    }

    /// `mov reg, imm64`
    fn set_wide(&mut self, reg: Reg) {
        self.bytes.extend([0x48, 0xb8 | reg.0]);
        self.relocs.push((self.bytes.len(), Symbol::Wide, Width::Absolute));
        self.bytes.extend([0; 8]);
    }

    /// Goes another way if the condition holds.
    fn go_if(&mut self, condition: u8, way: Way) {
        self.bytes.extend([0x0f, 0x80 | condition]);
        self.ways.push((self.bytes.len(), way));
        self.bytes.extend([0; 4]);
    }

    /// Leaves the stencil if the condition holds.
    fn leave_if(&mut self, condition: u8, symbol: Symbol) {
        self.go_if(condition, Way::Out(symbol));
    }

    /// The second operand; a constant is made ready.
    fn operand(&mut self, kind: Kind) -> Limbs {
        match kind {
            Kind::Slot => Limbs::Memory(SP, self.field(Field::B)),
            Kind::Imm31 | Kind::Zero => Limbs::Imm31,
            Kind::Imm64 => {
                self.set_wide(RCX);
                Limbs::Rcx
            }
            Kind::Pool => {
                self.pool_address(RDX, Symbol::PoolB);
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
            Limbs::Imm31 if k == 0 => self.set(RAX, self.field(Field::Imm)),
            Limbs::Rcx if k == 0 => self.bytes.extend([0x48, 0x89, 0xc8]),
            Limbs::Imm31 | Limbs::Rcx => self.set(RAX, 0),
        }
    }
}
