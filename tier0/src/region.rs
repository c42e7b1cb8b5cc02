//! Optimised regions: one Cranelift function for each.
//!
//! **Owns** the way from `kiln_ir::ssa` to a code object: words as limbs, only as many as are needed;
//! memory accesses and narrow arithmetic inline, the rest through helpers; ways out as cold blocks.
//!
//! **Callers guarantee** functions that the verifier of `kiln_ir::ssa` accepts; what is malformed is refused
//! with a typed error, or compiles to code that is as wrong as the function.
//!
//! **Never** sees bytecode, chooses what is compiled, or runs what it made.
//!
//! # Shape of the code
//! That of every region ([`kiln_abi::envelope`]): an entry, the body, thunks, and the exit records. The
//! body is a function of the System V convention from stack pointer and context to the number of the
//! exit's record. It has one return, to which every way out jumps with its number and the gas; the gas lives
//! in a register and is written back there and in front of calls. There are no relocations: helpers are
//! called through the context, constants are immediates, and references inside the object are resolved here.
//!
//! # What it costs
//! Cranelift takes about 2 microseconds for each of its instructions, most of it for register allocation, so
//! what counts is how few there are: limbs that nobody reads are not loaded (`ssa::demand`), words that many
//! exits write are written once (`ssa::plan`) or by code that exits share (`ssa::tails`).

mod arith;
mod bits;
mod call;
mod compare;
mod control;
mod describe;
mod exits;
mod memory;
mod object;
mod ops;
mod origin;
mod word;

pub use describe::Label;
#[cfg(feature = "disasm")]
pub use describe::assembly;
pub use kiln_ir::ssa::{Origin, Origins};

use crate::{CompileError, LibraryError, isa};
use cranelift_codegen::{
    Context,
    control::ControlPlane,
    ir::{
        self, AbiParam, AliasRegionData, ExternalName, GlobalValueData, InstBuilder, MemFlagsData,
        SigRef, Signature, StackSlot, StackSlotData, StackSlotKind, types::*,
    },
    isa::{CallConv, OwnedTargetIsa},
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use kiln_abi::{CodeObject, EntryTable, ExitId, Records, Word, envelope::Symbol};
use kiln_ir::{
    Bounds, Perturb,
    ssa::{
        self,
        demand::{self, LimbSet},
        plan::Plan,
        tails::Tails,
    },
};
use word::Limbs;

const MISSING: CompileError = CompileError::Malformed("an operand is missing");
const WRONG_SHAPE: CompileError = CompileError::Malformed("a helper of another shape");
const NO_EXIT: CompileError = CompileError::Malformed("an exit is missing");

/// Instructions of Cranelift's that a context is kept for: what it grew to is freed with it.
const KEPT_INSTS_MAX: usize = 1 << 13;
/// Instructions of Cranelift's for each of bytecode, at most, and how many there may be besides: a bound on the
/// time that compilation takes. Real code has ten, and hostile code up to 40.
const INSTS_RATIO_MAX: usize = 48;
const INSTS_FREE: usize = 4096;
/// Products of limbs that a function has in line; behind them words are multiplied by the helper. What Cranelift
/// takes for a long chain of wide products grows with the square of their number: 280 took 0.4 seconds. A product
/// of two words of 256 bits has ten.
const PRODUCTS_MAX: usize = 640;

/// A stage of the way from a function to a code object, for those who measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// To Cranelift IR.
    Lower,
    /// From there to the machine code of the body.
    Codegen,
    /// To the object.
    Assemble,
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
    /// Whether Cranelift's instructions carry what they are made from.
    locates: bool,
    /// Is told where a stage ends.
    ended: &'a mut dyn FnMut(Stage),
}

/// A compiler of regions: the code generator for this CPU, and buffers that are kept from one compilation
/// to the next. One for each thread that compiles.
pub struct Compiler {
    isa: OwnedTargetIsa,
    context: Context,
    frontend: FunctionBuilderContext,
    /// The exits of the function being compiled.
    records: Records,
}

impl core::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Compiler").field("isa", &self.isa.name()).finish_non_exhaustive()
    }
}

impl Compiler {
    /// A compiler for the CPU this runs on.
    ///
    /// # Errors
    /// If the target is not supported.
    pub fn new() -> Result<Self, LibraryError> {
        Ok(Self {
            isa: isa::regions()?,
            context: Context::new(),
            frontend: FunctionBuilderContext::new(),
            records: Records::default(),
        })
    }

    /// Compiles a region to an object of its own, with one entry.
    ///
    /// # Errors
    /// If the function is malformed or too large, or its code goes over the limits, or the work was
    /// called off. The region then stays on its tier.
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
        watch: Watch<'_>,
    ) -> Result<Traced, CompileError> {
        bounds.check()?;
        let built = self.build(function, watch.locates, bounds.limits.perturb);
        let compiled = built.and_then(|()| {
            let max = INSTS_RATIO_MAX * function.instructions as usize + INSTS_FREE;
            if self.context.func.dfg.num_insts() > max {
                return Err(CompileError::TooLarge);
            }
            (watch.ended)(Stage::Lower);
            bounds.check()?;
            self.generate(function, bounds, watch)
        });
        self.tidy(compiled.is_err());
        let traced = compiled?;
        bounds.check()?;
        Ok(traced)
    }

    /// Makes the buffers ready for the next function. Large ones are dropped: reusing them costs more
    /// than making new ones. So are those of a build that broke off in the middle.
    fn tidy(&mut self, failed: bool) {
        if failed {
            self.frontend = FunctionBuilderContext::new();
        }
        if failed || self.context.func.dfg.num_insts() > KEPT_INSTS_MAX {
            self.context = Context::new();
        } else {
            self.context.clear();
        }
    }

    fn build(
        &mut self,
        function: &ssa::Function,
        locates: bool,
        perturb: Perturb,
    ) -> Result<(), CompileError> {
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
        let mut signature = Signature::new(CallConv::SystemV);
        signature.params.resize(2, AbiParam::new(I64));
        signature.returns.push(AbiParam::new(I64));
        self.context.func.signature = signature;
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.frontend);
        let mut lower = Lower::new(&mut builder, function, &self.records, locates);
        lower.perturb = perturb;
        lower.function()?;
        builder.seal_all_blocks();
        builder.finalize(self.isa.frontend_config());
        Ok(())
    }

    /// From Cranelift IR to machine code.
    fn generate(
        &mut self,
        function: &ssa::Function,
        bounds: Bounds<'_>,
        watch: Watch<'_>,
    ) -> Result<Traced, CompileError> {
        self.context
            .compile(&*self.isa, &mut ControlPlane::default())
            .map_err(|error| CompileError::Codegen(format!("{:?}", error.inner)))?;
        let code = self.context.take_compiled_code();
        let code = code.ok_or_else(|| CompileError::Codegen("no code was made".into()))?;
        (watch.ended)(Stage::Codegen);
        let text_max = bounds.limits.text_bytes_max(function.instructions as usize);
        let object =
            object::assemble(function, &self.context.func, &code, &self.records, text_max)?;
        let origins = match watch.locates {
            true => origin::origins(object::body(&code), code.buffer.get_srclocs_sorted()),
            false => Origins::new(),
        };
        (watch.ended)(Stage::Assemble);
        Ok(Traced { object, origins })
    }
}

/// Flags of accesses to the four things that compiled code reads and writes. None overlaps another.
#[derive(Clone, Copy, Debug)]
struct Flags {
    /// The context, and what it points to besides the next two.
    context: MemFlagsData,
    /// The EVM stack.
    stack: MemFlagsData,
    /// EVM memory, and calldata, which may lie in the memory of another frame.
    memory: MemFlagsData,
    /// Words on the native stack.
    scratch: MemFlagsData,
}

impl Flags {
    fn new(function: &mut ir::Function) -> Self {
        let mut region = |user_id: u32, description: &'static str| {
            let data = AliasRegionData { user_id, description: description.into() };
            let region = function.dfg.alias_regions.insert(data);
            MemFlagsData::new().with_notrap().with_alias_region(Some(region))
        };
        Self {
            context: region(0, "context"),
            stack: region(1, "stack"),
            memory: region(2, "memory"),
            scratch: region(3, "scratch"),
        }
    }
}

/// A region being lowered.
struct Lower<'a, 'b> {
    /// Cranelift's builder.
    b: &'a mut FunctionBuilder<'b>,
    function: &'a ssa::Function,
    records: &'a Records,
    /// Whether instructions carry what they are made from.
    locates: bool,
    /// Slow paths that are forced.
    perturb: Perturb,
    flags: Flags,
    /// The stack pointer: one past the top word at entry.
    sp: ir::Value,
    /// The context.
    cx: ir::Value,
    /// The gas left, where the builder stands.
    gas: ir::Value,
    /// The native words that helpers are called with.
    scratch: StackSlot,
    /// Where every way out ends: its parameters are the exit's number and the gas.
    out: ir::Block,
    /// By value, its limbs, where it is computed already.
    words: Vec<Option<Limbs>>,
    /// Products of limbs that may still be in line.
    products_left: usize,
    /// What is written where.
    plan: Plan,
    /// What ways out share.
    tails: Tails,
    /// By tail, its block, made when it is first jumped to.
    tail_blocks: Vec<Option<ir::Block>>,
    /// By value, the limbs that are wanted.
    wanted: Vec<LimbSet>,
    /// By block, Cranelift's; the first parameter is the gas.
    blocks: Vec<ir::Block>,
    /// Signatures of helpers, by number of arguments and whether they answer.
    signatures: [[Option<SigRef>; 2]; 6],
}

impl<'a, 'b> Lower<'a, 'b> {
    fn new(
        b: &'a mut FunctionBuilder<'b>,
        function: &'a ssa::Function,
        records: &'a Records,
        locates: bool,
    ) -> Self {
        let flags = Flags::new(b.func);
        let plan = Plan::new(function);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let (sp, cx) = (b.block_params(entry)[0], b.block_params(entry)[1]);
        let out = b.create_block();
        b.set_cold_block(out);
        b.append_block_param(out, I64);
        b.append_block_param(out, I64);
        let scratch = b.create_sized_stack_slot(StackSlotData::new(
            StackSlotKind::ExplicitSlot,
            4 * Word::BYTES as u32,
            4,
        ));
        let tails = Tails::new(function, &plan);
        Self {
            flags,
            function,
            records,
            locates,
            perturb: Perturb::NONE,
            sp,
            cx,
            // Until the head has loaded it.
            gas: cx,
            scratch,
            products_left: PRODUCTS_MAX,
            out,
            words: vec![None; function.values.len()],
            tail_blocks: vec![None; tails.tails.len()],
            tails,
            plan,
            wanted: demand::analyse(function),
            blocks: Vec::with_capacity(function.blocks.len()),
            signatures: Default::default(),
            b,
        }
    }

    /// What is built from here on is made from this.
    fn origin(&mut self, origin: Origin) {
        if self.locates {
            self.b.set_srcloc(origin::location(origin));
        }
    }

    /// What compiled code leaves with for an exit: the number of its record.
    fn exit_number(&self, exit: ExitId) -> Result<u32, CompileError> {
        self.records.number(exit).ok_or(CompileError::Malformed("no such exit"))
    }

    /// What compiled code gives to helpers for an exit: the address of its record.
    fn exit_record(&mut self, exit: ExitId) -> Result<ir::Value, CompileError> {
        let offset = i64::from(self.exit_number(exit)?) * size_of::<u32>() as i64;
        let name = self.b.func.declare_imported_user_function(object::name(Symbol::Records));
        let record = self.b.create_global_value(GlobalValueData::Symbol {
            name: ExternalName::user(name),
            offset: offset.into(),
            colocated: true,
            tls: false,
        });
        Ok(self.b.ins().symbol_value(I64, record))
    }
}
