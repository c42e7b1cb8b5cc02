//! Memory, calldata, and what the context tells about the frame.
//!
//! **Owns** the fast paths of accesses, and the calls of helpers where they do not apply. **Callers
//! guarantee** that an access that is not checked lies inside of memory. **Never** expands memory itself.

use super::{CompileError, Int, Lower, emit::Area, ops::bits};
use inkwell::{IntPredicate, values::PointerValue};
use kiln_abi::{ExitId, Word, context_offset, envelope::Thunk};

/// Bytes of a word.
const WORD: u32 = Word::BYTES as u32;

impl<'c> Lower<'c, '_, '_> {
    /// A field of the context of 64 bits.
    pub(super) fn context(&mut self, area: Area, offset: i32) -> Result<Int<'c>, CompileError> {
        let at = self.e.offset(self.cx, offset.into())?;
        self.e.load(area, at, 64, 8)
    }

    /// A pointer in the context.
    pub(super) fn context_pointer(
        &mut self,
        area: Area,
        offset: i32,
    ) -> Result<PointerValue<'c>, CompileError> {
        let at = self.e.offset(self.cx, offset.into())?;
        self.e.load_pointer(area, at)
    }

    /// The address of `size` bytes of memory at an offset, which are there; `exit` where they may not be.
    fn memory(
        &mut self,
        offset: Int<'c>,
        size: u32,
        exit: Option<ExitId>,
    ) -> Result<PointerValue<'c>, CompileError> {
        if let Some(exit) = exit {
            self.cover(offset, size, exit)?;
        }
        let base = self.context_pointer(Area::Context, context_offset!(mem_base))?;
        let offset = self.e.resize(offset, 64)?;
        self.e.index(base, offset)
    }

    /// Compares with the limit; what lies outside is expanded, or left through the exit.
    fn cover(&mut self, offset: Int<'c>, size: u32, exit: ExitId) -> Result<(), CompileError> {
        let (out, slow, inside) = (self.e.block()?, self.e.block()?, self.e.block()?);
        let gas = self.gas;
        let mut gas_out = Vec::with_capacity(2);
        // Memory never reaches so far: without asking.
        if let Some(wide) = self.beyond_limb(offset)? {
            let fits = self.e.block()?;
            gas_out.push((gas, self.e.here()?));
            self.e.branch_rarely(wide, out, fits)?;
            self.e.switch_to(fits);
        }
        let (limit, thunk) = match size {
            1 => (context_offset!(mem_byte_limit), Thunk::ExpandByte),
            _ => (context_offset!(mem_word_limit), Thunk::ExpandWord),
        };
        let at = self.e.resize(offset, 64)?;
        let outside = self.outside(at, limit)?;
        let fast_end = self.e.here()?;
        self.e.branch_rarely(outside, slow, inside)?;

        self.e.switch_to(slow);
        let record = self.exit_record(exit)?;
        self.store_gas()?;
        self.call_thunk(thunk, &[self.cx.into(), record.into(), at.into()])?;
        let gas_left = self.context(Area::Context, context_offset!(gas))?;
        // What was refused is as far outside as before.
        let outside = self.outside(at, limit)?;
        let slow_end = self.e.here()?;
        gas_out.push((gas_left, slow_end));
        self.e.branch_rarely(outside, out, inside)?;

        self.e.switch_to(out);
        let phi = self.e.phi(64)?;
        gas_out.iter().for_each(|(gas, from)| phi.add_incoming(&[(gas, *from)]));
        self.gas = phi.as_basic_value().into_int_value();
        self.leave(exit)?;

        self.e.switch_to(inside);
        let phi = self.e.phi(64)?;
        phi.add_incoming(&[(&gas, fast_end), (&gas_left, slow_end)]);
        self.gas = phi.as_basic_value().into_int_value();
        Ok(())
    }

    /// Whether an offset is at or over a limit of the context.
    fn outside(&mut self, at: Int<'c>, limit: i32) -> Result<Int<'c>, CompileError> {
        let limit = self.context(Area::Context, limit)?;
        self.e.compare(IntPredicate::UGE, at, limit)
    }

    pub(super) fn mload(
        &mut self,
        offset: Int<'c>,
        width: u32,
        exit: Option<ExitId>,
    ) -> Result<Int<'c>, CompileError> {
        let at = self.memory(offset, WORD, exit)?;
        self.load_bytes(Area::Memory, at, WORD, width)
    }

    /// The lowest bits of a big-endian number of so many bytes.
    fn load_bytes(
        &mut self,
        area: Area,
        at: PointerValue<'c>,
        bytes: u32,
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        let at = self.e.offset(at, i64::from(bytes) - i64::from(width / 8))?;
        let loaded = self.e.load(area, at, width, 1)?;
        self.e.bswap(loaded)
    }

    pub(super) fn mstore(
        &mut self,
        offset: Int<'c>,
        word: Int<'c>,
        exit: Option<ExitId>,
    ) -> Result<(), CompileError> {
        let at = self.memory(offset, WORD, exit)?;
        let word = self.e.resize(word, 256)?;
        let bytes = self.e.bswap(word)?;
        self.e.store(Area::Memory, at, bytes, 1)
    }

    pub(super) fn mstore8(
        &mut self,
        offset: Int<'c>,
        word: Int<'c>,
        exit: Option<ExitId>,
    ) -> Result<(), CompileError> {
        let at = self.memory(offset, 1, exit)?;
        let low = self.e.resize(word, 8)?;
        self.e.store(Area::Memory, at, low, 1)
    }

    /// The word of calldata at any offset, zeros behind its end.
    pub(super) fn calldataload(
        &mut self,
        offset: Int<'c>,
        width: u32,
    ) -> Result<Int<'c>, CompileError> {
        let (done, slow, inside) = (self.e.block()?, self.e.block()?, self.e.block()?);
        // Below 2^32, so that the end does not overflow.
        let limit = self.e.wide(bits(offset), &[u32::MAX.into()]);
        let far = self.e.compare(IntPredicate::UGT, offset, limit)?;
        let fits = self.e.block()?;
        self.e.branch_rarely(far, slow, fits)?;

        self.e.switch_to(fits);
        let (low, word) = (self.e.resize(offset, 64)?, self.e.int(64, WORD.into()));
        let end = self.e.add(low, word)?;
        let len = self.context(Area::Fixed, context_offset!(calldata_len))?;
        let outside = self.e.compare(IntPredicate::UGT, end, len)?;
        self.e.branch_rarely(outside, slow, inside)?;

        self.e.switch_to(slow);
        let [dst, at] = self.scratch_pair()?;
        self.store_scratch(1, offset)?;
        // It never refuses, and takes no gas.
        self.call_thunk(Thunk::Calldataload, &[self.cx.into(), dst.into(), at.into()])?;
        let copied = self.load_scratch(width)?;
        let slow_end = self.e.here()?;
        self.e.jump(done)?;

        self.e.switch_to(inside);
        let base = self.context_pointer(Area::Context, context_offset!(calldata))?;
        let at = self.e.index(base, low)?;
        let loaded = self.load_bytes(Area::Memory, at, WORD, width)?;
        let inside_end = self.e.here()?;
        self.e.jump(done)?;

        self.e.switch_to(done);
        let phi = self.e.phi(width)?;
        phi.add_incoming(&[(&copied, slow_end), (&loaded, inside_end)]);
        Ok(phi.as_basic_value().into_int_value())
    }

    /// The 20 bytes that a pointer of the context points to, big-endian.
    pub(super) fn address(&mut self, offset: i32, width: u32) -> Result<Int<'c>, CompileError> {
        let bytes = self.context_pointer(Area::Fixed, offset)?;
        if width < 256 {
            return self.load_bytes(Area::Fixed, bytes, 20, width);
        }
        let low = self.load_bytes(Area::Fixed, bytes, 20, 128)?;
        let high = self.load_bytes(Area::Fixed, bytes, 4, 32)?;
        let (low, high) = (self.e.resize(low, 256)?, self.e.resize(high, 256)?);
        let high = self.e.shl(high, 128)?;
        self.e.or(high, low)
    }

    pub(super) fn call_value(&mut self, width: u32) -> Result<Int<'c>, CompileError> {
        let word = self.context_pointer(Area::Fixed, context_offset!(call_value))?;
        self.e.load(Area::Fixed, word, width, 8)
    }
}
