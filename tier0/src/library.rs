//! The stencil library.
//!
//! **Owns** all stencils, in all their encodings, in flat tables. **Callers guarantee** nothing.
//! **Never** changes after it was made.

use crate::{
    LibraryError, isa,
    key::Key,
    operand::{FIELDS, Field, Magic},
    shape::{Part, Patch, Reference},
    stencil::{Author, Authored},
    thunk, verify,
};

/// The stencils for the CPU this runs on. Made once per process, and shared.
#[derive(Debug)]
pub struct Library {
    /// By key; behind them, by key, those that handle whole words, where the CPU has what they need.
    stencils: Vec<Option<Stencil>>,
    variants: Vec<Variant>,
    code: Vec<u8>,
    patches: Vec<Patch>,
    references: Vec<Reference>,
    count: usize,
    wide: bool,
}

/// A stencil: its variants, and what decides among them.
#[derive(Clone, Copy, Debug)]
struct Stencil {
    first: u32,
    fields: u8,
    /// The fields with a short form, and the largest value that has it.
    shorts: [(Field, i8); 6],
}

/// A stencil in one encoding: ranges of the library's tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    parts: [Ranges; 2],
}

impl Variant {
    /// Whether there is a cold part.
    #[inline]
    pub(crate) fn has_cold(&self) -> bool {
        self.parts[1].code_len != 0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Ranges {
    code: u32,
    patches: u32,
    references: u32,
    code_len: u16,
    patches_len: u16,
    references_len: u16,
}

/// The hot or the cold part of a stencil, ready to be copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartRef<'l> {
    /// Machine code.
    pub bytes: &'l [u8],
    /// Where fields are written.
    pub patches: &'l [Patch],
    /// Where offsets are written.
    pub references: &'l [Reference],
}

impl Library {
    /// Authors and verifies all stencils, for the CPU this runs on. Takes some 20 ms of CPU time, on
    /// two threads.
    ///
    /// # Errors
    /// If there are no stencils for this target, or Cranelift made something the verifier refuses.
    pub fn new() -> Result<Self, LibraryError> {
        Self::with(has_avx2())
    }

    /// As [`Library::new`], without vectors of 256 bits: what CPUs without AVX2 get.
    ///
    /// # Errors
    /// As [`Library::new`].
    pub fn portable() -> Result<Self, LibraryError> {
        Self::with(false)
    }

    fn with(wide: bool) -> Result<Self, LibraryError> {
        let mut keys: Vec<_> = Key::all().into_iter().map(|key| (key, false)).collect();
        if wide {
            keys.extend(Key::all().into_iter().filter(|key| key.is_wide()).map(|key| (key, true)));
        }
        // The two compilations of a stencil do not depend on each other.
        let [first, second] = std::thread::scope(|scope| {
            let other = scope.spawn(|| author_all(&keys, &Magic::SETS[1]));
            let first = author_all(&keys, &Magic::SETS[0]);
            let second = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            [first, second]
        });
        let pairs = first?.into_iter().zip(second?).map(|(a, b)| [a, b]);
        Ok(Self { wide, ..Self::assemble(&keys, pairs)? })
    }

    /// The library of the given compilations.
    pub(crate) fn assemble(
        keys: &[(Key, bool)],
        pairs: impl Iterator<Item = [Authored; 2]>,
    ) -> Result<Self, LibraryError> {
        let mut library = Self {
            stencils: vec![None; 2 * Key::COUNT],
            variants: Vec::new(),
            code: Vec::new(),
            patches: Vec::new(),
            references: Vec::new(),
            count: keys.len(),
            wide: false,
        };
        for (&(key, wide), pair) in keys.iter().zip(pairs) {
            let shape = verify::verify(key, &pair)?;
            let shortable = shape.shortable();
            let mut stencil = Stencil {
                first: library.variants.len() as u32,
                fields: shortable.len() as u8,
                shorts: [(Field::Dst, 0); 6],
            };
            for (short, &(field, reach)) in stencil.shorts.iter_mut().zip(&shortable) {
                *short = (field, i8::MAX - reach as i8);
            }
            for set in 0..1usize << shortable.len() {
                let short: Vec<_> = (0..shortable.len())
                    .filter(|i| set >> i & 1 != 0)
                    .map(|i| shortable[i].0)
                    .collect();
                let parts = shape.assemble(&short).map(|part| library.add(part));
                library.variants.push(Variant { parts });
            }
            library.stencils[place(key, wide)] = Some(stencil);
        }
        Ok(library)
    }

    fn add(&mut self, part: Part) -> Ranges {
        let ranges = Ranges {
            code: self.code.len() as u32,
            patches: self.patches.len() as u32,
            references: self.references.len() as u32,
            code_len: part.bytes.len() as u16,
            patches_len: part.patches.len() as u16,
            references_len: part.references.len() as u16,
        };
        self.code.extend(part.bytes);
        self.patches.extend(part.patches);
        self.references.extend(part.references);
        ranges
    }

    /// The encoding of a stencil that fits the values of its fields, with whole words if that is wanted
    /// and there is such a one; none if there is no such stencil.
    #[inline]
    pub(crate) fn variant(&self, key: Key, values: &[i64; FIELDS], wide: bool) -> Option<&Variant> {
        let whole = if wide { self.stencils[place(key, true)].as_ref() } else { None };
        let stencil = whole.or(self.stencils[place(key, false)].as_ref())?;
        let mut index = stencil.first as usize;
        for (i, &(field, max)) in stencil.shorts[..stencil.fields as usize].iter().enumerate() {
            let value = values[field as usize];
            let short = value >= i64::from(i8::MIN) && value <= i64::from(max);
            index += (short as usize) << i;
        }
        self.variants.get(index)
    }

    /// The hot (0) or cold (1) part of a variant.
    #[inline]
    pub(crate) fn part(&self, variant: &Variant, part: usize) -> PartRef<'_> {
        let ranges = &variant.parts[part];
        PartRef {
            bytes: &self.code[ranges.code as usize..][..ranges.code_len as usize],
            patches: &self.patches[ranges.patches as usize..][..ranges.patches_len as usize],
            references: &self.references[ranges.references as usize..]
                [..ranges.references_len as usize],
        }
    }

    /// Whether stencils use vectors of 256 bits.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// Position-independent code; its first byte is an [`kiln_abi::EnterFn`].
    pub fn trampoline(&self) -> &[u8] {
        &thunk::TRAMPOLINE
    }

    /// Number of stencils.
    pub fn stencils(&self) -> usize {
        self.count
    }

    /// Bytes of machine code, all encodings of all stencils together.
    pub fn bytes(&self) -> usize {
        self.code.len()
    }
}

/// Where a stencil is found.
fn place(key: Key, wide: bool) -> usize {
    key.index() + if wide { Key::COUNT } else { 0 }
}

/// Whether the CPU has vectors of 256 bits that stencils use.
pub(crate) fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn author_all(keys: &[(Key, bool)], magic: &Magic) -> Result<Vec<Authored>, LibraryError> {
    let isa = isa::host()?;
    let mut author = Author::new(&*isa);
    keys.iter().map(|&(key, wide)| author.author(key, magic, wide)).collect()
}
