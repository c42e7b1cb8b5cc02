//! Authoring: one Cranelift function per stencil.
//!
//! **Owns** the shape of the functions: `CallConv::Tail`, the stack pointer and the context as first
//! parameters, jumps out of the stencil as calls of dummy symbols. **Callers guarantee** an ISA of
//! [`crate::isa`]. **Never** interprets the code that comes out: that is [`crate::verify`].

use crate::{
    LibraryError, hand,
    key::Key,
    lower::{self, Lower},
    operand::Magic,
};
use cranelift_codegen::{
    Context, FinalizedRelocTarget,
    binemit::Reloc,
    control::ControlPlane,
    ir::{AbiParam, ExternalName, Function, Signature, UserFuncName, types::I64},
    isa::{CallConv, TargetIsa},
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use kiln_abi::Helper;

/// Out-of-line code that is not a helper itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Thunk {
    /// Memory expansion to a word at the offset in a slot.
    ExpandSlot32 = Helper::ALL.len() as u8,
    /// To a byte at the offset in a slot.
    ExpandSlot1,
    /// To a word at a constant offset.
    ExpandConst32,
    /// To a byte at a constant offset.
    ExpandConst1,
}

/// Number of thunks: one a helper, and the ones above.
pub(crate) const THUNKS: usize = Helper::ALL.len() + 4;

/// What a stencil refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Symbol {
    /// The next stencil: what is cut off.
    Next,
    /// The exit of the instruction.
    Exit,
    /// The target of the branch.
    Taken,
    /// The start of this stencil.
    Back,
    /// The pool word of the first operand.
    PoolA,
    /// The pool word of the second operand.
    PoolB,
    /// A 64-bit immediate.
    Wide,
    /// The thunk of the helper the instruction names.
    Helper,
    /// A thunk.
    Thunk(u8),
}

impl Symbol {
    const PLAIN: [Self; 8] = [
        Self::Next,
        Self::Exit,
        Self::Taken,
        Self::Back,
        Self::PoolA,
        Self::PoolB,
        Self::Wide,
        Self::Helper,
    ];

    /// The symbol's number in Cranelift's names.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Thunk(number) => 0x100 + u32::from(number),
            plain => Self::PLAIN.iter().position(|&symbol| symbol == plain).unwrap_or(0) as u32,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        match code {
            0x100..0x200 => Some(Self::Thunk((code - 0x100) as u8)),
            _ => Self::PLAIN.get(code as usize).copied(),
        }
    }
}

/// How a symbol's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// 4 bytes, relative to the end of the field.
    Relative,
    /// 8 bytes.
    Absolute,
}

/// A stencil as it came from Cranelift.
#[derive(Clone, Debug)]
pub(crate) struct Authored {
    /// Machine code, prologue and epilogues included.
    pub bytes: Vec<u8>,
    /// Where symbols are referred to.
    pub relocs: Vec<(usize, Symbol, Width)>,
}

/// Cranelift's reusable state.
pub(crate) struct Author<'i> {
    isa: &'i dyn TargetIsa,
    context: Context,
    builder: FunctionBuilderContext,
    control: ControlPlane,
}

impl<'i> Author<'i> {
    /// An author for the given CPU.
    pub(crate) fn new(isa: &'i dyn TargetIsa) -> Self {
        Self {
            isa,
            context: Context::new(),
            builder: FunctionBuilderContext::new(),
            control: ControlPlane::default(),
        }
    }

    /// Compiles one stencil, with the given values standing for its fields; with whole words if `wide`,
    /// where the key has that.
    pub(crate) fn author(
        &mut self,
        key: Key,
        magic: &Magic,
        wide: bool,
    ) -> Result<Authored, LibraryError> {
        if let Some(authored) = hand::author(key, magic, wide) {
            return Ok(authored);
        }
        let params = match key {
            Key::Argument(..) | Key::ExitArgument | Key::Call => 6,
            _ => 2,
        };
        let mut signature = Signature::new(CallConv::Tail);
        signature.params.resize(params, AbiParam::new(I64));
        self.context.clear();
        self.context.func = Function::with_name_signature(UserFuncName::default(), signature);
        self.build(key, magic);
        let failed = |error: String| LibraryError::Codegen { stencil: format!("{key:?}"), error };
        self.context
            .compile(self.isa, &mut self.control)
            .map_err(|error| failed(format!("{:?}", error.inner)))?;
        let code =
            self.context.take_compiled_code().ok_or_else(|| failed("no code was made".into()))?;
        let mut relocs = Vec::new();
        for reloc in code.buffer.relocs() {
            let FinalizedRelocTarget::ExternalName(ExternalName::User(name)) = reloc.target else {
                return Err(failed(format!("unexpected relocation {reloc:?}")));
            };
            let name = &self.context.func.params.user_named_funcs()[name];
            let symbol = Symbol::from_code(name.index);
            let width = match (reloc.kind, reloc.addend) {
                (Reloc::X86CallPCRel4 | Reloc::X86PCRel4, -4) => Width::Relative,
                (Reloc::Abs8, 0) => Width::Absolute,
                _ => return Err(failed(format!("unexpected relocation {reloc:?}"))),
            };
            let symbol = symbol.ok_or_else(|| failed("unknown symbol".into()))?;
            relocs.push((reloc.offset as usize, symbol, width));
        }
        Ok(Authored { bytes: code.code_buffer().to_vec(), relocs })
    }

    fn build(&mut self, key: Key, magic: &Magic) {
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let entry = builder.create_block();
        builder.append_block_params_for_function_params(entry);
        builder.switch_to_block(entry);
        let params = builder.block_params(entry).to_vec();
        let mut l = Lower { sp: params[0], cx: params[1], params, b: &mut builder, magic };
        lower::lower(&mut l, key);
        l.tail(Symbol::Next);
        builder.seal_all_blocks();
        builder.finalize(self.isa.frontend_config());
    }
}
