//! A decoder for the x86-64 instructions stencils consist of.
//!
//! **Owns** the knowledge of how those instructions are laid out: where displacement, immediate and
//! branch offset lie, and which general registers are named. **Callers guarantee** nothing. **Never**
//! guesses: an instruction it does not know is an error, and the stencil is rejected.

/// Where a branch's offset lies and what kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Goes on with the next instruction.
    Next,
    /// `jcc rel32`; the condition code.
    Jcc(u8),
    /// `jmp rel32`.
    Jmp,
    /// `jmp r/m64`.
    JmpIndirect,
    /// `call rel32`.
    Call,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Insn {
    /// Its length in bytes.
    pub len: usize,
    /// How control leaves it.
    pub flow: Flow,
    /// Offset of the opcode byte, behind prefixes and escapes.
    pub opcode_at: usize,
    /// Offset of the ModRM byte.
    pub modrm_at: Option<usize>,
    /// Offset and size (1 or 4) of the displacement.
    pub disp: Option<(usize, usize)>,
    /// Whether the displacement is relative to the instruction pointer.
    pub rip: bool,
    /// Offset and size (1, 4 or 8) of the immediate.
    pub imm: Option<(usize, usize)>,
    /// Registers named as the base or index of an address, one bit each.
    pub address_regs: u16,
    /// General registers named as operands, one bit each.
    pub operand_regs: u16,
    /// Whether the opcode is one of the one-byte map.
    pub one_byte: bool,
}

/// What follows an opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// ModRM, and an immediate of that many bytes; whether `reg` and `rm` are general registers.
    ModRm { imm: usize, reg: bool, rm: bool },
    /// No ModRM; an immediate of that many bytes; the register is in the opcode.
    OpcodeReg { imm: usize },
    /// No ModRM; an immediate for the accumulator.
    Accumulator { imm: usize },
    /// A branch with a 32-bit offset.
    Branch(Flow),
}

const GENERAL: Form = Form::ModRm { imm: 0, reg: true, rm: true };
/// The opcode's own digit is in `reg`.
const fn digit(imm: usize) -> Form {
    Form::ModRm { imm, reg: false, rm: true }
}
/// `reg` and `rm` are vector registers (or memory).
const VECTOR: Form = Form::ModRm { imm: 0, reg: false, rm: false };

/// The instructions of the one-byte map. `reg` is the ModRM's digit.
fn one_byte(opcode: u8, wide: bool, operand16: bool, digit_of: u8) -> Option<Form> {
    let imm_z = if operand16 { 2 } else { 4 };
    Some(match opcode {
        0x00..=0x3f if opcode & 7 < 4 => GENERAL,
        0x00..=0x3f if opcode & 7 == 4 => Form::Accumulator { imm: 1 },
        0x00..=0x3f if opcode & 7 == 5 => Form::Accumulator { imm: imm_z },
        0x50..=0x5f => Form::OpcodeReg { imm: 0 },
        0x63 | 0x84..=0x8b | 0x8d => GENERAL,
        0x69 => Form::ModRm { imm: imm_z, reg: true, rm: true },
        0x6b => Form::ModRm { imm: 1, reg: true, rm: true },
        0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => digit(1),
        0x81 | 0xc7 => digit(imm_z),
        0xa8 => Form::Accumulator { imm: 1 },
        0xa9 => Form::Accumulator { imm: imm_z },
        0xb8..=0xbf => Form::OpcodeReg { imm: if wide { 8 } else { 4 } },
        0xd1 | 0xd3 => digit(0),
        0xe8 => Form::Branch(Flow::Call),
        0xe9 => Form::Branch(Flow::Jmp),
        0xf6 => digit(if digit_of < 2 { 1 } else { 0 }),
        0xf7 => digit(if digit_of < 2 { imm_z } else { 0 }),
        0xff => digit(0),
        _ => return None,
    })
}

/// The instructions of the two-byte map (0F xx).
fn two_byte(opcode: u8) -> Option<Form> {
    Some(match opcode {
        0x10 | 0x11 | 0x28 | 0x29 | 0x57 | 0x6c | 0x6f | 0x7f | 0xef => VECTOR,
        0x6e | 0x7e => Form::ModRm { imm: 0, reg: false, rm: true },
        0x40..=0x4f | 0xa3 | 0xa5 | 0xaf | 0xb6 | 0xb7 | 0xb8 | 0xbc..=0xbf => GENERAL,
        0x80..=0x8f => Form::Branch(Flow::Jcc(opcode & 15)),
        0x90..=0x9f => digit(0),
        0xa4 | 0xac => Form::ModRm { imm: 1, reg: true, rm: true },
        0xba => digit(1),
        0xc8..=0xcf => Form::OpcodeReg { imm: 0 },
        _ => return None,
    })
}

/// Decodes the instruction at the start of `bytes`, if it is one that stencils may hold.
pub(crate) fn decode(bytes: &[u8]) -> Option<Insn> {
    let at = |index: usize| bytes.get(index).copied();
    let (mut i, mut rex, mut operand16) = (0, 0, false);
    while matches!(at(i)?, 0x66 | 0xf2 | 0xf3) {
        operand16 |= bytes[i] == 0x66;
        i += 1;
    }
    if at(i)? & 0xf0 == 0x40 {
        rex = bytes[i];
        i += 1;
    }
    match at(i)? {
        0xc4 => return vex3(bytes, i),
        0xc5 => return vex2(bytes, i),
        _ => {}
    }
    let opcode_at;
    let (form, one_byte) = if at(i)? == 0x0f {
        opcode_at = i + 1;
        (two_byte(at(i + 1)?)?, false)
    } else {
        opcode_at = i;
        let digit_of = at(i + 1).unwrap_or(0) >> 3 & 7;
        (one_byte(at(i)?, rex & 8 != 0, operand16, digit_of)?, true)
    };
    let insn = body(bytes, opcode_at, form, rex & 4 != 0, rex & 2 != 0, rex & 1 != 0)?;
    Some(Insn { one_byte, ..insn })
}

/// Vector instructions, with a two-byte VEX prefix at `i`.
fn vex2(bytes: &[u8], i: usize) -> Option<Insn> {
    let (p, opcode) = (*bytes.get(i + 1)?, *bytes.get(i + 2)?);
    let form = match opcode {
        0x6f | 0x7f | 0xdb | 0xeb | 0xef => VECTOR,
        0x6e => Form::ModRm { imm: 0, reg: false, rm: true },
        _ => return None,
    };
    body(bytes, i + 2, form, p & 0x80 == 0, false, false)
}

/// BMI and vector instructions, with a three-byte VEX prefix at `i`.
fn vex3(bytes: &[u8], i: usize) -> Option<Insn> {
    let (p1, p2, opcode) = (*bytes.get(i + 1)?, *bytes.get(i + 2)?, *bytes.get(i + 3)?);
    let form = match (p1 & 0x1f, opcode) {
        (2, 0xf2 | 0xf5 | 0xf6 | 0xf7) => GENERAL,
        (2, 0xf3) => digit(0),
        (3, 0xf0) => Form::ModRm { imm: 1, reg: true, rm: true },
        (1, 0x6e) => Form::ModRm { imm: 0, reg: false, rm: true },
        (2, 0x00 | 0x17) => VECTOR,
        (3, 0x00) => Form::ModRm { imm: 1, reg: false, rm: false },
        _ => return None,
    };
    let mut insn = body(bytes, i + 3, form, p1 & 0x80 == 0, p1 & 0x40 == 0, p1 & 0x20 == 0)?;
    if p1 & 0x1f != 1 && opcode >= 0xf0 {
        insn.operand_regs |= 1 << (!p2 >> 3 & 15);
    }
    Some(insn)
}

/// Everything behind the opcode at `opcode_at`; `r`, `x`, `b` extend the register numbers.
fn body(bytes: &[u8], opcode_at: usize, form: Form, r: bool, x: bool, b: bool) -> Option<Insn> {
    let opcode = bytes[opcode_at];
    let mut insn = Insn {
        len: opcode_at + 1,
        flow: Flow::Next,
        opcode_at,
        modrm_at: None,
        disp: None,
        rip: false,
        imm: None,
        address_regs: 0,
        operand_regs: 0,
        one_byte: false,
    };
    let imm = match form {
        Form::Branch(flow) => {
            insn.flow = flow;
            4
        }
        Form::Accumulator { imm } => {
            insn.operand_regs = 1;
            imm
        }
        Form::OpcodeReg { imm } => {
            insn.operand_regs = 1 << (opcode & 7 | (b as u8) << 3);
            imm
        }
        Form::ModRm { imm, reg, rm } => {
            address(bytes, &mut insn, reg, rm, [r, x, b])?;
            if opcode == 0xff && bytes[opcode_at + 1] >> 3 & 7 == 4 {
                insn.flow = Flow::JmpIndirect;
            }
            imm
        }
    };
    if imm != 0 {
        insn.imm = Some((insn.len, imm));
        insn.len += imm;
    }
    (insn.len <= bytes.len()).then_some(insn)
}

/// ModRM, SIB and displacement.
fn address(bytes: &[u8], insn: &mut Insn, reg: bool, rm: bool, [r, x, b]: [bool; 3]) -> Option<()> {
    let modrm_at = insn.len;
    let modrm = *bytes.get(modrm_at)?;
    insn.modrm_at = Some(modrm_at);
    insn.len += 1;
    if reg {
        insn.operand_regs |= 1 << (modrm >> 3 & 7 | (r as u8) << 3);
    }
    let (mode, low) = (modrm >> 6, modrm & 7);
    if mode == 3 {
        if rm {
            insn.operand_regs |= 1 << (low | (b as u8) << 3);
        }
        return Some(());
    }
    let mut disp = [0, 1, 4][mode as usize];
    if low == 4 {
        let sib = *bytes.get(insn.len)?;
        insn.len += 1;
        let index = sib >> 3 & 7 | (x as u8) << 3;
        if index != 4 {
            insn.address_regs |= 1 << index;
        }
        if mode == 0 && sib & 7 == 5 {
            disp = 4;
        } else {
            insn.address_regs |= 1 << (sib & 7 | (b as u8) << 3);
        }
    } else if mode == 0 && low == 5 {
        insn.rip = true;
        disp = 4;
    } else {
        insn.address_regs |= 1 << (low | (b as u8) << 3);
    }
    if disp != 0 {
        insn.disp = Some((insn.len, disp));
        insn.len += disp;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_lengths_and_fields() {
        let cases: &[(&[u8], usize)] = &[
            (&[0x55], 1),
            (&[0x48, 0x89, 0xe5], 3),
            (&[0x48, 0x8b, 0x87, 1, 2, 3, 4], 7),
            (&[0x48, 0x8b, 0x47, 0x08], 4),
            (&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], 10),
            (&[0xb8, 1, 2, 3, 4], 5),
            (&[0x0f, 0x84, 1, 2, 3, 4], 6),
            (&[0x48, 0x0f, 0xa4, 0xc8, 13], 5),
            (&[0x48, 0xc7, 0x87, 1, 2, 3, 4, 5, 6, 7, 8], 11),
            (&[0xc4, 0xe2, 0xf3, 0xf6, 0xc2], 5),
            (&[0x48, 0x8d, 0x05, 1, 2, 3, 4], 7),
            (&[0x42, 0x8b, 0x04, 0x81], 4),
            (&[0xc5, 0xfe, 0x6f, 0x47, 0x20], 5),
            (&[0xc5, 0xfd, 0xef, 0x05, 1, 2, 3, 4], 8),
            (&[0xc4, 0xe3, 0xfd, 0x00, 0x47, 0x20, 0x1b], 7),
            (&[0xc4, 0xe2, 0x7d, 0x17, 0xc0], 5),
            (&[0xc4, 0xe1, 0xf9, 0x6e, 0xc0], 5),
        ];
        for (bytes, len) in cases {
            let insn = decode(bytes).unwrap_or_else(|| panic!("{bytes:x?} is not decoded"));
            assert_eq!(insn.len, *len, "{bytes:x?}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(decode(&[0xcd, 0x80]).is_none());
        assert!(decode(&[0x0f, 0x0b]).is_none());
        assert!(decode(&[0x48, 0x8b, 0x87, 1, 2]).is_none());
        assert!(decode(&[]).is_none());
    }
}
