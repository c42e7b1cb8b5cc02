//! Memory and calldata.
//!
//! **Owns** the fast paths, and the calls of helpers where they do not apply. **Callers guarantee**
//! that constant offsets leave room for a word below 2^31. **Never** expands memory itself.

use super::{FLAGS, Lower, Source};
use crate::{
    key::{Kind, Offset},
    operand::Field,
    stencil::{Symbol, Thunk},
};
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::*};
use kiln_abi::{Helper, context_offset};

/// An address: a base, and what is added to the displacement.
type Address = (Value, i32);

impl Lower<'_, '_> {
    /// `dst` = the word of memory at the offset in `a`.
    pub(crate) fn mload(&mut self, offset: Offset) {
        let (base, add) = self.memory(offset, 32);
        self.load_word(base, add);
    }

    /// Reads a big-endian word.
    fn load_word(&mut self, base: Value, add: i32) {
        for k in (0..4).rev() {
            let limb = self.b.ins().load(I64, FLAGS, base, add + 24 - 8 * k as i32);
            let limb = self.b.ins().bswap(limb);
            self.put(k, limb);
        }
    }

    /// memory\[a\] = `b`. Constants in the pool are stored there in the order of their bytes.
    pub(crate) fn mstore(&mut self, offset: Offset, kind: Kind) {
        let (base, add) = self.memory(offset, 32);
        match kind {
            Kind::Pool => {
                let word = self.pool(Field::B);
                for half in [0, 16] {
                    let value = self.b.ins().load(F32X4, FLAGS, word, half);
                    self.b.ins().store(FLAGS, value, base, add + half);
                }
            }
            Kind::Zero => {
                let zero = self.zero16();
                self.b.ins().store(FLAGS, zero, base, add);
                self.b.ins().store(FLAGS, zero, base, add + 16);
            }
            // The 64 bits are swapped already.
            Kind::Imm64 | Kind::Imm31 => {
                let zero = self.zero16();
                self.b.ins().store(FLAGS, zero, base, add);
                let zero = self.iconst(0);
                self.b.ins().store(FLAGS, zero, base, add + 16);
                let source = self.source(Field::B, Kind::Imm64);
                let value = self.limb(source, 0);
                self.b.ins().store(FLAGS, value, base, add + 24);
            }
            Kind::Slot => {
                for k in (0..4).rev() {
                    let limb = self.limb(Source::Slot(Field::B), k);
                    let limb = self.b.ins().bswap(limb);
                    self.b.ins().store(FLAGS, limb, base, add + 24 - 8 * k as i32);
                }
            }
        }
    }

    /// memory\[a\] = low byte of `b`.
    pub(crate) fn mstore8(&mut self, offset: Offset, kind: Kind) {
        let (base, add) = self.memory(offset, 1);
        let value = match kind {
            Kind::Slot => self.load_sp(I8, Field::B, 0),
            _ => self.b.ins().iconst(I8, self.magic.of(Field::Bits)),
        };
        self.b.ins().store(FLAGS, value, base, add);
    }

    /// The address of `size` bytes of memory, which are there.
    fn memory(&mut self, offset: Offset, size: i64) -> Address {
        let limit = match size {
            1 => context_offset!(mem_byte_limit),
            _ => context_offset!(mem_word_limit),
        };
        match offset {
            Offset::Slot => {
                let a = Source::Slot(Field::A);
                let slow = self.b.create_block();
                let [fits, inside] = [(); 2].map(|()| self.b.create_block());
                self.b.set_cold_block(slow);
                let low = self.limb(a, 0);
                let high = self.or_limbs(a, 1);
                self.b.ins().brif(high, slow, &[], fits, &[]);
                self.b.switch_to_block(fits);
                let limit = self.context(limit);
                let outside = self.icmp(IntCC::UnsignedGreaterThanOrEqual, low, limit);
                self.b.ins().brif(outside, slow, &[], inside, &[]);
                self.b.switch_to_block(slow);
                let address = self.slot_address(Field::A);
                self.expand(
                    address,
                    if size == 1 { Thunk::ExpandSlot1 } else { Thunk::ExpandSlot32 },
                );
                self.b.switch_to_block(inside);
                let base = self.context(context_offset!(mem_base));
                (self.b.ins().iadd(base, low), 0)
            }
            Offset::Const => {
                let limit = self.context(limit);
                let low = self.imm(Field::Imm);
                let outside = self.icmp(IntCC::UnsignedLessThanOrEqual, limit, low);
                self.cold_if(outside, |l| {
                    l.expand(
                        low,
                        if size == 1 { Thunk::ExpandConst1 } else { Thunk::ExpandConst32 },
                    );
                });
                self.covered()
            }
            Offset::Covered => self.covered(),
        }
    }

    fn covered(&mut self) -> Address {
        (self.context(context_offset!(mem_base)), self.magic.of(Field::Imm) as i32)
    }

    /// Has memory expanded, and begins again.
    fn expand(&mut self, offset: Value, thunk: Thunk) {
        let exit = self.imm(Field::Len);
        self.call(Symbol::Thunk(thunk as u8), &[offset, exit]);
        self.tail(Symbol::Back);
    }

    /// `dst` = the word of calldata at the offset in `a`.
    pub(crate) fn calldataload(&mut self, offset: Offset) {
        let slow = self.b.create_block();
        let inside = self.b.create_block();
        self.b.set_cold_block(slow);
        let (low, add) = if offset == Offset::Slot {
            let low = self.limb(Source::Slot(Field::A), 0);
            let high = self.or_limbs(Source::Slot(Field::A), 1);
            // Below 2^32, so that the end does not overflow.
            let top = self.b.ins().ushr_imm_u(low, 32);
            let any = self.b.ins().bor(high, top);
            let fits = self.b.create_block();
            self.b.ins().brif(any, slow, &[], fits, &[]);
            self.b.switch_to_block(fits);
            let end = self.b.ins().iadd_imm_s(low, 32);
            let len = self.context(context_offset!(calldata_len));
            let outside = self.icmp(IntCC::UnsignedGreaterThan, end, len);
            self.b.ins().brif(outside, slow, &[], inside, &[]);
            (Some(low), 0)
        } else {
            let len = self.context(context_offset!(calldata_len));
            let end = self.imm(Field::Len);
            let outside = self.icmp(IntCC::UnsignedLessThan, len, end);
            self.b.ins().brif(outside, slow, &[], inside, &[]);
            (None, self.magic.of(Field::Imm) as i32)
        };
        self.b.switch_to_block(slow);
        let dst = self.slot_address(Field::Dst);
        let at = match offset {
            Offset::Slot => self.slot_address(Field::A),
            _ => self.pool(Field::A),
        };
        self.call(Symbol::Thunk(Helper::Calldataload as u8), &[dst, at]);
        self.tail(Symbol::Next);

        self.b.switch_to_block(inside);
        let mut base = self.context(context_offset!(calldata));
        if let Some(low) = low {
            base = self.b.ins().iadd(base, low);
        }
        self.load_word(base, add);
    }
}
