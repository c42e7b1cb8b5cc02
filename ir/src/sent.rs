//! Code objects that came from elsewhere: from another process, or from a file.
//!
//! **Owns** what must hold of one before it is used: of the numbers in it, not of its code, which is run as
//! it is; and how its entries are written down. **Callers guarantee** nothing of what they give here, but bound
//! what the tables may take ([`table_bytes_max`]). **Never** knows who sent it.

use crate::JumpDests;
use kiln_abi::{CodeObject, EntryTable, Pc};
use thiserror::Error;

/// Bytes of an entry as it is sent: pc, offset, whether it is a JUMPDEST.
pub const ENTRY_BYTES: usize = 9;

/// What can not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// An object as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// [`CodeObject::text`].
    pub text: &'a [u8],
    /// [`CodeObject::code_len`].
    pub code_len: u32,
    /// [`CodeObject::records`].
    pub records: u32,
    /// [`CodeObject::blocks`].
    pub blocks: u32,
    /// [`ENTRY_BYTES`] each, in the order of their pcs.
    pub entries: &'a [u8],
}

/// The code that objects are of.
#[derive(Clone, Debug)]
pub struct SentFor<'a> {
    bytecode: &'a [u8],
    jump_dests: JumpDests,
}

impl<'a> SentFor<'a> {
    /// For objects of this code.
    ///
    /// # Errors
    /// If it is too long for a table of entries.
    pub fn new(bytecode: &'a [u8]) -> Result<Self, Malformed> {
        if bytecode.len() > EntryTable::CODE_LEN_MAX {
            return Err(Malformed("entries of code that is too long"));
        }
        Ok(Self { bytecode, jump_dests: JumpDests::of(bytecode) })
    }

    /// Takes an object.
    ///
    /// # Errors
    /// If something of it can not be.
    pub fn object(&self, sent: Sent<'_>) -> Result<CodeObject, Malformed> {
        let (code_len, records) = (sent.code_len as usize, sent.records as usize);
        if code_len > records || records > sent.text.len() {
            return Err(Malformed("parts of an object outside of its text"));
        }
        if !records.is_multiple_of(align_of::<u32>()) {
            return Err(Malformed("records that are not aligned"));
        }
        Ok(CodeObject {
            text: sent.text.to_vec(),
            code_len,
            entries: self.entries(sent.entries, sent.code_len)?,
            records,
            blocks: sent.blocks as usize,
        })
    }

    /// Takes a table of entries into `code_len` bytes of machine code.
    ///
    /// # Errors
    /// If there is something else than whole entries, in the order of their pcs, from places in the bytecode to
    /// places in the code, of which only JUMPDESTs say that they are.
    pub fn entries(&self, sent: &[u8], code_len: u32) -> Result<EntryTable, Malformed> {
        let (entries, rest) = sent.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(Malformed("a part of an entry"));
        }
        let mut table = EntryTable::new(self.bytecode.len(), entries.len());
        let mut pcs = 0..self.bytecode.len() as u32;
        for &[p0, p1, p2, p3, o0, o1, o2, o3, is_jumpdest] in entries {
            let pc = u32::from_le_bytes([p0, p1, p2, p3]);
            let offset = u32::from_le_bytes([o0, o1, o2, o3]);
            if !pcs.contains(&pc) {
                return Err(Malformed("entries out of order, or behind the code"));
            }
            pcs.start = pc + 1;
            if offset == 0 || offset >= code_len || offset >> 31 != 0 {
                return Err(Malformed("an entry outside of the code"));
            }
            if is_jumpdest > 1 || is_jumpdest == 1 && !self.jump_dests.contains(pc as usize) {
                return Err(Malformed("a JUMPDEST that is none"));
            }
            table.insert(Pc(pc), offset, is_jumpdest == 1);
        }
        table.shrink();
        Ok(table)
    }
}

/// Bytes of a table of entries, at most, by the bytes of bytecode and those of the entries as they are sent: its
/// index, and for each entry a chunk of its own.
pub fn table_bytes_max(code_len: usize, entries_bytes: usize) -> usize {
    let chunks = (entries_bytes / ENTRY_BYTES).min(code_len / 32 + 1);
    code_len / 16 + 256 + 128 * chunks
}

/// The entries of an object, as they are sent.
pub fn entries_to_send(entries: &EntryTable) -> Vec<u8> {
    let sent = entries.iter().flat_map(|(Pc(pc), offset, is_jumpdest)| {
        let mut entry = [0; ENTRY_BYTES];
        entry[..4].copy_from_slice(&pc.to_le_bytes());
        entry[4..8].copy_from_slice(&offset.to_le_bytes());
        entry[8] = is_jumpdest.into();
        entry
    });
    sent.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Blocks, Config, Limits, OpcodeSet, SpecId};

    #[test]
    fn jump_destinations_are_those_of_the_block_scan() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            let code: Vec<u8> = (0..rng.usize(..200))
                .map(|_| match rng.u8(..4) {
                    0 => 0x5b,
                    1 => rng.u8(0x5f..0x80),
                    2 => rng.u8(0xe6..0xe9),
                    _ => rng.u8(..),
                })
                .collect();
            let config =
                Config { spec: SpecId::AMSTERDAM, gas: [3; 256], replaced: OpcodeSet::EMPTY };
            let blocks = Blocks::scan(&code, &config, &Limits::NONE).expect("blocks");
            let found = JumpDests::of(&code);
            assert!((0..300).all(|pc| found.contains(pc) == blocks.jump_dests.contains(pc)));
        }
    }

    #[test]
    fn only_true_entries_are_taken() {
        // A JUMPDEST, and one that is the data of a PUSH1.
        let code = [0x5b, 0x60, 0x5b, 0x00];
        let of = SentFor::new(&code).expect("short code");
        let entry = |pc, offset, is_jumpdest| [pc, 0, 0, 0, offset, 0, 0, 0, is_jumpdest];
        let read = |entries: &[[u8; 9]]| of.entries(entries.as_flattened(), 16);
        let table = read(&[entry(0, 1, 1), entry(2, 15, 0)]).expect("entries");
        assert_eq!(of.entries(&entries_to_send(&table), 16), Ok(table));
        assert!(read(&[entry(2, 1, 1)]).is_err());
        assert!(read(&[entry(4, 1, 0)]).is_err());
        assert!(read(&[entry(0, 16, 0)]).is_err());
        assert!(read(&[entry(0, 0, 0)]).is_err());
        assert!(read(&[entry(1, 3, 0), entry(0, 3, 0)]).is_err());
        assert!(of.entries(&[0; 8], 16).is_err());
        assert!(SentFor::new(&vec![0; EntryTable::CODE_LEN_MAX + 1]).is_err());
    }
}
