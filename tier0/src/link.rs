//! Optimised regions within a code object.
//!
//! **Owns** where their text lies and where they are entered. **Callers guarantee** code objects with the
//! entry they say, made for the same bytecode and configuration as the module they are linked with: entered as
//! stencil code is, and leaving by their own exit records. **Never** changes their text: it is position
//! independent.

use crate::CompileError;
use kiln_abi::{CodeObject, EntryTable, Pc};

/// The alignment that code objects are made for.
const ALIGN: usize = 32;

/// An optimised region that takes the place of the block at its head: whoever goes there, in stencil code
/// or through the table of entries, comes to the region.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// The leader at which it is entered.
    pub pc: Pc,
    /// Its code.
    pub object: &'a CodeObject,
}

/// The regions of an object in the making.
#[derive(Debug)]
pub(crate) struct Links<'a> {
    /// By ascending pc.
    links: &'a [Link<'a>],
    /// By link, the offset at which it is entered; once they are placed.
    entries: Vec<u32>,
}

impl<'a> Links<'a> {
    /// Links in the order of their pcs, each with an entry there.
    pub(crate) fn new(links: &'a [Link<'a>]) -> Result<Self, CompileError> {
        if !links.is_sorted_by(|a, b| a.pc < b.pc) {
            return Err(CompileError::Malformed("links out of order"));
        }
        Ok(Self { links, entries: Vec::new() })
    }

    /// The link of a block, if it has one.
    pub(crate) fn at(&self, pc: Pc) -> Option<usize> {
        self.links.binary_search_by_key(&pc, |link| link.pc).ok()
    }

    /// Bytes of text, about.
    pub(crate) fn bytes(&self) -> usize {
        self.links.iter().map(|link| link.object.text.len() + ALIGN).sum()
    }

    /// Appends the text of all.
    pub(crate) fn place(&mut self, text: &mut Vec<u8>) -> Result<(), CompileError> {
        for Link { pc, object } in self.links {
            let entry = object.entries.get(pc.0 as usize);
            let entry = entry.ok_or(CompileError::Malformed("a link without its entry"))?;
            text.resize(text.len().next_multiple_of(ALIGN), 0xcc);
            self.entries.push(text.len() as u32 + entry);
            text.extend(&object.text);
        }
        Ok(())
    }

    /// Where a link is entered.
    pub(crate) fn entry(&self, link: usize) -> u32 {
        self.entries[link]
    }

    /// Adds the entries of all.
    pub(crate) fn enter(&self, entries: &mut EntryTable) {
        for (link, &entry) in self.links.iter().zip(&self.entries) {
            entries.insert(link.pc, entry, link.object.entries.is_jumpdest(link.pc.0 as usize));
        }
    }
}
