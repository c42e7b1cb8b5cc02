//! The check at a block's start, the poll at a back-edge, and the computed jump.
//!
//! **Owns** where a block may be left before it did anything. Cranelift makes 54 bytes of a full check
//! (here 32 to 36) and 89 of a computed jump (70). **Callers guarantee** nothing. **Never** touches the
//! stack's words.

use super::*;

impl Assembler<'_> {
    /// Writes the stencil, if it is of this file.
    pub(super) fn flow(&mut self, key: Key) -> bool {
        match key {
            Key::Check { need, grow, gas } => self.check(need, grow, gas),
            Key::Poll => self.poll(),
            _ => return false,
        }
        true
    }

    /// Takes one off the countdown; leaves if it was 0.
    fn poll(&mut self) {
        // sub dword [rsi + poll], 1
        let poll = context_offset!(poll) as u8;
        self.bytes.extend([0x83, 0x40 | (Alu::Sub as u8) << 3 | CX.0, poll, 1]);
        self.leave_if(BELOW, Symbol::Exit);
    }

    /// Leaves rax the address of the compiled JUMPDEST at the pc in a slot; leaves if there is none.
    pub(super) fn jump_dynamic(&mut self) {
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
    /// charges the gas last, and at once: where it does not suffice it is given back, out of line.
    ///
    /// [`Field::A`] is `-32 * need`. [`Field::B`] is `32 * grow`, and with both `32 * (1024 - need - grow)`:
    /// one comparison tells whether what lies below the top is at least the one and at most the other.
    fn check(&mut self, need: bool, grow: bool, gas: bool) {
        match (need, grow) {
            (true, true) => {
                self.memory(0x8d, RAX.0, SP, self.field(Field::A));
                self.op_load(Alu::Sub, RAX, CX, context_offset!(stack_base));
                self.op_imm(Alu::Cmp, self.field(Field::B));
                self.leave_if(ABOVE, Symbol::Exit);
            }
            (true, false) => {
                self.memory(0x8d, RAX.0, SP, self.field(Field::A));
                self.op_load(Alu::Cmp, RAX, CX, context_offset!(stack_base));
                self.leave_if(BELOW, Symbol::Exit);
            }
            (false, true) => {
                self.memory(0x8d, RAX.0, SP, self.field(Field::B));
                self.op_load(Alu::Cmp, RAX, CX, context_offset!(stack_end));
                self.leave_if(ABOVE, Symbol::Exit);
            }
            (false, false) => {}
        }
        if gas {
            self.memory_imm(Alu::Sub, CX, context_offset!(gas), self.field(Field::Imm));
            self.go_if(BELOW, Way::GiveBack);
        }
    }
}
