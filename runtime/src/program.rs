//! What was compiled for one code under one configuration.
//!
//! **Owns** everything compiled code needs to run, so that holding a [`Program`] pins it.
//! **Callers guarantee** (to the function that runs it) a context built for this program.

use crate::{
    eval_machine::EvalMachine,
    hooks::Tier,
    memory::{CodeBlock, MemoryError},
    observe::Registration,
    regions::Regions,
};
use kiln_abi::{Context, EnterFn, EntryTable, Leave, Pc, RawEntries, Records, Word};
use kiln_ir::Module;
use revm::bytecode::Bytecode;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering},
};

/// An immutable compiled program.
///
/// What each frame looks at lies in its first cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Program {
    /// What entries are offsets from. Null for the evaluator.
    base: *const u8,
    entries: Entries,
    /// What its frames are to look after at safepoints: [`SUPERSEDED`], [`PROFILED`].
    calls: AtomicU8,
    bytecode: Bytecode,
    body: Body,
    /// The optimised regions that its code has in the place of blocks.
    optimised: Option<Arc<Regions>>,
    blocks: usize,
    instructions: usize,
    /// The store has it. Relaxed: a hint.
    saved: AtomicBool,
}

const _: () =
    assert!(std::mem::offset_of!(Program, body) <= 64, "what frames look at is in one line");

// SAFETY: the pointers are to memory that `body` owns and that nobody writes.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

/// Its slot has another program, or none. Set (release) after that was stored; who sees it (acquire) does not
/// find this one in the slot.
const SUPERSEDED: u8 = 1;
/// The code is to be profiled. Relaxed: who misses it comes by again.
const PROFILED: u8 = 2;

/// The table of entries, wherever its words lie.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entries {
    words: *const u32,
    len: u32,
    /// One more than the bytes of bytecode.
    pcs: u32,
    /// The entry at pc 0; 0 for none.
    first: u32,
}

impl Entries {
    /// A table whose words lie at `words`.
    fn at(words: *const u32, table: &EntryTable) -> Self {
        let (len, pcs) = (table.words().len() as u32, table.raw().len() as u32);
        Self { words, len, pcs, first: table.get(0).unwrap_or(0) }
    }
}

/// How much of a code is compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) blocks: usize,
    pub(crate) instructions: usize,
}

impl Counts {
    pub(crate) fn of(module: &Module) -> Self {
        Self { blocks: module.regions.len(), instructions: module.instructions() }
    }
}

/// Puts bytes into code memory.
pub(crate) type Place<'a> = &'a dyn Fn(&[u8]) -> Result<CodeBlock, MemoryError>;

/// The code, as its backend has it.
#[derive(Debug)]
enum Body {
    Native {
        /// In front of the code, so that it is dropped first.
        _registration: Registration,
        code: CodeBlock,
        /// Bytes of it that are machine code; the rest is data.
        code_len: u32,
        /// The words of the table of entries.
        table: CodeBlock,
    },
    /// Entry `n` is block `n - 1`; behind the blocks come the regions.
    Evaluated { module: Module, records: Records, _table: EntryTable },
}

impl Program {
    /// Of an object's text in its place. Its table of entries goes to code memory too, where it lies on the
    /// same large pages.
    pub(crate) fn native(
        bytecode: Bytecode,
        (counts, optimised): (Counts, Option<Arc<Regions>>),
        (code, registration): (CodeBlock, Registration),
        (code_len, entries): (u32, &EntryTable),
        place: Place<'_>,
    ) -> Result<Self, MemoryError> {
        let table = place(bytes_of(entries.words()))?;
        let (base, words) = (code.ptr().as_ptr().cast_const(), table.ptr().as_ptr().cast_const());
        let body = Body::Native { _registration: registration, code, code_len, table };
        let entries = Entries::at(words.cast(), entries);
        Ok(Self::new(bytecode, (counts, optimised), base, entries, body))
    }

    pub(crate) fn evaluated(
        bytecode: Bytecode,
        module: Module,
        optimised: Option<Arc<Regions>>,
    ) -> Self {
        let mut entries = EntryTable::new(bytecode.len(), module.regions.len());
        let blocks = module.regions.iter().map(|region| (region.pc, region.is_jumpdest));
        let functions = optimised.as_ref().map_or(&[][..], |regions| regions.functions());
        let functions = functions.iter().map(|(function, _)| (function.pc, function.is_jumpdest));
        for (index, (pc, is_jumpdest)) in blocks.chain(functions).enumerate() {
            entries.insert(pc, index as u32 + 1, is_jumpdest);
        }
        entries.shrink();
        let counts = Counts::of(&module);
        let mut records = Records::default();
        let packed = records.pack(&module.exits);
        assert!(packed, "verified IR has exits that can be packed");
        let found = Entries::at(entries.words().as_ptr(), &entries);
        // On the heap, where the words stay as the table moves.
        let body = Body::Evaluated { module, records, _table: entries };
        Self::new(bytecode, (counts, optimised), std::ptr::null(), found, body)
    }

    fn new(
        bytecode: Bytecode,
        (Counts { blocks, instructions }, optimised): (Counts, Option<Arc<Regions>>),
        base: *const u8,
        entries: Entries,
        body: Body,
    ) -> Self {
        Self {
            base,
            entries,
            calls: AtomicU8::new(0),
            bytecode,
            body,
            optimised,
            blocks,
            instructions,
            saved: AtomicBool::new(false),
        }
    }

    /// Whether the store has it.
    pub(crate) fn is_saved(&self) -> bool {
        self.saved.load(Ordering::Relaxed)
    }

    /// The store has it.
    pub(crate) fn set_saved(&self) {
        self.saved.store(true, Ordering::Relaxed);
    }

    /// No store has it after all.
    pub(crate) fn set_unsaved(&self) {
        self.saved.store(false, Ordering::Relaxed);
    }

    /// The bytecode it was made from.
    pub fn bytecode(&self) -> &Bytecode {
        &self.bytecode
    }

    /// Number of compiled blocks.
    pub fn regions(&self) -> usize {
        self.blocks
    }

    /// The tier that made the best of it.
    pub fn tier(&self) -> Tier {
        self.optimised.as_ref().map_or(Tier::Baseline, |regions| regions.tier())
    }

    /// Its optimised regions, if it was given any.
    pub(crate) fn optimised(&self) -> Option<&Arc<Regions>> {
        self.optimised.as_ref()
    }

    /// Number of compiled bytecode instructions.
    pub fn instructions(&self) -> usize {
        self.instructions
    }

    /// Its machine code and data, and how many bytes of that are code; none for the evaluator.
    pub(crate) fn text(&self) -> Option<(&[u8], u32)> {
        match &self.body {
            Body::Native { code, code_len, .. } => {
                // SAFETY: a block's executable view is mapped, can be read, and nobody writes what was placed.
                let text = unsafe { std::slice::from_raw_parts(self.base, code.len()) };
                Some((text, *code_len))
            }
            Body::Evaluated { .. } => None,
        }
    }

    /// Bytes of machine code and data; 0 for the evaluator.
    pub fn code_bytes(&self) -> usize {
        match &self.body {
            Body::Native { code, .. } => code.len(),
            Body::Evaluated { .. } => 0,
        }
    }

    /// Bytes that it takes of code memory, with its tables.
    pub(crate) fn memory_bytes(&self) -> usize {
        match &self.body {
            Body::Native { code, table, .. } => code.reserved() + table.reserved(),
            Body::Evaluated { .. } => 0,
        }
    }

    /// Whether the block at `pc` is compiled.
    pub fn is_compiled(&self, pc: Pc) -> bool {
        self.entry(pc.0 as usize).is_some()
    }

    /// Whether its slot has another program by now, or none.
    #[inline]
    pub(crate) fn is_superseded(&self) -> bool {
        self.calls.load(Ordering::Acquire) & SUPERSEDED != 0
    }

    /// Tells running frames to leave it at their next safepoint. For the slot, after it let go.
    pub(crate) fn supersede(&self) {
        self.calls.fetch_or(SUPERSEDED, Ordering::Release);
    }

    /// Whether nothing is to be looked after at safepoints.
    #[inline]
    pub(crate) fn is_undisturbed(&self) -> bool {
        self.calls.load(Ordering::Acquire) == 0
    }

    /// Has frames profile the code, or no longer.
    pub(crate) fn profile(&self, on: bool) {
        if on {
            self.calls.fetch_or(PROFILED, Ordering::Relaxed);
        } else {
            self.calls.fetch_and(!PROFILED, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn entries(&self) -> RawEntries<'_> {
        // SAFETY: the words lie in memory that `body` owns, and nobody writes them.
        let words =
            unsafe { std::slice::from_raw_parts(self.entries.words, self.entries.len as usize) };
        RawEntries::new(words, self.entries.pcs as usize)
    }

    /// The entry at a pc.
    #[inline]
    pub(crate) fn entry(&self, pc: usize) -> Option<u32> {
        match pc {
            // Where most frames begin; the table would be two more cache lines.
            0 => (self.entries.first != 0).then_some(self.entries.first),
            pc => self.entries().get(pc),
        }
    }

    /// What entries are offsets from.
    #[inline]
    pub(crate) fn code_base(&self) -> *const u8 {
        self.base
    }

    /// Runs compiled code from an entry until it leaves.
    ///
    /// # Safety
    /// `cx` is a complete context for this program and the frame; `sp` is one past the top word of
    /// its stack; `entry` is one of [`Program::entries`]; `trampoline` is the library's.
    #[inline]
    pub(crate) unsafe fn enter(
        &self,
        cx: *mut Context,
        sp: *mut Word,
        entry: u32,
        trampoline: Option<EnterFn>,
    ) -> Leave {
        if self.base.is_null() {
            // SAFETY: the caller's.
            return unsafe { self.evaluate(cx, sp, entry) };
        }
        match trampoline {
            // SAFETY: the caller's, and `self` keeps the code mapped.
            Some(trampoline) => unsafe { trampoline(cx, sp, self.base.add(entry as usize)) },
            None => unreachable!("native code without a trampoline"),
        }
    }

    /// # Safety
    /// As [`Program::enter`].
    #[cold]
    #[inline(never)]
    unsafe fn evaluate(&self, cx: *mut Context, sp: *mut Word, entry: u32) -> Leave {
        let Body::Evaluated { module, records, .. } = &self.body else {
            unreachable!("only the evaluator has no code")
        };
        let (block, blocks) = (entry as usize - 1, module.regions.len());
        let region_at =
            |block: usize| self.optimised.as_ref()?.function_at(module.regions[block].pc);
        // SAFETY: the caller's; the records are those of the module's exits.
        let mut machine = unsafe { EvalMachine::new(cx, sp, records, blocks) };
        let region = if block < blocks {
            let stops = |block| region_at(block).is_some();
            match kiln_ir::eval::run_until(module, block, &mut machine, stops) {
                Ok(exit) => return Leave { record: machine.record(exit), sp: machine.sp() },
                Err(block) => region_at(block).unwrap_or_else(|| unreachable!("it stopped there")),
            }
        } else {
            block - blocks
        };
        let functions = self.optimised.as_ref().map_or(&[][..], |regions| regions.functions());
        let (function, records) = &functions[region];
        // SAFETY: the caller's; the records are those of the function's exits.
        let mut machine = unsafe { EvalMachine::new(cx, machine.sp(), records, blocks) };
        let exit = kiln_ir::ssa::eval::run(function, &mut machine);
        Leave { record: machine.record(exit), sp: machine.sp() }
    }
}

fn bytes_of(words: &[u32]) -> &[u8] {
    // SAFETY: all bytes of integers are initialised, and bytes may lie anywhere.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}
