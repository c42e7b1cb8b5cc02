//! From a body to a code object.
//!
//! **Owns** what lies around the body: the way out, the entry, thunks, exit records; and the references of the
//! body to them, which are all there are. **Callers guarantee** a body that Cranelift made, with
//! references to [`Symbol`]s only; another one is refused. **Never** changes the body's instructions.
//!
//! Thunks are for calls on paths that hardly ever run: they keep all registers, so that the paths around them
//! need not care. Their arguments are in rdi, rsi, rdx, rcx.

use crate::{CompileError, library, thunk};
use cranelift_codegen::{
    CompiledCode, FinalizedRelocTarget,
    binemit::Reloc,
    ir::{ExternalName, Function, UserExternalName},
};
use kiln_abi::{CodeObject, EntryTable, Helper, Records, context_offset};
use kiln_ir::ssa;

/// Where the body begins in the text. Bodies are aligned to this.
const BODY: usize = 32;

/// Calls that hardly ever happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thunk {
    /// Expands memory to a word at an offset: context, record, offset. Who called sees from the limits
    /// whether it was refused.
    ExpandWord,
    /// Expands memory to a byte.
    ExpandByte,
    /// [`Helper::Calldataload`]: context, destination, offset.
    Calldataload,
    /// Pure helpers: destination, operands, context.
    Div,
    /// As [`Self::Div`].
    Rem,
    /// As [`Self::Div`].
    Sdiv,
    /// As [`Self::Div`].
    Smod,
}

/// What a body refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    /// The records of the exits.
    Records,
    /// A thunk.
    Thunk(Thunk),
}

impl Symbol {
    const ALL: [Self; 8] = [
        Self::Records,
        Self::Thunk(Thunk::ExpandWord),
        Self::Thunk(Thunk::ExpandByte),
        Self::Thunk(Thunk::Calldataload),
        Self::Thunk(Thunk::Div),
        Self::Thunk(Thunk::Rem),
        Self::Thunk(Thunk::Sdiv),
        Self::Thunk(Thunk::Smod),
    ];

    /// The name that Cranelift knows it by.
    pub(super) fn name(self) -> UserExternalName {
        let index = Self::ALL.iter().position(|&symbol| symbol == self).unwrap_or(0);
        UserExternalName { namespace: 0, index: index as u32 }
    }
}

/// push rax, rcx, rdx, rsi, rdi, r8 to r11. With the return address the native stack is aligned to 16.
/// Vector registers are not kept: bodies have nothing in them.
const KEEP: &[u8] = &[0x50, 0x51, 0x52, 0x56, 0x57, 0x41, 0x50, 0x41, 0x51, 0x41, 0x52, 0x41, 0x53];
/// The reverse, and ret.
const RESTORE: &[u8] =
    &[0x41, 0x5b, 0x41, 0x5a, 0x41, 0x59, 0x41, 0x58, 0x5f, 0x5e, 0x5a, 0x59, 0x58, 0xc3];
/// mov rax, \[rdi + helpers\]; mov rax, \[rcx + helpers\]
const HELPERS_OF_RDI: [u8; 4] = [0x48, 0x8b, 0x47, context_offset!(helpers) as u8];
const HELPERS_OF_RCX: [u8; 4] = [0x48, 0x8b, 0x41, context_offset!(helpers) as u8];
/// mov rcx, rdx; xor edx, edx; mov r8d, size
const EXPAND_WORD: &[u8] = &[0x48, 0x89, 0xd1, 0x31, 0xd2, 0x41, 0xb8, 32, 0, 0, 0];
const EXPAND_BYTE: &[u8] = &[0x48, 0x89, 0xd1, 0x31, 0xd2, 0x41, 0xb8, 1, 0, 0, 0];
/// mov rcx, rdx; mov rdx, rsi; xor esi, esi; xor r8d, r8d: it never refuses, and gets no record.
const CALLDATALOAD: &[u8] = &[0x48, 0x89, 0xd1, 0x48, 0x89, 0xf2, 0x31, 0xf6, 0x45, 0x31, 0xc0];

impl Thunk {
    fn emit(self, text: &mut Vec<u8>) {
        let (helpers, moves, helper): (_, &[u8], _) = match self {
            Self::ExpandWord => (HELPERS_OF_RDI, EXPAND_WORD, Helper::Expand),
            Self::ExpandByte => (HELPERS_OF_RDI, EXPAND_BYTE, Helper::Expand),
            Self::Calldataload => (HELPERS_OF_RDI, CALLDATALOAD, Helper::Calldataload),
            Self::Div => (HELPERS_OF_RCX, &[], Helper::Div),
            Self::Rem => (HELPERS_OF_RCX, &[], Helper::Rem),
            Self::Sdiv => (HELPERS_OF_RCX, &[], Helper::Sdiv),
            Self::Smod => (HELPERS_OF_RCX, &[], Helper::Smod),
        };
        text.extend(KEEP);
        text.extend(helpers);
        text.extend(moves);
        // call [rax + helper]
        text.extend([0xff, 0x90]);
        text.extend(helper.offset().to_le_bytes());
        text.extend(RESTORE);
    }
}

/// Where in the text of its object a body lies.
pub(super) fn body(code: &CompiledCode) -> core::ops::Range<usize> {
    BODY..BODY + code.code_buffer().len()
}

/// Puts an object together; `text_max` is how many bytes of text there may be.
pub(super) fn assemble(
    function: &ssa::Function,
    lowered: &Function,
    code: &CompiledCode,
    records: &Records,
    text_max: usize,
) -> Result<CodeObject, CompileError> {
    let body = code.code_buffer();
    let mut text = Vec::with_capacity(BODY + body.len() + records.bytes() + 256);
    let leave = thunk::leave(&mut text, false);
    let entry = text.len();
    emit_entry(&mut text);
    text.extend(body);
    let mut places = [None; Symbol::ALL.len()];
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
        let symbol = Symbol::ALL.get(name.index as usize).ok_or_else(refused)?;
        let place = &mut places[name.index as usize];
        if let (Symbol::Thunk(thunk), None) = (symbol, &place) {
            *place = Some(text.len());
            thunk.emit(&mut text);
        }
        references.push((BODY + reloc.offset as usize, name.index as usize, reloc.addend));
    }
    let code_len = text.len();
    text.resize(code_len.next_multiple_of(size_of::<u32>()), 0xcc);
    let records_at = text.len();
    records.words.iter().for_each(|word| text.extend(word.to_le_bytes()));
    if text.len() > text_max {
        return Err(CompileError::Text { is: text.len(), max: text_max });
    }
    for (at, symbol, addend) in references {
        let to = places[symbol].unwrap_or(records_at) as i64 + addend;
        refer(&mut text, at, to)?;
    }
    refer(&mut text, leave, records_at as i64 - 4)?;
    let mut entries = EntryTable::new(function.code_len as usize, 1);
    entries.insert(function.pc, entry as u32, function.is_jumpdest);
    entries.shrink();
    Ok(CodeObject { text, code_len, records: records_at, entries, blocks: function.blocks.len() })
}

/// Writes a distance of 4 bytes: `to` is relative to the first of them.
fn refer(text: &mut [u8], at: usize, to: i64) -> Result<(), CompileError> {
    let distance = i32::try_from(to - at as i64).map_err(|_| CompileError::TooLarge)?;
    let field = text.get_mut(at..at + 4).ok_or(CompileError::TooLarge)?;
    field.copy_from_slice(&distance.to_le_bytes());
    Ok(())
}

/// Appends the entry: it keeps stack pointer and context, calls the body, and leaves with the number that it
/// answers.
fn emit_entry(text: &mut Vec<u8>) {
    if library::has_avx2() {
        // vzeroupper: stencils jump here with vectors of 256 bits in use, and helpers are SSE code.
        text.extend([0xc5, 0xf8, 0x77]);
    }
    // push rdi; push rsi; call body; pop rsi; pop rdi; jmp leave
    text.extend([0x57, 0x56, 0xe8]);
    let behind = text.len() + 4;
    text.extend(((BODY - behind) as u32).to_le_bytes());
    text.extend([0x5e, 0x5f, 0xeb]);
    text.push((text.len() as u8 + 1).wrapping_neg());
    debug_assert!(text.len() <= BODY);
    text.resize(BODY, 0xcc);
}
