//! Memory, calldata, and what the context tells about the frame.
//!
//! **Owns** the fast paths of accesses, and the calls of helpers where they do not apply. **Callers
//! guarantee** that an access that is not checked lies inside of memory. **Never** expands memory itself.

use super::{
    Lower,
    word::{Limb, Limbs},
};
use crate::CompileError;
use cranelift_codegen::ir::{InstBuilder, Value, condcodes::IntCC, types::*};
use kiln_abi::{ExitId, context_offset, envelope::Thunk};
use kiln_ir::ssa::demand::LimbSet;

/// Constants that are added in a displacement are at most this, so that a word there ends below 2^31.
const OFFSET_MAX: u64 = i32::MAX as u64 - 64;

/// An address: a base, and a displacement.
type Address = (Value, i32);

impl Lower<'_, '_> {
    /// The address of `size` bytes of memory at an offset, which are there; `exit` where they may not be.
    fn memory(
        &mut self,
        offset: Limbs,
        size: u64,
        exit: Option<ExitId>,
    ) -> Result<Address, CompileError> {
        if let Some(exit) = exit {
            self.cover(offset, size, exit)?;
        }
        let base = self.context(context_offset!(mem_base));
        if let Limb::Const(at @ ..=OFFSET_MAX) = offset.0[0] {
            return Ok((base, at as i32));
        }
        let at = self.value(offset.0[0]);
        Ok((self.b.ins().iadd(base, at), 0))
    }

    /// Compares with the limit; what lies outside is expanded, or left through the exit.
    fn cover(&mut self, offset: Limbs, size: u64, exit: ExitId) -> Result<(), CompileError> {
        let out = self.b.create_block();
        let gas_at_exit = self.b.append_block_param(out, I64);
        self.b.set_cold_block(out);
        let wide = self.any(&offset.0[1..]);
        let gas = self.gas;
        match wide {
            Limb::Const(0) => {}
            // Memory never reaches so far: without asking.
            wide => {
                let fits = self.b.create_block();
                let wide = self.value(wide);
                self.b.ins().brif(wide, out, &[gas.into()], fits, &[]);
                self.b.switch_to_block(fits);
            }
        }
        let (limit, thunk) = match size {
            1 => (context_offset!(mem_byte_limit), Thunk::ExpandByte),
            _ => (context_offset!(mem_word_limit), Thunk::ExpandWord),
        };
        let at = self.value(offset.0[0]);
        let (slow, inside) = (self.cold_block(), self.b.create_block());
        let gas_inside = self.b.append_block_param(inside, I64);
        let outside = self.outside(at, limit);
        self.b.ins().brif(outside, slow, &[], inside, &[gas.into()]);

        self.b.switch_to_block(slow);
        let record = self.exit_record(exit)?;
        self.store_gas();
        self.call_thunk(thunk, &[self.cx, record, at]);
        let gas = self.context(context_offset!(gas));
        // What was refused is as far outside as before.
        let outside = self.outside(at, limit);
        self.b.ins().brif(outside, out, &[gas.into()], inside, &[gas.into()]);

        self.b.switch_to_block(out);
        self.gas = gas_at_exit;
        self.leave(exit)?;

        self.b.switch_to_block(inside);
        self.gas = gas_inside;
        Ok(())
    }

    /// Whether an offset is at or over a limit of the context.
    fn outside(&mut self, at: Value, limit: i32) -> Value {
        let limit = self.context(limit);
        self.b.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, at, limit)
    }

    pub(super) fn mload(
        &mut self,
        offset: Limbs,
        limbs: LimbSet,
        exit: Option<ExitId>,
    ) -> Result<Limbs, CompileError> {
        let (base, at) = self.memory(offset, 32, exit)?;
        Ok(self.load_bytes(base, at, limbs))
    }

    /// Limbs of a big-endian word.
    fn load_bytes(&mut self, base: Value, at: i32, limbs: LimbSet) -> Limbs {
        let mut word = Limbs::ZERO;
        for (k, loaded) in (0..).zip(&mut word.0) {
            if limbs >> k & 1 != 0 {
                let limb = self.b.ins().load(I64, self.flags.memory, base, at + 24 - 8 * k);
                *loaded = Limb::Value(self.b.ins().bswap(limb));
            }
        }
        word
    }

    pub(super) fn mstore(
        &mut self,
        offset: Limbs,
        word: Limbs,
        exit: Option<ExitId>,
    ) -> Result<(), CompileError> {
        let (base, at) = self.memory(offset, 32, exit)?;
        for k in (0..4).rev() {
            let limb = match word.0[k] {
                Limb::Const(limb) => self.iconst(limb.swap_bytes()),
                Limb::Value(limb) => self.b.ins().bswap(limb),
            };
            self.b.ins().store(self.flags.memory, limb, base, at + 24 - 8 * k as i32);
        }
        Ok(())
    }

    pub(super) fn mstore8(
        &mut self,
        offset: Limbs,
        word: Limbs,
        exit: Option<ExitId>,
    ) -> Result<(), CompileError> {
        let (base, at) = self.memory(offset, 1, exit)?;
        let low = self.value(word.0[0]);
        self.b.ins().istore8(self.flags.memory, low, base, at);
        Ok(())
    }

    /// The word of calldata at any offset, zeros behind its end.
    pub(super) fn calldataload(&mut self, offset: Limbs, limbs: LimbSet) -> Limbs {
        let (done, slow, inside) = (self.join(limbs), self.cold_block(), self.b.create_block());
        let low = self.value(offset.0[0]);
        // Below 2^32, so that the end does not overflow.
        let top = self.shr_limb(offset.0[0], 32);
        let wide = self.any(&offset.0[1..]);
        let far = self.or_limb(top, wide);
        if !far.is_zero() {
            let fits = self.b.create_block();
            let far = self.value(far);
            self.b.ins().brif(far, slow, &[], fits, &[]);
            self.b.switch_to_block(fits);
        }
        let end = self.add_limb(offset.0[0], Limb::Const(32));
        let end = self.value(end);
        let len = self.context(context_offset!(calldata_len));
        let outside = self.b.ins().icmp(IntCC::UnsignedGreaterThan, end, len);
        self.b.ins().brif(outside, slow, &[], inside, &[]);

        self.b.switch_to_block(slow);
        let [dst, at] = [0, 1].map(|word| self.scratch_address(word));
        self.store_scratch(1, offset);
        // It never refuses, and takes no gas.
        self.call_thunk(Thunk::Calldataload, &[self.cx, dst, at]);
        let word = self.load_scratch(limbs);
        self.jump_to_join(done, word, limbs);

        self.b.switch_to_block(inside);
        let base = self.context(context_offset!(calldata));
        let base = self.b.ins().iadd(base, low);
        let word = self.load_bytes(base, 0, limbs);
        self.jump_to_join(done, word, limbs);
        self.enter_join(done, limbs)
    }

    /// A scalar of the context, as a word.
    pub(super) fn scalar(&mut self, offset: i32) -> Limbs {
        Limbs::narrow(Limb::Value(self.context(offset)))
    }

    /// The gas left once what is not yet due is counted back in.
    pub(super) fn gas_left(&mut self, not_due: u32) -> Limbs {
        Limbs::narrow(self.add_limb(Limb::Value(self.gas), Limb::Const(not_due.into())))
    }

    /// The 20 bytes that a pointer of the context points to, big-endian.
    pub(super) fn address(&mut self, offset: i32) -> Limbs {
        let bytes = self.context(offset);
        let flags = self.flags.context;
        let high = self.b.ins().load(I32, flags, bytes, 0);
        let high = self.b.ins().bswap(high);
        let high = self.b.ins().uextend(I64, high);
        let mut limb = |at| {
            let limb = self.b.ins().load(I64, flags, bytes, at);
            Limb::Value(self.b.ins().bswap(limb))
        };
        Limbs([limb(12), limb(4), Limb::Value(high), Limb::ZERO])
    }

    pub(super) fn call_value(&mut self, limbs: LimbSet) -> Limbs {
        let word = self.context(context_offset!(call_value));
        self.load_word(self.flags.context, word, 0, limbs)
    }
}
