//! The evaluator's machine: the same [`Context`] and helper table that native code works on.
//!
//! **Owns** the translation between [`Machine`] and the context. **Callers guarantee** what native
//! code demands of a context, and a verified module. **Never** has semantics of its own.

use kiln_abi::{
    CONTINUE, Context, EntryTable, ExitId, ExitRecord, Guarded3Fn, Helper, HelperTable,
    InstructionFn, Records, STACK_LIMIT, Slot, Word,
};
use kiln_ir::eval::{Environment, Machine};

/// Works on a context in place of native code.
#[derive(Debug)]
pub(crate) struct EvalMachine<'a> {
    cx: *mut Context,
    sp: *mut Word,
    records: &'a Records,
    /// Blocks of the module that can be entered by a computed jump.
    blocks: usize,
}

impl<'a> EvalMachine<'a> {
    /// # Safety
    /// `cx` is a complete context for a frame run and stays so; `sp` points into its stack; modules
    /// that are run on this machine passed the verifier; `records` are those of their exits.
    pub(crate) unsafe fn new(
        cx: *mut Context,
        sp: *mut Word,
        records: &'a Records,
        blocks: usize,
    ) -> Self {
        Self { cx, sp, records, blocks }
    }

    /// The record of an exit.
    pub(crate) fn record(&self, exit: ExitId) -> ExitRecord {
        let number = self.records.number(exit).expect("an exit of the module");
        self.records.words[number as usize..].as_ptr()
    }

    /// The stack pointer.
    pub(crate) fn sp(&self) -> *mut Word {
        self.sp
    }

    fn cx(&self) -> &Context {
        // SAFETY: valid by `new`; no helper runs while the reference lives.
        unsafe { &*self.cx }
    }

    fn table(&self) -> &'static HelperTable {
        // SAFETY: tables are static.
        unsafe { &*self.cx().helpers }
    }

    fn slot(&self, slot: Slot) -> *mut Word {
        let at = self.sp.wrapping_offset(slot.0 as isize);
        let (base, end) = (self.cx().stack_base, self.cx().stack_end);
        assert!((base..end).contains(&at), "slot {slot} lies outside of the stack");
        at
    }
}

fn guarded_fn(table: &HelperTable, helper: Helper) -> Guarded3Fn {
    match helper {
        Helper::Calldataload => table.calldataload,
        Helper::Exp => table.exp,
        Helper::Keccak256 => table.keccak256,
        Helper::Sload => table.sload,
        Helper::Tload => table.tload,
        Helper::Tstore => table.tstore,
        Helper::Calldatacopy => table.calldatacopy,
        Helper::Codecopy => table.codecopy,
        Helper::Returndatacopy => table.returndatacopy,
        Helper::Mcopy => table.mcopy,
        _ => unreachable!("{} is not a guarded helper", helper.name()),
    }
}

fn instruction_fn(table: &HelperTable, helper: Helper) -> InstructionFn {
    match helper {
        Helper::Sstore => table.sstore,
        Helper::Log => table.log,
        Helper::Instruction => table.instruction,
        _ => unreachable!("{} is not an instruction helper", helper.name()),
    }
}

fn big_endian(bytes: *const u8) -> Word {
    let mut word = [0; 32];
    // SAFETY: addresses in the context are 20 bytes.
    unsafe { word[12..].as_mut_ptr().copy_from_nonoverlapping(bytes, 20) };
    from_big_endian(word)
}

fn from_big_endian(bytes: [u8; 32]) -> Word {
    Word(*revm::primitives::U256::from_be_bytes(bytes).as_limbs())
}

fn to_big_endian(word: Word) -> [u8; 32] {
    revm::primitives::U256::from_limbs(word.0).to_be_bytes()
}

/// Pointers to the operands of a guarded helper, in order; null behind the last.
fn pointers(args: &mut [Option<Word>; 3]) -> impl FnMut() -> *mut Word {
    let mut pointers =
        args.iter_mut().map(|arg| arg.as_mut().map_or(std::ptr::null_mut(), std::ptr::from_mut));
    move || pointers.next().unwrap_or(std::ptr::null_mut())
}

impl kiln_ir::ssa::eval::Machine for EvalMachine<'_> {
    fn guarded_value(
        &mut self,
        helper: Helper,
        exit: ExitId,
        mut args: [Option<Word>; 3],
    ) -> Option<Word> {
        let function = guarded_fn(self.table(), helper);
        let mut next = pointers(&mut args);
        let mut result = Word::ZERO;
        // SAFETY: the context is complete by `new`; the pointers are as the helper's row says.
        let answer = unsafe { function(self.cx, self.record(exit), &mut result, next(), next()) };
        (answer == CONTINUE).then_some(result)
    }
}

impl Machine for EvalMachine<'_> {
    fn word(&self, slot: Slot) -> Word {
        // SAFETY: within the stack buffer, as asserted; the verifier saw that it was written.
        unsafe { self.slot(slot).read() }
    }

    fn set_word(&mut self, slot: Slot, value: Word) {
        // SAFETY: within the stack buffer, as asserted.
        unsafe { self.slot(slot).write(value) }
    }

    fn height(&self) -> usize {
        let height = (self.sp as usize - self.cx().stack_base as usize) / Word::BYTES;
        debug_assert!(height <= STACK_LIMIT);
        height
    }

    fn move_sp(&mut self, words: i16) {
        self.sp = self.sp.wrapping_offset(words as isize);
    }

    fn poll(&mut self) -> bool {
        // SAFETY: valid by `new`.
        let poll = unsafe { &mut (*self.cx).poll };
        let left = *poll;
        *poll = left.wrapping_sub(1);
        left != 0
    }

    fn gas(&self) -> u64 {
        self.cx().gas
    }

    fn set_gas(&mut self, gas: u64) {
        // SAFETY: valid by `new`.
        unsafe { (*self.cx).gas = gas }
    }

    fn memory_covers(&self, offset: u64, size: u64) -> bool {
        match size {
            1 => offset < self.cx().mem_byte_limit,
            _ => offset < self.cx().mem_word_limit,
        }
    }

    fn load_word(&self, offset: u64) -> Word {
        assert!(self.memory_covers(offset, 32));
        // SAFETY: covered: `offset + 32` bytes of memory are there.
        let bytes = unsafe { self.cx().mem_base.add(offset as usize).cast::<[u8; 32]>().read() };
        from_big_endian(bytes)
    }

    fn store_word(&mut self, offset: u64, value: Word) {
        assert!(self.memory_covers(offset, 32));
        let at = self.cx().mem_base.wrapping_add(offset as usize).cast::<[u8; 32]>();
        // SAFETY: covered: `offset + 32` bytes of memory are there.
        unsafe { at.write(to_big_endian(value)) }
    }

    fn store_byte(&mut self, offset: u64, value: u8) {
        assert!(self.memory_covers(offset, 1));
        // SAFETY: covered: `offset + 1` bytes of memory are there.
        unsafe { self.cx().mem_base.add(offset as usize).write(value) }
    }

    fn expand(&mut self, exit: ExitId, offset: Word, size: u64) -> bool {
        // SAFETY: the context is complete by `new`; the offset is a word on this stack.
        unsafe { (self.table().expand)(self.cx, self.record(exit), &offset, 0, size) == CONTINUE }
    }

    fn calldata_word(&mut self, offset: Word) -> Word {
        let mut word = Word::ZERO;
        // SAFETY: as for `expand`.
        unsafe {
            (self.table().calldataload)(
                self.cx,
                std::ptr::null(),
                &mut word,
                &offset,
                std::ptr::null(),
            )
        };
        word
    }

    fn environment(&self, what: Environment) -> Word {
        let cx = self.cx();
        match what {
            Environment::Address => big_endian(cx.address),
            Environment::Caller => big_endian(cx.caller),
            // SAFETY: the context points to the call's value.
            Environment::CallValue => unsafe { *cx.call_value },
            Environment::Calldatasize => Word::from_u64(cx.calldata_len),
            Environment::Returndatasize => Word::from_u64(cx.returndata_len),
            Environment::Msize => Word::from_u64(cx.msize),
        }
    }

    fn guarded(
        &mut self,
        helper: Helper,
        exit: ExitId,
        dst: Option<Slot>,
        mut args: [Option<Word>; 3],
    ) -> bool {
        let function = guarded_fn(self.table(), helper);
        let mut next = pointers(&mut args);
        // The first pointer is the destination; the copies have none, but three operands.
        let p0 = match (dst, helper) {
            (Some(dst), _) => self.slot(dst),
            (None, Helper::Tstore) => std::ptr::null_mut(),
            (None, _) => next(),
        };
        // SAFETY: the context is complete by `new`; the pointers are as the helper's row says.
        unsafe { function(self.cx, self.record(exit), p0, next(), next()) == CONTINUE }
    }

    fn instruction(&mut self, helper: Helper, exit: ExitId) -> bool {
        let function = instruction_fn(self.table(), helper);
        // SAFETY: the context is complete by `new`; the stack pointer is the one at this exit.
        unsafe { function(self.cx, self.record(exit), self.sp) == CONTINUE }
    }

    fn entry(&self, destination: Word) -> Option<usize> {
        let cx = self.cx();
        let pc = destination.as_u64()?;
        // SAFETY: the context's table is that of a program, which does not change; by `new`.
        let entry = unsafe { EntryTable::read(cx.entries, cx.entries_len, pc) };
        // Entry `n` is block `n - 1`; see `Program::evaluated`. Regions are entered by way of the host.
        let block = (entry >> 1) as usize;
        (entry & 1 != 0 && block <= self.blocks).then(|| block - 1)
    }
}
