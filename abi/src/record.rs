//! Exit records as the host reads them when compiled code leaves: behind the code, in the same memory.
//!
//! **Owns** their layout. What is read about one exit, its fixups and their constants among it, lies in
//! one piece, most often in one cache line: a frame that suspends at a CALL in code that was not run
//! lately pays for each line it has to fetch, and [`ExitTable`] keeps these things in four places.
//!
//! **Callers guarantee** that an address they read a record at is one that compiled code left with, or
//! gave to a helper. **Never** is compiled code's business: to it a record is a number.
//!
//! All fields are 32-bit words. The head is `pc | kind << 21 | fixups << 24`, `moved | height << 16`,
//! `gas_back | rest << 16`. Where one of these does not fit, bit 31 of the first word is set, and the third
//! word is followed by two more: `gas_back`, `rest`, number of fixups, each a word. A fixup is
//! `slot | middle << 12 | tag << 24`: with the tag [`FROM_SLOT`] the middle is the slot it comes from; with
//! tag 0 it is the constant itself, and another tag is the number of words that follow and hold it, the
//! lowest first.

use crate::{Exit, ExitId, ExitKind, ExitTable, Fixup, Pc, Slot, Source, Word};
use core::marker::PhantomData;

const PC_BITS: u32 = 21;
const FIXUPS_SHORT: u32 = 1 << 7;
const LONG: u32 = 1 << 31;
/// Slots are sign-extended from so many bits: more than twice what a stack holds.
const SLOT_BITS: u32 = 12;
const SLOT_MASK: u32 = (1 << SLOT_BITS) - 1;
const FROM_SLOT: u32 = 0xff;

/// The records of a code object, and where each exit has its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The records, one behind the other.
    pub words: Vec<u32>,
    /// By [`ExitId`], the number of a record: its first word's index.
    pub numbers: Vec<u32>,
}

impl Records {
    /// Empties both, and packs the exits of a table. Answers false if one can not be expressed, which no
    /// exit of verified IR is.
    #[must_use]
    pub fn pack(&mut self, table: &ExitTable) -> bool {
        self.words.clear();
        self.numbers.clear();
        self.words.reserve(3 * table.exits.len() + 2 * table.fixups.len());
        self.numbers.reserve(table.exits.len());
        table.exits.iter().all(|exit| {
            self.numbers.push(self.words.len() as u32);
            self.head(exit).is_some()
                && table.fixups.get(exit.fixups_start as usize..).is_some_and(|fixups| {
                    fixups.get(..exit.fixups_len as usize).is_some_and(|fixups| {
                        fixups.iter().all(|fixup| self.fixup(table, fixup).is_some())
                    })
                })
        })
    }

    /// The number of an exit's record.
    pub fn number(&self, ExitId(id): ExitId) -> Option<u32> {
        self.numbers.get(id as usize).copied()
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        size_of_val(self.words.as_slice())
    }

    fn head(&mut self, exit: &Exit) -> Option<()> {
        let Exit { pc: Pc(pc), kind, moved, height, gas_back, rest, fixups_len, .. } = *exit;
        let fixups = u32::from(fixups_len);
        if pc >> PC_BITS != 0 {
            return None;
        }
        let first = pc | (kind as u32) << PC_BITS;
        let second = u32::from(moved as u16) | u32::from(height as u16) << 16;
        if fixups < FIXUPS_SHORT && gas_back >> 16 == 0 && rest >> 16 == 0 {
            self.words.extend([first | fixups << 24, second, gas_back | rest << 16]);
        } else {
            self.words.extend([first | LONG, second, gas_back, rest, fixups]);
        }
        Some(())
    }

    fn fixup(&mut self, table: &ExitTable, fixup: &Fixup) -> Option<()> {
        let slot = pack_slot(fixup.slot)?;
        match fixup.source {
            Source::Slot(from) => {
                self.words.push(slot | pack_slot(from)? << SLOT_BITS | FROM_SLOT << 24);
            }
            Source::Const(index) => {
                let word = table.pool.get(index as usize)?;
                if let Some(small) = word.as_u64().filter(|&small| small <= SLOT_MASK.into()) {
                    self.words.push(slot | (small as u32) << SLOT_BITS);
                } else {
                    let halves = word.0.map(|limb| [limb as u32, (limb >> 32) as u32]);
                    let halves = halves.as_flattened();
                    let len = 8 - halves.iter().rev().take_while(|&&half| half == 0).count();
                    self.words.push(slot | (len as u32) << 24);
                    self.words.extend(&halves[..len]);
                }
            }
        }
        Some(())
    }
}

fn pack_slot(Slot(slot): Slot) -> Option<u32> {
    let packed = slot as u32 & SLOT_MASK;
    (unpack_slot(packed) == Slot(slot)).then_some(packed)
}

#[inline]
fn unpack_slot(packed: u32) -> Slot {
    let unused = 32 - SLOT_BITS;
    Slot(((packed << unused) as i32 >> unused) as i16)
}

/// One exit, as it is read. The meaning of the fields is [`Exit`]'s.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// [`Exit::pc`].
    pub pc: Pc,
    /// [`Exit::kind`].
    pub kind: ExitKind,
    /// [`Exit::moved`].
    pub moved: i16,
    /// [`Exit::height`].
    pub height: i16,
    /// [`Exit::gas_back`].
    pub gas_back: u32,
    /// [`Exit::rest`].
    pub rest: u32,
    /// The writes that make the stack canonical.
    pub fixups: Fixups<'a>,
}

impl Record<'_> {
    /// Reads the record at an address.
    ///
    /// # Safety
    /// The address is that of the first word of a record that [`Records::pack`] made, and its words stay
    /// there and unchanged for the lifetime of the answer.
    #[inline]
    pub unsafe fn read<'a>(at: *const u32) -> Record<'a> {
        // SAFETY: by the caller and the layout: a head has three words, and two more if it says so.
        let (first, second, third) = unsafe { (*at, *at.add(1), *at.add(2)) };
        let (gas_back, rest, len, next) = if first & LONG == 0 {
            (third & 0xffff, third >> 16, first >> 24, 3)
        } else {
            // SAFETY: as above.
            unsafe { (third, *at.add(3), *at.add(4), 5) }
        };
        Record {
            pc: Pc(first & ((1 << PC_BITS) - 1)),
            kind: KINDS[(first >> PC_BITS & 7) as usize],
            moved: second as i16,
            height: (second >> 16) as i16,
            gas_back,
            rest,
            // SAFETY: the fixups follow the head.
            fixups: Fixups { at: unsafe { at.add(next) }, len, words: PhantomData },
        }
    }
}

/// By number; what no record has stands in for the numbers that are left over.
const KINDS: [ExitKind; 8] = {
    use ExitKind::{Interpret, Resume, Return, Revert, Stop};
    [Interpret, Resume, Stop, Return, Revert, Interpret, Interpret, Interpret]
};

/// The fixups of a record, in order.
#[derive(Clone, Copy, Debug)]
pub struct Fixups<'a> {
    at: *const u32,
    len: u32,
    words: PhantomData<&'a [u32]>,
}

/// What a fixup writes.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    /// The content of another slot.
    Slot(Slot),
    /// This word.
    Const(Packed<'a>),
}

/// A constant of a record. It is read limb by limb: a word that is put together in memory and then moved
/// as a whole waits for its own parts.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    halves: *const u32,
    len: usize,
    /// The lowest limb, where no half has it.
    small: u64,
    words: PhantomData<&'a [u32]>,
}

impl Packed<'_> {
    /// Limb `k`, the lowest first.
    #[inline]
    pub fn limb(&self, k: usize) -> u64 {
        let half = |at: usize| match at < self.len {
            // SAFETY: by the layout, `len` halves lie there.
            true => u64::from(unsafe { *self.halves.add(at) }),
            false => 0,
        };
        let limb = half(2 * k) | half(2 * k + 1) << 32;
        if k == 0 { limb | self.small } else { limb }
    }

    /// All of it.
    pub fn word(&self) -> Word {
        Word(core::array::from_fn(|k| self.limb(k)))
    }
}

impl<'a> Iterator for Fixups<'a> {
    type Item = (Slot, Written<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.len = self.len.checked_sub(1)?;
        // SAFETY: `read` established that so many fixups lie here, each with the words it tells of.
        unsafe {
            let head = *self.at;
            let slot = unpack_slot(head & SLOT_MASK);
            let middle = head >> SLOT_BITS & SLOT_MASK;
            let more = match head >> 24 {
                FROM_SLOT => {
                    self.at = self.at.add(1);
                    return Some((slot, Written::Slot(unpack_slot(middle))));
                }
                more => more as usize,
            };
            let halves = self.at.add(1);
            self.at = halves.add(more);
            let small = u64::from(middle);
            Some((slot, Written::Const(Packed { halves, len: more, small, words: PhantomData })))
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len as usize, Some(self.len as usize))
    }
}

impl ExactSizeIterator for Fixups<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table's exits, as they are read from the records.
    fn check(table: &ExitTable) {
        let mut records = Records::default();
        assert!(records.pack(table));
        for (index, exit) in table.exits.iter().enumerate() {
            let number = records.number(ExitId(index as u32)).expect("a record") as usize;
            // SAFETY: the record just packed; `records` is not changed any more.
            let read = unsafe { Record::read(records.words[number..].as_ptr()) };
            let Record { pc, kind, moved, height, gas_back, rest, fixups } = read;
            assert_eq!(
                (pc, kind, moved, height, gas_back, rest),
                (exit.pc, exit.kind, exit.moved, exit.height, exit.gas_back, exit.rest)
            );
            assert_eq!(fixups.len(), exit.fixups_len as usize);
            for (read, fixup) in fixups.zip(table.fixups(exit)) {
                assert_eq!(read.0, fixup.slot);
                match (read.1, fixup.source) {
                    (Written::Slot(read), Source::Slot(from)) => assert_eq!(read, from),
                    (Written::Const(read), Source::Const(index)) => {
                        assert_eq!(read.word(), table.pool[index as usize]);
                    }
                    (read, source) => panic!("{read:?}, not {source:?}"),
                }
            }
        }
    }

    fn exit(fixups_start: usize, fixups_len: usize) -> Exit {
        Exit {
            pc: Pc(0x6000),
            kind: ExitKind::Return,
            moved: -3,
            height: -1024,
            gas_back: 700,
            rest: 3,
            fixups_start: fixups_start as u32,
            fixups_len: fixups_len as u16,
        }
    }

    #[test]
    fn what_is_packed_is_read() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..300 {
            let pool: Vec<_> = (0..rng.usize(1..9))
                .map(|_| {
                    let limbs = rng.usize(0..=4);
                    let shift = rng.u32(0..64);
                    Word(std::array::from_fn(|i| if i < limbs { rng.u64(..) >> shift } else { 0 }))
                })
                .collect();
            let mut table = ExitTable { exits: Vec::new(), fixups: Vec::new(), pool };
            for _ in 0..rng.usize(0..20) {
                let start = table.fixups.len();
                let len = if rng.u8(..) == 0 { rng.usize(0..1025) } else { rng.usize(0..6) };
                for _ in 0..len {
                    let slot = |rng: &mut fastrand::Rng| Slot(rng.i16(-1024..=1024));
                    let source = match rng.bool() {
                        true => Source::Slot(slot(&mut rng)),
                        false => Source::Const(rng.u32(0..table.pool.len() as u32)),
                    };
                    table.fixups.push(Fixup { slot: slot(&mut rng), source });
                }
                let bits = rng.u32(0..32);
                table.exits.push(Exit {
                    pc: Pc(rng.u32(0..1 << PC_BITS)),
                    kind: KINDS[rng.usize(0..5)],
                    moved: rng.i16(..),
                    height: rng.i16(..),
                    gas_back: rng.u32(..) >> bits,
                    rest: rng.u32(..) >> bits,
                    ..exit(start, len)
                });
            }
            check(&table);
        }
    }

    #[test]
    fn a_usual_exit_fits_a_cache_line() {
        let fixup = |slot, source| Fixup { slot: Slot(slot), source };
        let fixups = vec![
            fixup(0, Source::Const(0)),
            fixup(1, Source::Slot(Slot(-2))),
            fixup(2, Source::Const(1)),
            fixup(3, Source::Const(2)),
        ];
        let address = Word([u64::MAX, u64::MAX, u32::MAX.into(), 0]);
        let pool = vec![Word::from_u64(0x1234), Word::ZERO, address];
        let mut records = Records::default();
        assert!(records.pack(&ExitTable { exits: vec![exit(0, 4)], fixups, pool }));
        assert_eq!(records.words.len(), 3 + 4 + 1 + 5);
    }

    #[test]
    fn what_no_verified_exit_has_is_refused() {
        let mut records = Records::default();
        let mut refused = |change: &dyn Fn(&mut ExitTable)| {
            let fixups = vec![Fixup { slot: Slot(0), source: Source::Const(0) }];
            let mut table = ExitTable { exits: vec![exit(0, 1)], fixups, pool: vec![Word::ZERO] };
            assert!(records.pack(&table));
            change(&mut table);
            !records.pack(&table)
        };
        assert!(refused(&|table| table.exits[0].pc = Pc(1 << PC_BITS)));
        assert!(refused(&|table| table.fixups[0].slot = Slot(2048)));
        assert!(refused(&|table| table.fixups[0].source = Source::Slot(Slot(-2049))));
        assert!(refused(&|table| table.fixups[0].source = Source::Const(1)));
        assert!(refused(&|table| table.exits[0].fixups_start = 1));
        assert!(refused(&|table| table.exits[0].fixups_len = 2));
    }
}
