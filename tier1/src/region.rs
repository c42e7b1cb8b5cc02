//! Optimised regions: one LLVM function for each.
//!
//! **Owns** the way from `kiln_ir::ssa` to a code object: words as numbers of 64, 128 or 256 bits, as many as
//! they can have and somebody reads; memory accesses and narrow division inline, the rest through helpers;
//! ways out as blocks that hardly ever run.
//!
//! **Callers guarantee** functions that the verifier of `kiln_ir::ssa` accepts; what is malformed is refused
//! with a typed error, or compiles to code that is as wrong as the function.
//!
//! **Never** sees bytecode, chooses what is compiled, or runs what it made.
//!
//! # Shape of the code
//! That of every region ([`kiln_abi::envelope`]): the body is one function from stack pointer and context to
//! the number of the exit's record. It has one return, to which every way out jumps with its number, the
//! gas and the countdown of polls; both live in registers, and the gas is written back in front of calls too.
//! Nothing is linked: helpers are called through the context, records and thunks are the envelope's.

mod arith;
mod call;
mod control;
mod counted;
mod describe;
mod emit;
mod exits;
mod memory;
mod narrow;
mod ops;
mod origin;

pub use describe::Label;

use crate::{
    loader::{self, ENTRY, LoadError},
    machine::{CompilerError, Complaints, Machine},
    worker::Target,
};
use control::{Edge, Lowered};
use counted::Round;
use emit::Emit;
use exits::Shared;
use inkwell::{
    context::Context, memory_buffer::MemoryBuffer, module::Module, values::PointerValue,
};
use kiln_abi::{
    CodeObject, EntryTable, Records,
    envelope::{self, AssembleError, Body, Head, STACK_ALIGN},
};
use kiln_ir::{
    Bounds, Cancelled,
    ssa::{
        self, Origins,
        demand::{self, LimbSet},
        plan::Plan,
        tails::Tails,
    },
};
use narrow::Narrowed;
use thiserror::Error;

const MISSING: CompileError = CompileError::Malformed("an operand is missing");
const WRONG_SHAPE: CompileError = CompileError::Malformed("a helper of another shape");
const NO_EXIT: CompileError = CompileError::Malformed("an exit is missing");

/// Instructions and blocks of LLVM's for each instruction of bytecode, at most, and how many there may be
/// besides: a bound on the time that compilation takes. Hostile code can make many stores in front of each way
/// out.
const MADE_RATIO_MAX: usize = 40;
const MADE_FREE: usize = 2048;

/// Bits of the scratch area: a result and three operands.
const SCRATCH_BITS: u32 = 4 * 256;

type Int<'c> = inkwell::values::IntValue<'c>;

/// Why a region was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The function breaks a rule of `kiln_ir::ssa`.
    #[error("malformed function: {0}")]
    Malformed(&'static str),
    /// A number does not fit its field, or there is more work than is allowed.
    #[error("the region is too large")]
    TooLarge,
    /// More text than [`kiln_ir::Limits`] allow.
    #[error("the text is {is} bytes, over the limit of {max}")]
    Text {
        /// Bytes of text.
        is: usize,
        /// The bound.
        max: usize,
    },
    /// The work was called off.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// LLVM could not compile it.
    #[error("the region does not compile: {0}")]
    Codegen(String),
    /// LLVM's object is not what was expected.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<AssembleError> for CompileError {
    fn from(error: AssembleError) -> Self {
        match error {
            AssembleError::TooLarge => Self::TooLarge,
            AssembleError::Text { is, max } => Self::Text { is, max },
        }
    }
}

/// A stage of the way from a function to a code object, for those who measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// To LLVM's IR.
    Lower,
    /// In it.
    Passes,
    /// To an ELF object.
    Codegen,
    /// From there to the code object.
    Load,
}

/// A code object with what its code is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The object, the same as without the rest.
    pub object: CodeObject,
    /// Where in its text the code of each part begins.
    pub origins: Origins,
}

/// Who wants to know of a compilation, and what.
struct Watch<'a> {
    /// Whether LLVM's instructions carry what they are made from.
    locates: bool,
    /// Is told where a stage ends.
    ended: &'a mut dyn FnMut(Stage),
}

/// A compiler of regions: LLVM's code generator for a target. One for each thread that compiles; each function
/// gets an LLVM context of its own, so that nothing is kept from one to the next.
#[derive(Debug)]
pub struct Compiler {
    machine: Machine,
    /// The exits of the function being compiled.
    records: Records,
}

impl Compiler {
    /// A compiler for a target.
    ///
    /// # Errors
    /// If the target is not supported.
    pub fn new(target: Target) -> Result<Self, CompilerError> {
        Ok(Self { machine: Machine::new(target)?, records: Records::default() })
    }

    /// Compiles a region to an object of its own, with one entry.
    ///
    /// # Errors
    /// If the function is malformed or too large, its code goes over the limits, LLVM's object is not what is
    /// expected, or the work was called off. The region then stays on its tier.
    pub fn compile<'b>(
        &mut self,
        function: &ssa::Function,
        bounds: impl Into<Bounds<'b>>,
    ) -> Result<CodeObject, CompileError> {
        self.compile_staged(function, bounds, &mut |_| {})
    }

    /// As [`Self::compile`]; `ended` is told where a stage ends.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn compile_staged<'b>(
        &mut self,
        function: &ssa::Function,
        bounds: impl Into<Bounds<'b>>,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<CodeObject, CompileError> {
        let watch = Watch { locates: false, ended };
        self.watched(function, bounds.into(), watch).map(|traced| traced.object)
    }

    /// As [`Self::compile`], with what the code is made from: for listings, since it takes longer.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn trace<'b>(
        &mut self,
        function: &ssa::Function,
        bounds: impl Into<Bounds<'b>>,
    ) -> Result<Traced, CompileError> {
        self.watched(function, bounds.into(), Watch { locates: true, ended: &mut |_| {} })
    }

    fn watched(
        &mut self,
        function: &ssa::Function,
        bounds: Bounds<'_>,
        mut watch: Watch<'_>,
    ) -> Result<Traced, CompileError> {
        let elf = self.object(function, bounds, &mut watch)?;
        let loaded = loader::load(elf.as_slice())?;
        let head = Head {
            code_len: function.code_len,
            pc: function.pc,
            is_jumpdest: function.is_jumpdest,
            blocks: function.blocks.len(),
        };
        let body = Body {
            code: &loaded.code,
            data: &loaded.data,
            references: &loaded.references,
            clear_upper: self.machine.has_avx,
        };
        let text_max = bounds.limits.text_bytes_max(function.instructions as usize);
        let object = envelope::assemble(&head, &body, &self.records, text_max)?;
        let origins = match watch.locates {
            true => {
                let body = envelope::BODY..envelope::BODY + loaded.code.len();
                ssa::origins(body, origin::known(elf.as_slice())?)
            }
            false => Origins::new(),
        };
        (watch.ended)(Stage::Load);
        bounds.check()?;
        Ok(Traced { object, origins })
    }

    /// The LLVM IR of a region, as text: as it is built, or, with `optimised`, as code is generated from it.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn llvm_ir(
        &mut self,
        function: &ssa::Function,
        optimised: bool,
    ) -> Result<String, CompileError> {
        let bounds = Bounds::from(&kiln_ir::Limits::NONE);
        self.with_module(function, bounds, false, |machine, module| {
            if optimised {
                machine.optimise(module).map_err(CompileError::Codegen)?;
            }
            Ok(module.print_to_string().to_string())
        })
    }

    /// The ELF object that LLVM makes of a region, as it is.
    ///
    /// # Errors
    /// As [`Self::compile`].
    pub fn object_bytes<'b>(
        &mut self,
        function: &ssa::Function,
        bounds: impl Into<Bounds<'b>>,
    ) -> Result<Vec<u8>, CompileError> {
        let mut watch = Watch { locates: false, ended: &mut |_| {} };
        self.object(function, bounds.into(), &mut watch).map(|object| object.as_slice().to_vec())
    }

    fn object(
        &mut self,
        function: &ssa::Function,
        bounds: Bounds<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<MemoryBuffer<'static>, CompileError> {
        self.with_module(function, bounds, watch.locates, |machine, module| {
            (watch.ended)(Stage::Lower);
            machine.optimise(module).map_err(CompileError::Codegen)?;
            (watch.ended)(Stage::Passes);
            bounds.check()?;
            let object = machine.object(module).map_err(CompileError::Codegen)?;
            (watch.ended)(Stage::Codegen);
            bounds.check()?;
            Ok(object)
        })
    }

    /// Builds the module of a region, with what its instructions are made from if it is to locate them, and does
    /// something with it.
    fn with_module<R>(
        &mut self,
        function: &ssa::Function,
        bounds: Bounds<'_>,
        locates: bool,
        then: impl FnOnce(&Machine, &Module<'_>) -> Result<R, CompileError>,
    ) -> Result<R, CompileError> {
        bounds.check()?;
        self.check(function)?;
        let complaints = Complaints::default();
        let context = Context::create();
        // SAFETY: declared before the context, so dropped after it; neither leaves this function.
        unsafe { complaints.listen(&context) };
        let module = context.create_module("region");
        self.machine.prepare(&module);
        let made_max =
            MADE_RATIO_MAX.saturating_mul(function.instructions as usize).saturating_add(MADE_FREE);
        let mut emit = Emit::new(&context, &module, ENTRY, made_max)?;
        if locates {
            emit.locate();
        }
        Lower::new(emit, function, &self.records, bounds)?.function()?;
        if cfg!(debug_assertions)
            && let Err(error) = module.verify()
        {
            return Err(CompileError::Codegen(format!("the module is invalid: {error}")));
        }
        bounds.check()?;
        let done = then(&self.machine, &module);
        match complaints.first() {
            Some(complaint) => Err(CompileError::Codegen(complaint)),
            None => done,
        }
    }

    fn check(&mut self, function: &ssa::Function) -> Result<(), CompileError> {
        let in_order = function.stores_end.is_sorted()
            && function.stores_end.last().is_none_or(|&end| end as usize <= function.stores.len());
        if function.stores_end.len() != function.exits.exits.len() || !in_order {
            return Err(CompileError::Malformed("exits without their stores"));
        }
        if !self.records.pack(&function.exits) {
            return Err(CompileError::Malformed("an exit that no record can tell of"));
        }
        if function.code_len as usize > EntryTable::CODE_LEN_MAX
            || function.pc.0 > function.code_len
        {
            return Err(CompileError::TooLarge);
        }
        Ok(())
    }
}

/// A region being lowered.
struct Lower<'c, 'm, 'a> {
    /// LLVM's function.
    e: Emit<'c, 'm>,
    function: &'a ssa::Function,
    records: &'a Records,
    bounds: Bounds<'a>,
    /// The stack pointer: one past the top word at entry.
    sp: PointerValue<'c>,
    /// The context.
    cx: PointerValue<'c>,
    /// The gas left, where instructions are made.
    gas: Int<'c>,
    /// The countdown of polls.
    poll: Int<'c>,
    /// The native words that helpers are called with.
    scratch: PointerValue<'c>,
    /// By value, what it is, where it is computed already.
    words: Vec<Option<Int<'c>>>,
    /// What is written where.
    plan: Plan,
    /// What ways out share.
    tails: Tails,
    /// What is behind all of them, and by tail, its block; made when it is first jumped to.
    shared: Vec<Option<Shared<'c>>>,
    /// By value, the limbs that are wanted.
    wanted: Vec<LimbSet>,
    /// By block, LLVM's.
    blocks: Vec<Lowered<'c>>,
    /// What is known of values besides, and where.
    narrowed: Narrowed<'c>,
    /// The block being lowered; none behind the last.
    current: Option<usize>,
    /// The loop whose rounds are counted, while its block is lowered.
    round: Option<Round<'c>>,
}

impl<'c, 'm, 'a> Lower<'c, 'm, 'a> {
    fn new(
        mut e: Emit<'c, 'm>,
        function: &'a ssa::Function,
        records: &'a Records,
        bounds: Bounds<'a>,
    ) -> Result<Self, CompileError> {
        let plan = Plan::new(function);
        let tails = Tails::new(function, &plan);
        let head = e.block()?;
        e.switch_to(head);
        let (sp, cx) = (e.param(0)?, e.param(1)?);
        let scratch = e.alloca(SCRATCH_BITS, STACK_ALIGN)?;
        Ok(Self {
            function,
            records,
            bounds,
            sp,
            cx,
            // Until the head has loaded them.
            gas: e.int(64, 0),
            poll: e.int(32, 0),
            scratch,
            words: vec![None; function.values.len()],
            shared: vec![None; tails.tails.len() + 1],
            plan,
            tails,
            wanted: demand::analyse(function),
            blocks: Vec::with_capacity(function.blocks.len()),
            narrowed: Narrowed::new(function),
            current: None,
            round: None,
            e,
        })
    }
}
