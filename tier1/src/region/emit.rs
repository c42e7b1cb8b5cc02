//! LLVM instructions.
//!
//! **Owns** the LLVM function in the making, the count of its instructions, and what LLVM is told besides
//! them: which accesses can not touch the same memory, which branches hardly ever go somewhere, what calls
//! may do. **Callers guarantee** operands of equal widths where an instruction wants them. **Never** knows
//! what an instruction of a region means.

use super::{CompileError, origin::Locations};
use inkwell::{
    AddressSpace, IntPredicate,
    attributes::{Attribute, AttributeLoc},
    basic_block::BasicBlock,
    builder::{Builder, BuilderError},
    context::Context,
    intrinsics::Intrinsic,
    module::Module,
    types::{BasicMetadataTypeEnum, FunctionType, IntType, PointerType},
    values::{
        BasicMetadataValueEnum, BasicValue, CallSiteValue, FunctionValue, InstructionValue,
        IntValue, MetadataValue, PhiValue, PointerValue,
    },
};
use kiln_ir::ssa::Origin;
use std::num::NonZeroU32;

/// What is read and written. None overlaps another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// The context.
    Context,
    /// Fields of the context, and what they point to, that never change while compiled code runs.
    Fixed,
    /// The EVM stack.
    Stack,
    /// EVM memory, and calldata, which may lie in the memory of another frame.
    Memory,
    /// Words on the native stack.
    Scratch,
}

/// `preserve_mostcc`: all general registers but r11 are the callee's to keep, which is what thunks do.
const PRESERVE_MOST: u32 = 14;
/// Weights of a branch that hardly ever goes the one way.
const RARE: u64 = 1;
const USUAL: u64 = (1 << 20) - 1;

/// Metadata.
#[derive(Clone, Copy, Debug)]
struct Notes<'c> {
    areas: [MetadataValue<'c>; 4],
    fixed: MetadataValue<'c>,
    rare: MetadataValue<'c>,
    kinds: Kinds,
}

#[derive(Clone, Copy, Debug)]
struct Kinds {
    tbaa: u32,
    invariant: u32,
    prof: u32,
}

/// An LLVM function in the making.
#[derive(Debug)]
pub(super) struct Emit<'c, 'm> {
    context: &'c Context,
    module: &'m Module<'c>,
    builder: Builder<'c>,
    function: FunctionValue<'c>,
    notes: Notes<'c>,
    /// What instructions are made from, in listings.
    locations: Option<Locations<'c>>,
    bswap: Intrinsic,
    /// Instructions and blocks that were made.
    made: usize,
    /// The most that may be.
    made_max: usize,
}

impl From<BuilderError> for CompileError {
    fn from(error: BuilderError) -> Self {
        Self::Codegen(error.to_string())
    }
}

type Made<T> = Result<T, CompileError>;

/// An attribute without a value.
fn attribute(context: &Context, name: &str, value: u64) -> Attribute {
    context.create_enum_attribute(Attribute::get_named_enum_kind_id(name), value)
}

impl<'c, 'm> Emit<'c, 'm> {
    pub(super) fn new(
        context: &'c Context,
        module: &'m Module<'c>,
        name: &str,
        made_max: usize,
    ) -> Made<Self> {
        let pointer = context.ptr_type(AddressSpace::default());
        let body = context.i64_type().fn_type(&[pointer.into(), pointer.into()], false);
        let function = module.add_function(name, body, None);
        for name in ["nounwind", "norecurse"] {
            function.add_attribute(AttributeLoc::Function, attribute(context, name, 0));
        }
        for (name, value) in [
            // A frame may be larger than the page that guards the stack.
            ("probe-stack", "inline-asm"),
            ("no-jump-tables", "true"),
            ("prefer-vector-width", "256"),
        ] {
            let attribute = context.create_string_attribute(name, value);
            function.add_attribute(AttributeLoc::Function, attribute);
        }
        let bytes = [0, size_of::<kiln_abi::Context>() as u64];
        for (index, bytes) in (0..).zip(bytes) {
            let add = |name, value| {
                let attribute = attribute(context, name, value);
                function.add_attribute(AttributeLoc::Param(index), attribute);
            };
            add("align", 8);
            add("noundef", 0);
            if bytes != 0 {
                add("dereferenceable", bytes);
            }
        }
        let bswap = Intrinsic::find("llvm.bswap");
        Ok(Self {
            context,
            module,
            builder: context.create_builder(),
            function,
            notes: Notes::new(context),
            locations: None,
            bswap: bswap.ok_or_else(|| CompileError::Codegen("no llvm.bswap".into()))?,
            made: 0,
            made_max,
        })
    }

    /// From here on instructions carry what they are made from.
    pub(super) fn locate(&mut self) {
        self.locations = Some(Locations::new(self.context, self.module, self.function));
    }

    /// What is built from here on is made from this.
    pub(super) fn origin(&mut self, origin: Origin) {
        if let Some(locations) = &self.locations {
            locations.set(&self.builder, origin);
        }
    }

    /// Counts one more.
    fn made(&mut self) -> Made<()> {
        self.made += 1;
        if self.made > self.made_max { Err(CompileError::TooLarge) } else { Ok(()) }
    }

    /// A parameter of the body.
    pub(super) fn param(&self, index: u32) -> Made<PointerValue<'c>> {
        let param = self.function.get_nth_param(index);
        let param = param.ok_or_else(|| CompileError::Codegen("a parameter is missing".into()))?;
        Ok(param.into_pointer_value())
    }

    // Types and constants.

    pub(super) fn int_type(&self, bits: u32) -> IntType<'c> {
        let bits = NonZeroU32::new(bits).unwrap_or(NonZeroU32::MIN);
        // All widths are below LLVM's limit; the fallback is never used.
        self.context.custom_width_int_type(bits).unwrap_or_else(|_| self.context.i64_type())
    }

    pub(super) fn pointer_type(&self) -> PointerType<'c> {
        self.context.ptr_type(AddressSpace::default())
    }

    pub(super) fn int(&self, bits: u32, value: u64) -> IntValue<'c> {
        self.int_type(bits).const_int(value, false)
    }

    /// A constant of many limbs, the lowest first.
    pub(super) fn wide(&self, bits: u32, limbs: &[u64]) -> IntValue<'c> {
        self.int_type(bits).const_int_arbitrary_precision(limbs)
    }

    pub(super) fn null(&self) -> PointerValue<'c> {
        self.pointer_type().const_null()
    }

    // Blocks.

    pub(super) fn block(&mut self) -> Made<BasicBlock<'c>> {
        self.made()?;
        Ok(self.context.append_basic_block(self.function, ""))
    }

    pub(super) fn switch_to(&mut self, block: BasicBlock<'c>) {
        self.builder.position_at_end(block);
    }

    /// The block in which instructions are made.
    pub(super) fn here(&self) -> Made<BasicBlock<'c>> {
        let block = self.builder.get_insert_block();
        block.ok_or_else(|| CompileError::Codegen("no block".into()))
    }

    pub(super) fn jump(&mut self, block: BasicBlock<'c>) -> Made<()> {
        self.made()?;
        self.builder.build_unconditional_branch(block)?;
        Ok(())
    }

    pub(super) fn branch(
        &mut self,
        condition: IntValue<'c>,
        taken: BasicBlock<'c>,
        next: BasicBlock<'c>,
    ) -> Made<InstructionValue<'c>> {
        self.made()?;
        Ok(self.builder.build_conditional_branch(condition, taken, next)?)
    }

    /// A branch that hardly ever goes to `rare`.
    pub(super) fn branch_rarely(
        &mut self,
        condition: IntValue<'c>,
        rare: BasicBlock<'c>,
        next: BasicBlock<'c>,
    ) -> Made<()> {
        let branch = self.branch(condition, rare, next)?;
        note(branch, self.notes.rare, self.notes.kinds.prof)
    }

    pub(super) fn phi(&mut self, bits: u32) -> Made<PhiValue<'c>> {
        self.made()?;
        Ok(self.builder.build_phi(self.int_type(bits), "")?)
    }

    pub(super) fn answer(&mut self, value: IntValue<'c>) -> Made<()> {
        self.made()?;
        self.builder.build_return(Some(&value))?;
        Ok(())
    }

    // Accesses.

    /// A pointer as a number.
    pub(super) fn address(&mut self, pointer: PointerValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_ptr_to_int(pointer, self.context.i64_type(), "")?)
    }

    pub(super) fn alloca(&mut self, bits: u32, align: u32) -> Made<PointerValue<'c>> {
        self.made()?;
        let place = self.builder.build_alloca(self.int_type(bits), "")?;
        if let Some(alloca) = place.as_instruction() {
            alloca
                .set_alignment(align)
                .map_err(|error| CompileError::Codegen(error.to_string()))?;
        }
        Ok(place)
    }

    /// The address so many bytes from another.
    pub(super) fn offset(&mut self, base: PointerValue<'c>, bytes: i64) -> Made<PointerValue<'c>> {
        if bytes == 0 {
            return Ok(base);
        }
        let bytes = self.context.i64_type().const_int(bytes as u64, true);
        self.index(base, bytes)
    }

    pub(super) fn index(
        &mut self,
        base: PointerValue<'c>,
        bytes: IntValue<'c>,
    ) -> Made<PointerValue<'c>> {
        self.made()?;
        // SAFETY: an address is computed; nothing is promised of it, as it would be with `inbounds`.
        Ok(unsafe { self.builder.build_gep(self.context.i8_type(), base, &[bytes], "")? })
    }

    fn mark(&self, access: Option<InstructionValue<'c>>, area: Area, align: u32) -> Made<()> {
        let Some(access) = access else { return Ok(()) };
        access.set_alignment(align).map_err(|error| CompileError::Codegen(error.to_string()))?;
        let notes = &self.notes;
        let tag = match area {
            Area::Context | Area::Fixed => notes.areas[0],
            Area::Stack => notes.areas[1],
            Area::Memory => notes.areas[2],
            Area::Scratch => notes.areas[3],
        };
        note(access, tag, notes.kinds.tbaa)?;
        if area == Area::Fixed {
            note(access, notes.fixed, notes.kinds.invariant)?;
        }
        Ok(())
    }

    pub(super) fn load(
        &mut self,
        area: Area,
        at: PointerValue<'c>,
        bits: u32,
        align: u32,
    ) -> Made<IntValue<'c>> {
        self.made()?;
        let value = self.builder.build_load(self.int_type(bits), at, "")?;
        self.mark(value.as_instruction_value(), area, align)?;
        Ok(value.into_int_value())
    }

    pub(super) fn load_pointer(
        &mut self,
        area: Area,
        at: PointerValue<'c>,
    ) -> Made<PointerValue<'c>> {
        self.made()?;
        let value = self.builder.build_load(self.pointer_type(), at, "")?;
        self.mark(value.as_instruction_value(), area, 8)?;
        Ok(value.into_pointer_value())
    }

    pub(super) fn store(
        &mut self,
        area: Area,
        at: PointerValue<'c>,
        value: IntValue<'c>,
        align: u32,
    ) -> Made<()> {
        self.made()?;
        let store = self.builder.build_store(at, value)?;
        self.mark(Some(store), area, align)
    }

    // Calls.

    /// The type of a function that takes so many pointers and numbers of 64 bits.
    pub(super) fn function_type(
        &self,
        args: &[BasicMetadataValueEnum<'c>],
        answers: bool,
    ) -> FunctionType<'c> {
        let types: Vec<BasicMetadataTypeEnum<'c>> = args
            .iter()
            .map(|arg| match arg {
                BasicMetadataValueEnum::PointerValue(pointer) => pointer.get_type().into(),
                _ => self.context.i64_type().into(),
            })
            .collect();
        match answers {
            true => self.context.i64_type().fn_type(&types, false),
            false => self.context.void_type().fn_type(&types, false),
        }
    }

    /// Calls what a pointer points to; `pure` says that it accesses nothing but what its arguments point to.
    pub(super) fn call_pointer(
        &mut self,
        callee: PointerValue<'c>,
        args: &[BasicMetadataValueEnum<'c>],
        answers: bool,
        pure: bool,
    ) -> Made<Option<IntValue<'c>>> {
        self.made()?;
        let signature = self.function_type(args, answers);
        let call = self.builder.build_indirect_call(signature, callee, args, "")?;
        self.describe(call, "nounwind", 0);
        if pure {
            // memory(argmem: readwrite)
            self.describe(call, "memory", 3);
            self.describe(call, "willreturn", 0);
        }
        Ok(call.try_as_basic_value().basic().map(|answer| answer.into_int_value()))
    }

    fn describe(&self, call: CallSiteValue<'c>, name: &str, value: u64) {
        call.add_attribute(AttributeLoc::Function, attribute(self.context, name, value));
    }

    /// Calls a function that lies in the same text and keeps all general registers.
    pub(super) fn call_thunk(
        &mut self,
        name: &str,
        args: &[BasicMetadataValueEnum<'c>],
    ) -> Made<()> {
        self.made()?;
        let thunk = self.module.get_function(name).unwrap_or_else(|| {
            let thunk = self.module.add_function(name, self.function_type(args, false), None);
            thunk.set_call_conventions(PRESERVE_MOST);
            let global = thunk.as_global_value();
            // Else it would be called through a table.
            global.set_visibility(inkwell::GlobalVisibility::Hidden);
            for name in ["nounwind", "cold"] {
                let attribute = attribute(self.context, name, 0);
                thunk.add_attribute(AttributeLoc::Function, attribute);
            }
            thunk
        });
        let call = self.builder.build_call(thunk, args, "")?;
        call.set_call_convention(PRESERVE_MOST);
        Ok(())
    }

    /// The address of data that lies in the same text.
    pub(super) fn data(&mut self, name: &str) -> PointerValue<'c> {
        let data = self.module.get_global(name).unwrap_or_else(|| {
            let data = self.module.add_global(self.context.i8_type(), None, name);
            data.set_visibility(inkwell::GlobalVisibility::Hidden);
            data.set_constant(true);
            data.set_alignment(4);
            data
        });
        data.as_pointer_value()
    }

    // Arithmetic.

    pub(super) fn add(&mut self, a: IntValue<'c>, b: IntValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_int_add(a, b, "")?)
    }

    pub(super) fn sub(&mut self, a: IntValue<'c>, b: IntValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_int_sub(a, b, "")?)
    }

    pub(super) fn mul(&mut self, a: IntValue<'c>, b: IntValue<'c>) -> Made<IntValue<'c>> {
        // As many as it has partial products.
        let limbs = a.get_type().get_bit_width() as usize / 64;
        self.made += limbs * limbs;
        self.made()?;
        Ok(self.builder.build_int_mul(a, b, "")?)
    }

    pub(super) fn and(&mut self, a: IntValue<'c>, b: IntValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_and(a, b, "")?)
    }

    pub(super) fn or(&mut self, a: IntValue<'c>, b: IntValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_or(a, b, "")?)
    }

    pub(super) fn xor(&mut self, a: IntValue<'c>, b: IntValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_xor(a, b, "")?)
    }

    pub(super) fn not(&mut self, a: IntValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_not(a, "")?)
    }

    /// `a << amount`, below the width.
    pub(super) fn shl(&mut self, a: IntValue<'c>, amount: u32) -> Made<IntValue<'c>> {
        self.made()?;
        let amount = a.get_type().const_int(amount.into(), false);
        Ok(self.builder.build_left_shift(a, amount, "")?)
    }

    /// `a >> amount`, below the width.
    pub(super) fn shr(&mut self, a: IntValue<'c>, amount: u32, signed: bool) -> Made<IntValue<'c>> {
        self.made()?;
        let amount = a.get_type().const_int(amount.into(), false);
        Ok(self.builder.build_right_shift(a, amount, signed, "")?)
    }

    /// Division of 64 bits by something other than 0.
    pub(super) fn divide(
        &mut self,
        a: IntValue<'c>,
        b: IntValue<'c>,
        remainder: bool,
        signed: bool,
    ) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(match (remainder, signed) {
            (false, false) => self.builder.build_int_unsigned_div(a, b, "")?,
            (true, false) => self.builder.build_int_unsigned_rem(a, b, "")?,
            (false, true) => self.builder.build_int_signed_div(a, b, "")?,
            (true, true) => self.builder.build_int_signed_rem(a, b, "")?,
        })
    }

    pub(super) fn compare(
        &mut self,
        predicate: IntPredicate,
        a: IntValue<'c>,
        b: IntValue<'c>,
    ) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_int_compare(predicate, a, b, "")?)
    }

    /// `a` if the condition holds, else `b`.
    pub(super) fn select(
        &mut self,
        condition: IntValue<'c>,
        a: IntValue<'c>,
        b: IntValue<'c>,
    ) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_select(condition, a, b, "")?.into_int_value())
    }

    /// The value with so many bits: cut off, or zeros above.
    pub(super) fn resize(&mut self, a: IntValue<'c>, bits: u32) -> Made<IntValue<'c>> {
        let has = a.get_type().get_bit_width();
        if has == bits {
            return Ok(a);
        }
        self.made()?;
        let to = self.int_type(bits);
        Ok(match has < bits {
            true => self.builder.build_int_z_extend(a, to, "")?,
            false => self.builder.build_int_truncate(a, to, "")?,
        })
    }

    /// The value with so many bits, more than it has: its sign above.
    pub(super) fn sign_extend(&mut self, a: IntValue<'c>, bits: u32) -> Made<IntValue<'c>> {
        self.made()?;
        Ok(self.builder.build_int_s_extend(a, self.int_type(bits), "")?)
    }

    /// The bytes in reverse order.
    pub(super) fn bswap(&mut self, a: IntValue<'c>) -> Made<IntValue<'c>> {
        self.made()?;
        let of = a.get_type().into();
        let bswap = self.bswap.get_declaration(self.module, &[of]);
        let bswap = bswap.ok_or_else(|| CompileError::Codegen("no llvm.bswap".into()))?;
        let call = self.builder.build_call(bswap, &[a.into()], "")?;
        let swapped = call.try_as_basic_value().basic();
        Ok(swapped.ok_or_else(|| CompileError::Codegen("no result".into()))?.into_int_value())
    }
}

impl<'c> Notes<'c> {
    fn new(context: &'c Context) -> Self {
        let string = |name: &str| context.metadata_string(name).into();
        let int = |value: u64| context.i64_type().const_int(value, false).into();
        let root = context.metadata_node(&[string("kiln")]);
        let area = |name: &str| {
            let area = context.metadata_node(&[string(name), root.into(), int(0)]);
            context.metadata_node(&[area.into(), area.into(), int(0)])
        };
        let weight = |value: u64| context.i32_type().const_int(value, false).into();
        Self {
            areas: ["context", "stack", "memory", "scratch"].map(area),
            fixed: context.metadata_node(&[]),
            rare: context.metadata_node(&[string("branch_weights"), weight(RARE), weight(USUAL)]),
            kinds: Kinds {
                tbaa: context.get_kind_id("tbaa"),
                invariant: context.get_kind_id("invariant.load"),
                prof: context.get_kind_id("prof"),
            },
        }
    }
}

fn note(
    instruction: InstructionValue<'_>,
    note: MetadataValue<'_>,
    kind: u32,
) -> Result<(), CompileError> {
    instruction.set_metadata(note, kind).map_err(|error| CompileError::Codegen(error.to_string()))
}
