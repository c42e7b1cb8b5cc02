//! The table of entries: by pc, where compiled code can be entered.
//!
//! **Owns** its layout, which compiled code reads too: a `u16` for every 32 pcs names a *chunk* of 32
//! entries. Index and chunks lie in one allocation of 128-byte units, so that one pointer reaches
//! both; the first unit behind the index is the chunk without entries, which all pcs begin with. So
//! its size follows what was compiled: a sixteenth of the code, and 128 bytes for 32 pcs with any
//! entry.
//!
//! **Callers guarantee** that offsets are those of entries. **Never** shrinks while compiled code may
//! read it.

use crate::Pc;

/// Entries of a chunk.
const CHUNK: usize = 32;
/// Index fields of a unit: each half an entry wide.
const FIELDS: usize = 2 * CHUNK;

/// By pc, where compiled code can be entered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryTable {
    /// The index, two fields a word, the lower first; the empty chunk; the chunks. An entry is
    /// `offset << 1 | is_jumpdest`, 0 for none. A code object's first block never lies at offset 0,
    /// so that 0 is free.
    table: Vec<u32>,
    /// One more than the bytes of bytecode.
    pcs: usize,
}

/// An [`EntryTable`] as [`crate::Context`] refers to it, wherever its words lie.
#[derive(Clone, Copy, Debug)]
pub struct RawEntries<'a> {
    words: &'a [u32],
    pcs: usize,
}

impl<'a> RawEntries<'a> {
    /// A table whose words were copied to another place: the [`EntryTable::words`] of one for `pcs - 1`
    /// bytes of code.
    #[inline]
    pub fn new(words: &'a [u32], pcs: usize) -> Self {
        Self { words, pcs }
    }

    /// [`crate::Context::entries`].
    #[inline]
    pub fn as_ptr(&self) -> *const u32 {
        self.words.as_ptr()
    }

    /// [`crate::Context::entries_len`].
    #[expect(clippy::len_without_is_empty, reason = "there is always one pc")]
    #[inline]
    pub fn len(&self) -> usize {
        self.pcs
    }

    /// The native offset at which `pc` is entered.
    #[inline]
    pub fn get(&self, pc: usize) -> Option<u32> {
        match self.entry(pc) {
            0 => None,
            entry => Some(entry >> 1),
        }
    }

    /// The table that these words were copied from.
    pub fn to_table(&self) -> EntryTable {
        EntryTable { table: self.words.to_vec(), pcs: self.pcs }
    }

    /// What [`EntryTable::read`] answers for `pc`.
    #[inline]
    fn entry(&self, pc: usize) -> u32 {
        if pc >= self.pcs {
            return 0;
        }
        let chunk = self.words[pc / (2 * CHUNK)] >> field_shift(pc) & 0xffff;
        self.words[chunk as usize * CHUNK + pc % CHUNK]
    }
}

impl EntryTable {
    /// The longest bytecode there is a table for: the numbers of all its chunks fit 16 bits.
    pub const CODE_LEN_MAX: usize = 31 << 16;

    /// A table without entries for `code_len` bytes of bytecode, with room for `entries` of them.
    ///
    /// # Panics
    /// If the code is longer than [`EntryTable::CODE_LEN_MAX`].
    pub fn new(code_len: usize, entries: usize) -> Self {
        assert!(code_len <= Self::CODE_LEN_MAX, "entries of {code_len} bytes of code");
        let pcs = code_len + 1;
        let fields = pcs.div_ceil(CHUNK);
        let empty = fields.div_ceil(FIELDS);
        let mut table = Vec::with_capacity((empty + 1 + entries.min(fields)) * CHUNK);
        table.resize(empty * CHUNK, (empty << 16 | empty) as u32);
        table.resize((empty + 1) * CHUNK, 0);
        Self { table, pcs }
    }

    /// The table's words, for [`RawEntries::new`] at another place.
    pub fn words(&self) -> &[u32] {
        &self.table
    }

    /// Adds an entry at native offset `offset`.
    ///
    /// # Panics
    /// If `offset` is 0 or at least 2^31, or `pc` lies behind the code.
    pub fn insert(&mut self, pc: Pc, offset: u32, is_jumpdest: bool) {
        assert!(offset != 0 && offset < 1 << 31, "entry {pc} at offset {offset}");
        let pc = pc.0 as usize;
        assert!(pc < self.pcs, "an entry at {pc:x}, behind the code");
        let mut chunk = self.chunk(pc);
        if chunk == self.empty() {
            chunk = self.table.len() / CHUNK;
            self.table.resize(self.table.len() + CHUNK, 0);
            let shift = field_shift(pc);
            let word = &mut self.table[pc / (2 * CHUNK)];
            *word = *word & !(0xffff << shift) | (chunk as u32) << shift;
        }
        self.table[chunk * CHUNK + pc % CHUNK] = offset << 1 | is_jumpdest as u32;
    }

    /// Gives back the room that was not used.
    pub fn shrink(&mut self) {
        self.table.shrink_to_fit();
    }

    /// The native offset at which `pc` is entered.
    #[inline]
    pub fn get(&self, pc: usize) -> Option<u32> {
        self.raw().get(pc)
    }

    /// Whether `pc` is an entry that a computed jump may reach.
    pub fn is_jumpdest(&self, pc: usize) -> bool {
        self.raw().entry(pc) & 1 != 0
    }

    /// The table as compiled code reads it. Valid until an entry is added.
    pub fn raw(&self) -> RawEntries<'_> {
        RawEntries { words: &self.table, pcs: self.pcs }
    }

    /// What compiled code reads for `pc`: `offset << 1 | is_jumpdest`, 0 for none.
    ///
    /// # Safety
    /// `entries` and `len` are those of the [`EntryTable::raw`] of a table that is alive and has not
    /// changed since.
    #[inline]
    pub unsafe fn read(entries: *const u32, len: u64, pc: u64) -> u32 {
        if pc >= len {
            return 0;
        }
        let pc = pc as usize;
        // SAFETY: `new` made a field for each pc below `len`, and each names a chunk that `new` or
        // `insert` appended whole.
        unsafe {
            let chunk = *entries.add(pc / (2 * CHUNK)) >> field_shift(pc) & 0xffff;
            *entries.add(chunk as usize * CHUNK + pc % CHUNK)
        }
    }

    /// The number of the unit that is the chunk of a pc.
    #[inline]
    fn chunk(&self, pc: usize) -> usize {
        (self.table[pc / (2 * CHUNK)] >> field_shift(pc)) as usize & 0xffff
    }

    /// The number of the chunk without entries.
    fn empty(&self) -> usize {
        self.pcs.div_ceil(CHUNK).div_ceil(FIELDS)
    }

    /// The entries in the order of their pcs: pc, native offset, and whether a computed jump may reach it.
    pub fn iter(&self) -> impl Iterator<Item = (Pc, u32, bool)> {
        let chunks = (0..self.pcs).step_by(CHUNK).filter(|&pc| self.chunk(pc) != self.empty());
        chunks.flat_map(|first| first..self.pcs.min(first + CHUNK)).filter_map(|pc| {
            let entry = self.raw().entry(pc);
            (entry != 0).then_some((Pc(pc as u32), entry >> 1, entry & 1 != 0))
        })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.chunks().filter(|&&entry| entry != 0).count()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.table.capacity() * size_of::<u32>()
    }

    fn chunks(&self) -> impl Iterator<Item = &u32> {
        self.table.iter().skip(self.empty() * CHUNK)
    }
}

/// How far up in its word the index field of a pc lies.
#[inline]
const fn field_shift(pc: usize) -> usize {
    16 * (pc / CHUNK % 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an entry reads as, by all ways.
    fn read(table: &EntryTable, pc: usize) -> u32 {
        let raw = table.raw();
        // SAFETY: the table is alive and does not change.
        let entry = unsafe { EntryTable::read(raw.as_ptr(), raw.len() as u64, pc as u64) };
        assert_eq!(table.get(pc), (entry != 0).then_some(entry >> 1));
        assert_eq!(table.is_jumpdest(pc), entry & 1 != 0);
        entry
    }

    #[test]
    fn entries_are_found_where_they_were_added() {
        let mut rng = fastrand::Rng::with_seed(1);
        for code_len in [0, 1, 31, 32, 63, 64, 2047, 2048, 5000, 24_576] {
            let mut expected = vec![0; code_len + 1];
            let mut table = EntryTable::new(code_len, 3);
            assert!(table.is_empty());
            for _ in 0..rng.usize(..=code_len.div_ceil(8)) {
                let (pc, offset) = (rng.usize(..=code_len), rng.u32(1..1 << 31));
                let is_jumpdest = rng.bool();
                table.insert(Pc(pc as u32), offset, is_jumpdest);
                expected[pc] = offset << 1 | is_jumpdest as u32;
            }
            table.shrink();
            for (pc, &expected) in expected.iter().enumerate() {
                assert_eq!(read(&table, pc), expected);
            }
            for (pc, offset, is_jumpdest) in table.iter() {
                assert_eq!(offset << 1 | is_jumpdest as u32, expected[pc.0 as usize]);
            }
            assert!(table.iter().is_sorted_by(|a, b| a.0 < b.0));
            assert_eq!(table.iter().count(), table.len());
            for behind in [code_len + 1, code_len + 2, 1 << 20, usize::MAX] {
                assert_eq!(read(&table, behind), 0);
            }
            assert_eq!(table.raw().to_table(), table);
            assert_eq!(table.len(), expected.iter().filter(|&&entry| entry != 0).count());
        }
        assert_eq!(EntryTable::default().get(0), None);
        assert_eq!(EntryTable::default().iter().next(), None);
    }

    #[test]
    fn its_size_follows_what_was_compiled() {
        let mut table = EntryTable::new(24_576, 100);
        table.shrink();
        assert_eq!(table.memory_bytes(), 13 * 128 + 128);
        (0..100).for_each(|at| table.insert(Pc(1000 + at), 8, false));
        table.shrink();
        assert_eq!(table.memory_bytes(), 14 * 128 + 4 * 128);
    }

    #[test]
    fn the_longest_code_can_be_compiled_whole() {
        let mut table = EntryTable::new(EntryTable::CODE_LEN_MAX, 0);
        for pc in (0..=EntryTable::CODE_LEN_MAX).step_by(32) {
            table.insert(Pc(pc as u32), pc as u32 + 1, true);
        }
        for pc in (0..=EntryTable::CODE_LEN_MAX).step_by(32) {
            assert_eq!(table.get(pc), Some(pc as u32 + 1));
        }
    }

    #[test]
    #[should_panic(expected = "behind the code")]
    fn there_is_no_entry_behind_the_code() {
        EntryTable::new(9, 1).insert(Pc(10), 1, false);
    }
}
