//! Code objects that came from another process.
//!
//! **Owns** what must hold of one before it is used: of the numbers in it, not of its code, which is run as
//! it is. **Callers guarantee** nothing. **Never** allocates more than the limit it was given.

use super::{JobRequest, wire::WireError};
use kiln_abi::{CodeObject, EntryTable, Pc};
use kiln_ir::ssa::INSTRUCTIONS_MAX;

/// Bytes of an entry as it is sent: pc, offset, whether it is a JUMPDEST.
pub(super) const ENTRY: usize = 9;
const JUMPDEST: u8 = 0x5b;

/// An object as it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    pub(super) text: &'a [u8],
    pub(super) code_len: u32,
    pub(super) records: u32,
    pub(super) blocks: u32,
    /// [`ENTRY`] bytes each, in the order of their pcs.
    pub(super) entries: &'a [u8],
}

/// What may still come of an answer.
pub(super) struct Budget<'a> {
    bytecode: &'a [u8],
    objects_left: usize,
    bytes_left: usize,
    text_bytes_max: usize,
}

impl<'a> Budget<'a> {
    /// For the answer to a request, of so many bytes in all.
    pub(super) fn new(request: &'a JobRequest, bytes_max: usize) -> Self {
        Self {
            bytecode: &request.bytecode,
            objects_left: request.choice.regions_max,
            bytes_left: bytes_max,
            text_bytes_max: request.limits.text_bytes_max(INSTRUCTIONS_MAX as usize),
        }
    }

    /// Takes an object.
    ///
    /// # Errors
    /// If something of it can not be, or it is over a limit.
    pub(super) fn take(&mut self, sent: Sent<'_>) -> Result<CodeObject, WireError> {
        let Some(objects_left) = self.objects_left.checked_sub(1) else {
            return Err(WireError::Malformed("more objects than regions"));
        };
        self.objects_left = objects_left;
        if sent.text.len() > self.text_bytes_max {
            return Err(WireError::Limit { what: "text", max: self.text_bytes_max });
        }
        let bytes = sent.text.len() + table_bytes_max(self.bytecode.len(), sent.entries.len());
        let Some(bytes_left) = self.bytes_left.checked_sub(bytes) else {
            return Err(WireError::Limit { what: "objects", max: self.bytes_left });
        };
        self.bytes_left = bytes_left;
        let (code_len, records) = (sent.code_len as usize, sent.records as usize);
        if code_len > records || records > sent.text.len() {
            return Err(WireError::Malformed("parts of an object outside of its text"));
        }
        if !records.is_multiple_of(align_of::<u32>()) {
            return Err(WireError::Malformed("records that are not aligned"));
        }
        Ok(CodeObject {
            text: sent.text.to_vec(),
            code_len,
            entries: self.entries(sent.entries, sent.code_len)?,
            records,
            blocks: sent.blocks as usize,
        })
    }

    fn entries(&self, sent: &[u8], code_len: u32) -> Result<EntryTable, WireError> {
        let (entries, rest) = sent.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(WireError::Malformed("a part of an entry"));
        }
        if self.bytecode.len() > EntryTable::CODE_LEN_MAX {
            return Err(WireError::Malformed("entries of code that is too long"));
        }
        let mut table = EntryTable::new(self.bytecode.len(), entries.len());
        let mut pcs = 0..self.bytecode.len() as u32;
        for &[p0, p1, p2, p3, o0, o1, o2, o3, is_jumpdest] in entries {
            let pc = u32::from_le_bytes([p0, p1, p2, p3]);
            let offset = u32::from_le_bytes([o0, o1, o2, o3]);
            if !pcs.contains(&pc) {
                return Err(WireError::Malformed("entries out of order, or behind the code"));
            }
            pcs.start = pc + 1;
            if offset == 0 || offset >= code_len || offset >> 31 != 0 {
                return Err(WireError::Malformed("an entry outside of the code"));
            }
            if is_jumpdest > 1 || is_jumpdest == 1 && self.bytecode[pc as usize] != JUMPDEST {
                return Err(WireError::Malformed("a JUMPDEST that is none"));
            }
            table.insert(Pc(pc), offset, is_jumpdest == 1);
        }
        table.shrink();
        Ok(table)
    }
}

/// Bytes of a table of entries, at most: its index, and for each entry a chunk of its own.
fn table_bytes_max(code_len: usize, entries_bytes: usize) -> usize {
    let chunks = (entries_bytes / ENTRY).min(code_len / 32 + 1);
    code_len / 16 + 256 + 128 * chunks
}

/// The entries of an object, as they are sent.
pub(super) fn entries_to_send(entries: &EntryTable) -> Vec<u8> {
    let sent = entries.iter().flat_map(|(Pc(pc), offset, is_jumpdest)| {
        let mut entry = [0; ENTRY];
        entry[..4].copy_from_slice(&pc.to_le_bytes());
        entry[4..8].copy_from_slice(&offset.to_le_bytes());
        entry[8] = is_jumpdest.into();
        entry
    });
    sent.collect()
}
