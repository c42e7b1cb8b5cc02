//! What was compiled for one code under one configuration.
//!
//! **Owns** everything compiled code needs to run, so that holding a [`Program`] pins it.
//! **Callers guarantee** (to the function that runs it) a context built for this program.

use crate::{eval_machine::EvalMachine, memory::CodeBlock, observe::Registration};
use kiln_abi::{Context, EnterFn, EntryTable, ExitTable, Leave, Pc, Word};
use kiln_ir::Module;
use revm::bytecode::Bytecode;
use std::sync::atomic::{AtomicBool, Ordering};

/// An immutable compiled program.
#[derive(Debug)]
pub struct Program {
    bytecode: Bytecode,
    entries: EntryTable,
    body: Body,
    regions: usize,
    instructions: usize,
    /// Its slot has another program, or none. Set (release) after that was stored; who sees it
    /// (acquire) does not find this one in the slot.
    superseded: AtomicBool,
}

/// The code, as its backend has it.
#[derive(Debug)]
enum Body {
    Native {
        /// In front of the code, so that it is dropped first.
        _registration: Registration,
        code: CodeBlock,
        exits: ExitTable,
    },
    /// Entry `n` is region `n - 1`.
    Evaluated { module: Module },
}

impl Program {
    pub(crate) fn native(
        bytecode: Bytecode,
        module: &Module,
        (code, registration): (CodeBlock, Registration),
        entries: EntryTable,
        exits: ExitTable,
    ) -> Self {
        let counts = (module.regions.len(), module.instructions());
        let body = Body::Native { _registration: registration, code, exits };
        Self::new(bytecode, counts, entries, body)
    }

    pub(crate) fn evaluated(bytecode: Bytecode, module: Module) -> Self {
        let mut entries = EntryTable::new(bytecode.len(), module.regions.len());
        for (index, region) in module.regions.iter().enumerate() {
            entries.insert(region.pc, index as u32 + 1, region.is_jumpdest);
        }
        entries.shrink();
        let counts = (module.regions.len(), module.instructions());
        Self::new(bytecode, counts, entries, Body::Evaluated { module })
    }

    fn new(
        bytecode: Bytecode,
        (regions, instructions): (usize, usize),
        entries: EntryTable,
        body: Body,
    ) -> Self {
        let superseded = AtomicBool::new(false);
        Self { bytecode, entries, body, regions, instructions, superseded }
    }

    /// The bytecode it was made from.
    pub fn bytecode(&self) -> &Bytecode {
        &self.bytecode
    }

    /// Number of compiled blocks.
    pub fn regions(&self) -> usize {
        self.regions
    }

    /// Number of compiled bytecode instructions.
    pub fn instructions(&self) -> usize {
        self.instructions
    }

    /// Bytes of machine code and data; 0 for the evaluator.
    pub fn code_bytes(&self) -> usize {
        match &self.body {
            Body::Native { code, .. } => code.len(),
            Body::Evaluated { .. } => 0,
        }
    }

    /// Whether the block at `pc` is compiled.
    pub fn is_compiled(&self, pc: Pc) -> bool {
        self.entries.get(pc.0 as usize).is_some()
    }

    /// Whether its slot has another program by now, or none.
    #[inline]
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// Tells running frames to leave it at their next safepoint. For the slot, after it let go.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Release);
    }

    #[inline]
    pub(crate) fn entries(&self) -> &EntryTable {
        &self.entries
    }

    #[inline]
    pub(crate) fn exits(&self) -> &ExitTable {
        match &self.body {
            Body::Native { exits, .. } => exits,
            Body::Evaluated { module } => &module.exits,
        }
    }

    #[inline]
    pub(crate) fn code_base(&self) -> *const u8 {
        match &self.body {
            Body::Native { code, .. } => code.ptr().as_ptr(),
            Body::Evaluated { .. } => std::ptr::null(),
        }
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
        match (&self.body, trampoline) {
            (Body::Native { code, .. }, Some(trampoline)) => {
                // SAFETY: the caller's, and `self` keeps the code mapped.
                unsafe { trampoline(cx, sp, code.ptr().as_ptr().add(entry as usize)) }
            }
            (Body::Native { .. }, None) => unreachable!("native code without a trampoline"),
            (Body::Evaluated { module }, _) => {
                // SAFETY: the caller's.
                let mut machine = unsafe { EvalMachine::new(cx, sp) };
                let exit = kiln_ir::eval::run(module, entry as usize - 1, &mut machine);
                Leave { exit: exit.0 as u64, sp: machine.sp() }
            }
        }
    }
}
