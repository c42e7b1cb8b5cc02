//! What lies around the body of a region: every compiler of regions makes a body, and this is the rest.
//!
//! **Owns** the entry, the way out, the thunks, the order of all parts in the text, and the references
//! between them, which are all there are. **Callers guarantee** a body that is a function of the System V
//! convention from stack pointer and context to the number of the exit's record, and that refers to
//! [`Place`]s only. **Never** changes the body's instructions.
//!
//! The text: the entry and the way out, the body's code, thunks; then data, which is the body's constants and
//! the records. It is entered and left as stencil code is, so that code of all compilers jumps
//! to each other's entries: rdi is the stack pointer, rsi the context, rbp the frame of the trampoline, the
//! native stack pointer is aligned to 16. Where a body is called it is aligned to [`STACK_ALIGN`].
//!
//! Thunks are for calls on paths that hardly ever run: they keep all general registers, so that the paths
//! around them need not care. Their arguments are in rdi, rsi, rdx, rcx.

use crate::{CodeObject, EntryTable, Helper, Pc, Records, context_offset};
use core::fmt;

/// Where the body begins in the text. Bodies, and their data, are aligned to this.
pub const BODY: usize = 32;

/// What the native stack pointer is aligned to where a body is called.
pub const STACK_ALIGN: u32 = 32;

/// Calls that hardly ever happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thunk {
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

/// What a body refers to outside of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// The records of the exits.
    Records,
    /// A thunk.
    Thunk(Thunk),
}

impl Symbol {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Records,
        Self::Thunk(Thunk::ExpandWord),
        Self::Thunk(Thunk::ExpandByte),
        Self::Thunk(Thunk::Calldataload),
        Self::Thunk(Thunk::Div),
        Self::Thunk(Thunk::Rem),
        Self::Thunk(Thunk::Sdiv),
        Self::Thunk(Thunk::Smod),
    ];

    /// The place in [`Self::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|&symbol| symbol == self).unwrap_or(0)
    }

    /// The name by which compilers that know symbols by name refer to it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "kiln.records",
            Self::Thunk(Thunk::ExpandWord) => "kiln.expand_word",
            Self::Thunk(Thunk::ExpandByte) => "kiln.expand_byte",
            Self::Thunk(Thunk::Calldataload) => "kiln.calldataload",
            Self::Thunk(Thunk::Div) => "kiln.div",
            Self::Thunk(Thunk::Rem) => "kiln.rem",
            Self::Thunk(Thunk::Sdiv) => "kiln.sdiv",
            Self::Thunk(Thunk::Smod) => "kiln.smod",
        }
    }
}

/// A place in the text, however its parts are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A byte of the body's code.
    Code(usize),
    /// A byte of the body's data.
    Data(usize),
    /// What the envelope provides.
    Symbol(Symbol),
}

/// A field of 4 bytes that is to hold the distance from its own first byte to a place, plus `addend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The field: in code or data.
    pub at: Place,
    /// The place it refers to.
    pub to: Place,
    /// What is added.
    pub addend: i64,
}

/// What a compiler made.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// Machine code; it is entered at its first byte.
    pub code: &'a [u8],
    /// Constants.
    pub data: &'a [u8],
    /// All references, of code and of data.
    pub references: &'a [Reference],
    /// Whether the CPU has vectors of 256 bits, which who jumps to the entry may have in use.
    pub clear_upper: bool,
}

/// Where a region is entered.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Bytes of bytecode.
    pub code_len: u32,
    /// The leader.
    pub pc: Pc,
    /// Whether it is a JUMPDEST.
    pub is_jumpdest: bool,
    /// Blocks that were compiled.
    pub blocks: usize,
}

/// Why there is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssembleError {
    /// A distance or an offset does not fit its field.
    TooLarge,
    /// More text than was allowed.
    Text {
        /// Bytes of text.
        is: usize,
        /// The bound.
        max: usize,
    },
}

impl fmt::Display for AssembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the region is too large"),
            Self::Text { is, max } => {
                write!(f, "the text is {is} bytes, over the limit of {max}")
            }
        }
    }
}

impl core::error::Error for AssembleError {}

/// `vzeroupper`: what follows may be SSE code, which on some CPUs is slow while the upper halves of vector
/// registers are in use.
pub const CLEAR_UPPER: [u8; 3] = [0xc5, 0xf8, 0x77];

/// Appends the way out, with the number of the exit's record in rax: returns from the trampoline with the
/// record's address. `wide` says whether the code before it uses vectors of 256 bits. Answers where the
/// distance to the records is to be filled in.
pub fn leave(code: &mut Vec<u8>, wide: bool) -> usize {
    if wide {
        code.extend(CLEAR_UPPER);
    }
    // lea rcx, [rip + records]
    code.extend([0x48, 0x8d, 0x0d, 0, 0, 0, 0]);
    let records = code.len() - 4;
    // lea rax, [rcx + 4 * rax]; mov rdx, rdi; leave; ret
    code.extend([0x48, 0x8d, 0x04, 0x81, 0x48, 0x89, 0xfa, 0xc9, 0xc3]);
    records
}

/// Appends the entry, and the way out behind it: it keeps the stack pointer, calls the body, and returns from the
/// trampoline with the address of the record whose number the body answers. Answers where it begins, and where
/// the distance to the records is to be filled in.
///
/// The body's native stack is aligned to 32 where it is called, so that no word there lies across a cache line: a
/// load of one limb waits for a store across two of them until it is in the cache.
fn enter(text: &mut Vec<u8>, clear_upper: bool) -> (usize, usize) {
    // No entry lies at 0.
    text.push(TRAP);
    let entry = text.len();
    if clear_upper {
        // Stencils jump here with vectors of 256 bits in use, and helpers are SSE code.
        text.extend(CLEAR_UPPER);
    }
    // and rsp, -32; push rdi, four times; call body; pop rdx
    text.extend([0x48, 0x83, 0xe4, 0xe0, 0x57, 0x57, 0x57, 0x57, 0xe8]);
    let behind = text.len() + 4;
    text.extend(((BODY - behind) as u32).to_le_bytes());
    text.push(0x5a);
    // lea rcx, [rip + records]; lea rax, [rcx + 4 * rax]; leave; ret
    text.extend([0x48, 0x8d, 0x0d, 0, 0, 0, 0]);
    let records = text.len() - 4;
    text.extend([0x48, 0x8d, 0x04, 0x81, 0xc9, 0xc3]);
    debug_assert!(text.len() <= BODY);
    text.resize(BODY, TRAP);
    (entry, records)
}

/// int3, between parts.
const TRAP: u8 = 0xcc;
/// push rax, rcx, rdx, rsi, rdi, r8 to r11. With the return address the native stack is aligned to 16.
/// Vector registers are not kept: bodies expect nothing in them behind a thunk.
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

/// Puts an object together; `text_max` is how many bytes of text there may be.
///
/// # Errors
/// If there are more, or a distance or the length of the bytecode does not fit its field.
pub fn assemble(
    head: &Head,
    body: &Body<'_>,
    records: &Records,
    text_max: usize,
) -> Result<CodeObject, AssembleError> {
    if head.code_len as usize > EntryTable::CODE_LEN_MAX || head.pc.0 > head.code_len {
        return Err(AssembleError::TooLarge);
    }
    let mut text =
        Vec::with_capacity(BODY + body.code.len() + body.data.len() + records.bytes() + 256);
    let (entry, leave_at) = enter(&mut text, body.clear_upper);
    text.extend(body.code);
    let mut places = [None; Symbol::ALL.len()];
    for reference in body.references {
        if let Place::Symbol(symbol @ Symbol::Thunk(thunk)) = reference.to
            && let place @ None = &mut places[symbol.index()]
        {
            *place = Some(text.len());
            thunk.emit(&mut text);
        }
    }
    let code_len = text.len();
    if !body.data.is_empty() {
        text.resize(code_len.next_multiple_of(BODY), TRAP);
    }
    let data_at = text.len();
    text.extend(body.data);
    text.resize(text.len().next_multiple_of(size_of::<u32>()), TRAP);
    let records_at = text.len();
    records.words.iter().for_each(|word| text.extend(word.to_le_bytes()));
    if text.len() > text_max {
        return Err(AssembleError::Text { is: text.len(), max: text_max });
    }
    let address = |place: Place| match place {
        Place::Code(at) => BODY + at,
        Place::Data(at) => data_at + at,
        Place::Symbol(symbol) => places[symbol.index()].unwrap_or(records_at),
    };
    for reference in body.references {
        let to = address(reference.to) as i64 + reference.addend;
        refer(&mut text, address(reference.at), to)?;
    }
    refer(&mut text, leave_at, records_at as i64 - 4)?;
    let mut entries = EntryTable::new(head.code_len as usize, 1);
    entries.insert(head.pc, entry as u32, head.is_jumpdest);
    entries.shrink();
    Ok(CodeObject { text, code_len, records: records_at, entries, blocks: head.blocks })
}

/// Writes a distance of 4 bytes: `to` is relative to the first of them.
fn refer(text: &mut [u8], at: usize, to: i64) -> Result<(), AssembleError> {
    let distance = i32::try_from(to - at as i64).map_err(|_| AssembleError::TooLarge)?;
    let field = text.get_mut(at..at + 4).ok_or(AssembleError::TooLarge)?;
    field.copy_from_slice(&distance.to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { code_len: 9, pc: Pc(3), is_jumpdest: true, blocks: 2 };

    fn field(object: &CodeObject, at: usize) -> usize {
        let bytes = object.text[at..at + 4].try_into().expect("four bytes");
        at.wrapping_add(i32::from_le_bytes(bytes) as usize)
    }

    #[test]
    fn references_reach_their_places() {
        let records = Records { words: vec![1, 2, 3], numbers: vec![0] };
        let at = Place::Code;
        let references = [
            Reference { at: at(0), to: Place::Symbol(Symbol::Thunk(Thunk::Div)), addend: -4 },
            Reference { at: at(4), to: Place::Symbol(Symbol::Thunk(Thunk::Div)), addend: 0 },
            Reference { at: at(8), to: Place::Symbol(Symbol::Records), addend: 8 },
            Reference { at: at(12), to: Place::Data(2), addend: 0 },
            Reference { at: Place::Data(0), to: at(1), addend: 0 },
        ];
        let (code, data) = ([0x90; 17], [7; 5]);
        let body = Body { code: &code, data: &data, references: &references, clear_upper: true };
        let object = assemble(&HEAD, &body, &records, 1000).expect("small enough");
        let (thunk, data_at) = (BODY + 17, object.code_len.next_multiple_of(BODY));
        assert_eq!(object.text[thunk..][..KEEP.len()], *KEEP);
        assert_eq!(field(&object, BODY), thunk - 4);
        assert_eq!(field(&object, BODY + 4), thunk);
        assert_eq!(field(&object, BODY + 8), object.records + 8);
        assert_eq!(field(&object, BODY + 12), data_at + 2);
        assert_eq!(field(&object, data_at), BODY + 1);
        assert_eq!(object.text[data_at + 4], 7);
        assert_eq!(object.records % 4, 0);
        assert_eq!(object.text[object.records..], [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!((object.blocks, object.entries.is_jumpdest(3)), (2, true));
        assert_eq!(
            object.text[object.entries.get(3).expect("an entry") as usize..][..3],
            CLEAR_UPPER
        );
        let refused = assemble(&HEAD, &body, &records, 100);
        assert_eq!(refused, Err(AssembleError::Text { is: object.text.len(), max: 100 }));
    }

    #[test]
    fn what_lies_outside_is_refused() {
        let records = Records::default();
        let far = Reference { at: Place::Code(0), to: Place::Code(0), addend: 1 << 31 };
        let outside = Reference { at: Place::Data(1), to: Place::Code(0), addend: 0 };
        for reference in [far, outside] {
            let references = [reference];
            let body =
                Body { code: &[0; 8], data: &[0; 4], references: &references, clear_upper: false };
            let refused = assemble(&HEAD, &body, &records, 1000);
            assert_eq!(refused, Err(AssembleError::TooLarge));
        }
        let body = Body { code: &[], data: &[], references: &[], clear_upper: false };
        let behind = Head { pc: Pc(10), ..HEAD };
        assert_eq!(assemble(&behind, &body, &records, 1000), Err(AssembleError::TooLarge));
    }

    #[test]
    fn names_are_distinct() {
        for (index, symbol) in Symbol::ALL.into_iter().enumerate() {
            assert_eq!(symbol.index(), index);
            let same = Symbol::ALL.iter().filter(|other| other.name() == symbol.name());
            assert_eq!(same.count(), 1);
        }
    }
}
