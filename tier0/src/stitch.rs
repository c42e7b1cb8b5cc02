//! Copy and patch.
//!
//! **Owns** the buffers a code object grows in, and the references between its parts: hot code, cold
//! code, exit stubs, thunks, constants, exit records. **Callers guarantee** that fields are set before a stencil
//! that uses them is emitted. **Never** decides which stencil is used.

use crate::{
    CompileError, Library,
    key::Key,
    library::PartRef,
    operand::{FIELDS, Field},
    shape::{Form, Refers},
    stencil::{Symbol, THUNKS},
    thunk,
};
use kiln_abi::{ExitId, Records, Word, envelope};
use kiln_ir::{ConstId, Module, Target};

/// Native bytes of a code object, at most: all offsets stay far below 2^31.
const CODE_BYTES_MAX: usize = 1 << 28;
/// Alignment of the constants.
const POOL_ALIGN: usize = 32;
/// Stubs of a group all reach its end with a short jump.
const STUBS_OF_GROUP: usize = 30;
/// Bytes of a stub, about.
const STUB_BYTES: usize = 4;
const NONE: u32 = u32::MAX;

/// What an offset refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dest {
    /// A region's entry.
    Region(u32),
    /// An exit's stub.
    Exit(u32),
    /// An entry of the constant pool.
    Pool(u32),
    /// A thunk.
    Thunk(u8),
    /// The records of the exits.
    Records,
    /// An offset in the hot code.
    Hot(u32),
    /// An offset in the cold code.
    Cold(u32),
}

/// A 32-bit offset to be filled in.
#[derive(Clone, Copy, Debug)]
struct Fixup {
    at: u32,
    cold: bool,
    to: Dest,
}

/// A stencil that was emitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emitted {
    /// Which.
    pub key: Key,
    /// Where its hot part lies.
    pub at: usize,
    /// Bytes of its hot part.
    pub hot: usize,
    /// Bytes of its cold part.
    pub cold: usize,
}

/// What a stencil's symbols stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbols {
    /// [`Symbol::Exit`].
    pub exit: Option<ExitId>,
    /// [`Symbol::Taken`].
    pub taken: Option<Dest>,
    /// [`Symbol::Helper`]: a thunk's number.
    pub helper: u8,
    /// [`Symbol::PoolA`]: an index into the object's pool.
    pub pool_a: u32,
    /// [`Symbol::PoolB`]
    pub pool_b: u32,
}

/// What compilations leave behind for the next one: warm buffers.
#[derive(Debug, Default)]
pub struct Scratch {
    text: Vec<u8>,
    cold: Vec<u8>,
    fixups: Vec<Fixup>,
    regions: Vec<u32>,
    pool: Vec<Word>,
    pool_of: Vec<u32>,
    exits: Vec<bool>,
    stubs: Vec<u32>,
    records: Records,
}

impl Scratch {
    /// Bytes of a buffer that are kept at most, each by itself.
    const KEPT_MAX: usize = 256 << 10;

    /// Takes back the text of a code object that is not needed any more.
    pub fn recycle(&mut self, text: Vec<u8>) {
        self.text = kept(text);
    }
}

/// The buffer, empty, if it is not too large to keep.
fn kept<T>(mut buffer: Vec<T>) -> Vec<T> {
    buffer.clear();
    let fits = buffer.capacity() * size_of::<T>() <= Scratch::KEPT_MAX;
    if fits { buffer } else { Vec::new() }
}

/// The buffer with `len` times `value`.
fn filled<T: Clone>(buffer: &mut Vec<T>, len: usize, value: T) -> Vec<T> {
    let mut buffer = std::mem::take(buffer);
    buffer.clear();
    buffer.resize(len, value);
    buffer
}

/// The buffer, empty, with room for `capacity`.
fn emptied<T>(buffer: &mut Vec<T>, capacity: usize) -> Vec<T> {
    let mut buffer = std::mem::take(buffer);
    buffer.clear();
    buffer.reserve(capacity);
    buffer
}

/// A code object's text.
pub(crate) struct Text {
    pub(crate) bytes: Vec<u8>,
    /// Bytes of it that are code.
    pub(crate) code_len: usize,
    /// Where the records begin.
    pub(crate) records: usize,
}

/// A code object in the making.
pub(crate) struct Stitcher<'m> {
    library: &'m Library,
    module: &'m Module,
    hot: Vec<u8>,
    cold: Vec<u8>,
    fixups: Vec<Fixup>,
    /// The values of the fields.
    pub values: [i64; FIELDS],
    /// What the symbols stand for.
    pub symbols: Symbols,
    /// Whether words are handled whole: less code, which is slower right behind code that wrote them limb
    /// by limb.
    pub wide: bool,
    regions: Vec<u32>,
    pool: Vec<Word>,
    /// By constant, its place in the pool; behind them, the same with the bytes reversed.
    pool_of: Vec<u32>,
    exits: Vec<bool>,
    /// Exits that are used.
    stubs_len: usize,
    /// By exit, where its stub lies; while text is put together.
    stubs: Vec<u32>,
    records: Records,
    thunks: [bool; THUNKS],
    /// What was emitted, if someone wants to know.
    pub trace: Option<Vec<Emitted>>,
}

impl<'m> Stitcher<'m> {
    /// An empty code object: it begins with the way out, so that no region lies at offset 0.
    pub(crate) fn new(
        library: &'m Library,
        module: &'m Module,
        scratch: &mut Scratch,
    ) -> Result<Self, CompileError> {
        let mut records = std::mem::take(&mut scratch.records);
        if !records.pack(&module.exits) {
            return Err(CompileError::Malformed("an exit that no record can tell of"));
        }
        let (insts, regions) = (module.insts.len(), module.regions.len());
        let mut hot = emptied(&mut scratch.text, 64 + insts * 48 + regions * 64);
        let leave = envelope::leave(&mut hot, library.is_wide());
        let mut fixups = emptied(&mut scratch.fixups, insts / 2 + regions * 3);
        fixups.push(Fixup { at: leave as u32, cold: false, to: Dest::Records });
        Ok(Self {
            library,
            module,
            hot,
            cold: emptied(&mut scratch.cold, insts * 4),
            fixups,
            values: [0; FIELDS],
            wide: false,
            symbols: Symbols { exit: None, taken: None, helper: 0, pool_a: 0, pool_b: 0 },
            regions: emptied(&mut scratch.regions, regions),
            pool: emptied(&mut scratch.pool, 0),
            pool_of: filled(&mut scratch.pool_of, 2 * module.exits.pool.len(), NONE),
            exits: filled(&mut scratch.exits, module.exits.exits.len(), false),
            stubs_len: 0,
            stubs: filled(&mut scratch.stubs, module.exits.exits.len(), 0),
            records,
            thunks: [false; THUNKS],
            trace: None,
        })
    }

    /// Refuses more text than `max` bytes, exits, their records, and constants included.
    pub(crate) fn check_len(&self, max: usize) -> Result<(), CompileError> {
        let constants = Word::BYTES * self.pool.len();
        let exits = STUB_BYTES * self.stubs_len + self.records.bytes();
        let is = self.hot.len() + self.cold.len() + constants + exits;
        if is > CODE_BYTES_MAX {
            return Err(CompileError::TooLarge);
        }
        if is > max { Err(CompileError::Text { is, max }) } else { Ok(()) }
    }

    /// Begins the next region, and returns where; `text_max` as for [`Self::check_len`].
    pub(crate) fn begin_region(&mut self, text_max: usize) -> Result<u32, CompileError> {
        self.check_len(text_max)?;
        self.regions.push(self.hot.len() as u32);
        Ok(self.hot.len() as u32)
    }

    /// Copies and patches a stencil.
    pub(crate) fn emit(&mut self, key: Key) -> Result<(), CompileError> {
        let variant =
            self.library.variant(key, &self.values, self.wide).ok_or(CompileError::NoStencil)?;
        let hot = self.library.part(variant, 0);
        let at = self.hot.len();
        let bases = [at as u32, self.cold.len() as u32];
        copy(&mut self.hot, hot, &self.values);
        self.refer(hot, bases, false)?;
        if variant.has_cold() {
            let cold = self.library.part(variant, 1);
            copy(&mut self.cold, cold, &self.values);
            self.refer(cold, bases, true)?;
        }
        if let Some(trace) = &mut self.trace {
            let cold = self.cold.len() - bases[1] as usize;
            trace.push(Emitted { key, at, hot: hot.bytes.len(), cold });
        }
        Ok(())
    }

    /// Notes the references of a part that was copied to the end of its buffer.
    fn refer(
        &mut self,
        part: PartRef<'_>,
        bases: [u32; 2],
        cold: bool,
    ) -> Result<(), CompileError> {
        for reference in part.references {
            let to = match reference.to {
                Refers::Hot(offset) => Dest::Hot(bases[0] + u32::from(offset)),
                Refers::Cold(offset) => Dest::Cold(bases[1] + u32::from(offset)),
                Refers::Symbol(symbol) => self.resolve(symbol)?,
            };
            let at = bases[cold as usize] + u32::from(reference.at);
            self.fixups.push(Fixup { at, cold, to });
        }
        Ok(())
    }

    fn resolve(&mut self, symbol: Symbol) -> Result<Dest, CompileError> {
        match symbol {
            Symbol::Exit => {
                let exit =
                    self.symbols.exit.ok_or(CompileError::Malformed("an exit is missing"))?;
                self.target(Target::Exit(exit))
            }
            Symbol::Taken => {
                self.symbols.taken.ok_or(CompileError::Malformed("a target is missing"))
            }
            Symbol::PoolA => Ok(Dest::Pool(self.symbols.pool_a)),
            Symbol::PoolB => Ok(Dest::Pool(self.symbols.pool_b)),
            Symbol::Helper => Ok(self.thunk(self.symbols.helper)),
            Symbol::Thunk(number) => Ok(self.thunk(number)),
            Symbol::Next | Symbol::Back | Symbol::Wide => Err(CompileError::NoStencil),
        }
    }

    fn thunk(&mut self, number: u8) -> Dest {
        self.thunks[number as usize] = true;
        Dest::Thunk(number)
    }

    /// Where a target lies. A back-edge's poll is placed out of line, in front of a jump to it.
    pub(crate) fn target(&mut self, target: Target) -> Result<Dest, CompileError> {
        match target {
            Target::Back { region, exit } => self.back_edge(region, exit),
            Target::Region(region) if (region as usize) < self.module.regions.len() => {
                Ok(Dest::Region(region))
            }
            Target::Region(_) => Err(CompileError::Malformed("no such region")),
            Target::Exit(ExitId(exit)) => {
                let used = self.exits.get_mut(exit as usize);
                let used = used.ok_or(CompileError::Malformed("no such exit"))?;
                self.stubs_len += !*used as usize;
                *used = true;
                Ok(Dest::Exit(exit))
            }
        }
    }

    /// The poll of a back-edge and the jump, as cold code: the side not taken pays nothing.
    fn back_edge(&mut self, region: u32, exit: ExitId) -> Result<Dest, CompileError> {
        self.symbols.exit = Some(exit);
        let to = self.target(Target::Region(region))?;
        let variant =
            self.library.variant(Key::Poll, &self.values, false).ok_or(CompileError::NoStencil)?;
        let poll = self.library.part(variant, 0);
        let at = self.cold.len() as u32;
        copy(&mut self.cold, poll, &self.values);
        self.refer(poll, [NONE, at], true)?;
        self.cold.push(0xe9);
        self.fixups.push(Fixup { at: self.cold.len() as u32, cold: true, to });
        self.cold.extend([0; 4]);
        if let Some(trace) = &mut self.trace {
            let cold = self.cold.len() - at as usize;
            trace.push(Emitted { key: Key::Poll, at: self.hot.len(), hot: 0, cold });
        }
        Ok(Dest::Cold(at))
    }

    /// `jmp target`, behind the poll of a back-edge. Where that is an exit, the way out stands here: a stub
    /// is one more cache line.
    pub(crate) fn jump(&mut self, target: Target) -> Result<(), CompileError> {
        let to = match target {
            Target::Exit(exit) => {
                self.hot.push(0xb8);
                let number = self.record(exit)?;
                self.hot.extend(number.to_le_bytes());
                Dest::Hot(0)
            }
            Target::Back { region, exit } => {
                self.symbols.exit = Some(exit);
                self.emit(Key::Poll)?;
                self.target(Target::Region(region))?
            }
            target => self.target(target)?,
        };
        self.hot.push(0xe9);
        self.fixups.push(Fixup { at: self.hot.len() as u32, cold: false, to });
        self.hot.extend([0; 4]);
        Ok(())
    }

    /// What compiled code knows an exit by.
    pub(crate) fn record(&self, exit: ExitId) -> Result<u32, CompileError> {
        self.records.number(exit).ok_or(CompileError::Malformed("no such exit"))
    }

    /// The place of a constant in the object's pool, as it is or with its bytes reversed.
    pub(crate) fn pooled(&mut self, id: ConstId, reversed: bool) -> Result<u32, CompileError> {
        let value = self.constant(id)?;
        let index = 2 * id.0 as usize + reversed as usize;
        if self.pool_of[index] == NONE {
            self.pool_of[index] = self.pool.len() as u32;
            let [a, b, c, d] = value.0;
            self.pool.push(if reversed { Word([d, c, b, a].map(u64::swap_bytes)) } else { value });
        }
        Ok(self.pool_of[index])
    }

    /// The value of a constant of the module.
    pub(crate) fn constant(&self, id: ConstId) -> Result<Word, CompileError> {
        let value = self.module.exits.pool.get(id.0 as usize);
        value.copied().ok_or(CompileError::Malformed("no such constant"))
    }

    /// Puts the parts behind each other and fills in the offsets; the buffers that are not in the
    /// answer go back.
    pub(crate) fn finish(mut self, scratch: &mut Scratch) -> Result<Text, CompileError> {
        let mut text = std::mem::take(&mut self.hot);
        let cold_start = text.len() as u32;
        text.append(&mut self.cold);
        self.exit_stubs(&mut text);
        let (mut thunks, wide) = ([0; THUNKS], self.library.is_wide());
        for (number, start) in thunks.iter_mut().enumerate() {
            if self.thunks[number] {
                *start = text.len() as u32;
                if let Some(at) = thunk::emit(&mut text, number as u8, 0, wide) {
                    let at = at as u32 - cold_start;
                    self.fixups.push(Fixup { at, cold: true, to: Dest::Records });
                }
            }
        }
        let code_len = text.len();
        if !self.pool.is_empty() {
            text.resize(code_len.next_multiple_of(POOL_ALIGN), 0xcc);
        }
        let pool_start = text.len() as u32;
        for word in &self.pool {
            word.0.iter().for_each(|limb| text.extend(limb.to_le_bytes()));
        }
        text.resize(text.len().next_multiple_of(size_of::<u32>()), 0xcc);
        let records = text.len();
        self.records.words.iter().for_each(|word| text.extend(word.to_le_bytes()));
        if text.len() > 2 * CODE_BYTES_MAX {
            return Err(CompileError::TooLarge);
        }
        for fixup in &self.fixups {
            let at = fixup.at + if fixup.cold { cold_start } else { 0 };
            let to = match fixup.to {
                Dest::Region(region) => self.regions[region as usize],
                Dest::Exit(exit) => self.stubs[exit as usize],
                Dest::Pool(index) => pool_start + index * Word::BYTES as u32,
                Dest::Thunk(number) => thunks[number as usize],
                Dest::Records => records as u32,
                Dest::Hot(offset) => offset,
                Dest::Cold(offset) => cold_start + offset,
            };
            let offset = to.wrapping_sub(at + 4);
            text[at as usize..at as usize + 4].copy_from_slice(&offset.to_le_bytes());
        }
        *scratch = Scratch {
            text: Vec::new(),
            cold: kept(self.cold),
            fixups: kept(self.fixups),
            regions: kept(self.regions),
            pool: kept(self.pool),
            pool_of: kept(self.pool_of),
            exits: kept(self.exits),
            stubs: kept(self.stubs),
            records: Records {
                words: kept(self.records.words),
                numbers: kept(self.records.numbers),
            },
        };
        Ok(Text { bytes: text, code_len, records })
    }

    /// Appends the stubs of the exits that are used, and notes where they lie. A stub is
    /// `mov al, low; jmp end`, and the end of its group adds the lowest number of its records.
    fn exit_stubs(&mut self, text: &mut Vec<u8>) {
        let (exits, stubs, numbers) = (&self.exits, &mut self.stubs, &self.records.numbers);
        let mut used = (0..exits.len()).filter(|&exit| exits[exit]).peekable();
        while let Some(&first) = used.peek() {
            let base = numbers[first];
            let mut group = [0; STUBS_OF_GROUP];
            let mut len = 0;
            while len < STUBS_OF_GROUP
                && let Some(exit) = used.next_if(|&exit| numbers[exit] - base < 256)
            {
                group[len] = exit;
                len += 1;
            }
            for (i, &exit) in group[..len].iter().enumerate() {
                stubs[exit] = text.len() as u32;
                let behind = (4 * (len - i - 1)).saturating_sub(2);
                text.extend([0xb0, (numbers[exit] - base) as u8, 0xeb, behind as u8]);
            }
            // The last stub falls through: its jump goes nowhere.
            text.truncate(text.len() - 2);
            // movzx eax, al; add eax, base; jmp leave
            text.extend([0x0f, 0xb6, 0xc0, 0x05]);
            text.extend(base.to_le_bytes());
            text.push(0xe9);
            let leave = -(text.len() as i32 + 4);
            text.extend(leave.to_le_bytes());
        }
    }
}

/// Appends a part, with the fields' values.
#[inline]
fn copy(buffer: &mut Vec<u8>, part: PartRef<'_>, values: &[i64; FIELDS]) {
    let start = buffer.len();
    buffer.extend_from_slice(part.bytes);
    let copied = &mut buffer[start..];
    for patch in part.patches {
        let value = values[patch.field as usize] + i64::from(patch.add);
        let at = patch.at as usize;
        match patch.form {
            Form::Byte => copied[at] = value as u8,
            Form::Long => copied[at..at + 4].copy_from_slice(&(value as i32).to_le_bytes()),
            Form::Wide => copied[at..at + 8].copy_from_slice(&value.to_le_bytes()),
        }
    }
}

impl Stitcher<'_> {
    /// Sets a field.
    #[inline]
    pub(crate) fn set(&mut self, field: Field, value: i64) {
        self.values[field as usize] = value;
    }

    /// Whether there are stencils that handle words whole.
    pub(crate) fn is_wide(&self) -> bool {
        self.library.is_wide()
    }

    /// Bytes of hot code so far.
    pub(crate) fn hot_len(&self) -> usize {
        self.hot.len()
    }
}
