//! From a body to a code object.
//!
//! **Owns** the names by which a body refers to what lies around it, and how Cranelift's relocations become
//! references of the envelope ([`kiln_abi::envelope`]). **Callers guarantee** a body that Cranelift made, with
//! references to [`Symbol`]s only; another one is refused. **Never** changes the body's instructions.

use crate::{CompileError, library};
use cranelift_codegen::{
    CompiledCode, FinalizedRelocTarget,
    binemit::Reloc,
    ir::{ExternalName, Function, UserExternalName},
};
use kiln_abi::{
    CodeObject, Records,
    envelope::{self, AssembleError, Body, Head, Place, Reference, Symbol},
};
use kiln_ir::ssa;

/// The name that Cranelift knows a symbol by.
pub(super) fn name(symbol: Symbol) -> UserExternalName {
    UserExternalName { namespace: 0, index: symbol.index() as u32 }
}

/// Puts an object together; `text_max` is how many bytes of text there may be.
pub(super) fn assemble(
    function: &ssa::Function,
    lowered: &Function,
    code: &CompiledCode,
    records: &Records,
    text_max: usize,
) -> Result<CodeObject, CompileError> {
    let mut references = Vec::with_capacity(code.buffer.relocs().len());
    for reloc in code.buffer.relocs() {
        let refused = || CompileError::Codegen(format!("unexpected relocation {reloc:?}"));
        let FinalizedRelocTarget::ExternalName(ExternalName::User(name)) = reloc.target else {
            return Err(refused());
        };
        if !matches!(reloc.kind, Reloc::X86CallPCRel4 | Reloc::X86PCRel4) {
            return Err(refused());
        }
        let name = &lowered.params.user_named_funcs()[name];
        let symbol = *Symbol::ALL.get(name.index as usize).ok_or_else(refused)?;
        references.push(Reference {
            at: Place::Code(reloc.offset as usize),
            to: Place::Symbol(symbol),
            addend: reloc.addend,
        });
    }
    let head = Head {
        code_len: function.code_len,
        pc: function.pc,
        is_jumpdest: function.is_jumpdest,
        blocks: function.blocks.len(),
    };
    let clear_upper = library::has_avx2();
    let body = Body { code: code.code_buffer(), data: &[], references: &references, clear_upper };
    envelope::assemble(&head, &body, records, text_max).map_err(|error| match error {
        AssembleError::TooLarge => CompileError::TooLarge,
        AssembleError::Text { is, max } => CompileError::Text { is, max },
    })
}
