//! From an ELF object to the body of a code object: what a linker does, as far as one is needed.
//!
//! **Owns** which sections are taken, where they lie, and what relocations mean. **Callers guarantee** nothing
//! of the object: it is made by a compiler of half a million lines, and what is not expected is refused.
//! **Never** links against anything but [`Symbol`]s.
//!
//! Code sections become the body's code, other sections that are read when it runs its data, each in the order
//! of the file. Relocations are distances of 32 bits; there is nothing else in position-independent code that
//! refers to nothing outside of its text.

use kiln_abi::envelope::{BODY, Place, Reference, Symbol};
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget,
    SectionFlags, SectionIndex, elf, read::elf::ElfFile64,
};
use std::collections::HashMap;
use thiserror::Error;

/// Why an object was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// It is no object for this target, or is broken.
    #[error("the object can not be read: {0}")]
    Unreadable(String),
    /// A relocation of another type than those of position-independent code.
    #[error("relocation type {kind} in {section}")]
    Relocation {
        /// `R_X86_64_*`, as its number.
        kind: u32,
        /// The section it is in.
        section: String,
    },
    /// A relocation outside of its section, or to a place that was not loaded.
    #[error("a relocation in {0} has no place")]
    Misplaced(String),
    /// A symbol that nobody defines.
    #[error("undefined symbol {0:?}")]
    Undefined(String),
    /// A section that is written while code runs.
    #[error("writable section {0}")]
    Writable(String),
    /// A section of thread-local data.
    #[error("thread-local section {0}")]
    ThreadLocal(String),
    /// A section of functions that are to be called at start-up.
    #[error("section of initialisers {0}")]
    Initialisers(String),
    /// A section with a larger alignment than code objects have.
    #[error("section {section} is aligned to {align}")]
    Alignment {
        /// The section.
        section: String,
        /// What it wants.
        align: u64,
    },
    /// There is not one function, or it is not where it is entered.
    #[error("the body does not begin the code")]
    Body,
}

/// What was loaded: what [`kiln_abi::envelope::Body`] is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) code: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) references: Vec<Reference>,
}

/// The name of the function that is entered.
pub(crate) const ENTRY: &str = "body";

const TRAP: u8 = 0xcc;

impl From<object::Error> for LoadError {
    fn from(error: object::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Loads an object whose function [`ENTRY`] begins its code.
pub(crate) fn load(object: &[u8]) -> Result<Loaded, LoadError> {
    let file = ElfFile64::<Endianness>::parse(object)?;
    if file.architecture() != object::Architecture::X86_64 || !file.is_little_endian() {
        return Err(LoadError::Unreadable("another architecture".into()));
    }
    let mut loader = Loader { file, loaded: Loaded::default(), places: HashMap::new() };
    loader.place_sections()?;
    loader.check_entry()?;
    loader.relocate()?;
    Ok(loader.loaded)
}

struct Loader<'a> {
    file: ElfFile64<'a, Endianness>,
    loaded: Loaded,
    /// By section, where it begins, and its bytes.
    places: HashMap<SectionIndex, (Place, usize)>,
}

impl Loader<'_> {
    fn place_sections(&mut self) -> Result<(), LoadError> {
        for section in self.file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let flags = sh_flags;
            let is = |flag: u32| flags & u64::from(flag) != 0;
            if !is(elf::SHF_ALLOC) {
                continue;
            }
            let name = || section.name().unwrap_or("?").to_owned();
            let kind = section.kind();
            if is(elf::SHF_TLS) {
                return Err(LoadError::ThreadLocal(name()));
            }
            let section_name = section.name()?;
            if [".init", ".fini", ".ctors", ".dtors", ".preinit"]
                .iter()
                .any(|prefix| section_name.starts_with(prefix))
            {
                return Err(LoadError::Initialisers(name()));
            }
            if is(elf::SHF_WRITE) || kind == object::SectionKind::UninitializedData {
                return Err(LoadError::Writable(name()));
            }
            if section.size() == 0 {
                continue;
            }
            if section.align() > BODY as u64 {
                return Err(LoadError::Alignment { section: name(), align: section.align() });
            }
            let code = is(elf::SHF_EXECINSTR);
            let to = if code { &mut self.loaded.code } else { &mut self.loaded.data };
            to.resize(to.len().next_multiple_of((section.align() as usize).max(1)), TRAP);
            let at = if code { Place::Code(to.len()) } else { Place::Data(to.len()) };
            let bytes = section.data()?;
            to.extend(bytes);
            self.places.insert(section.index(), (at, bytes.len()));
        }
        Ok(())
    }

    /// The function that is entered lies where code begins.
    fn check_entry(&self) -> Result<(), LoadError> {
        let entry = self.file.symbol_by_name(ENTRY).filter(ObjectSymbol::is_definition);
        let entry = entry.ok_or(LoadError::Body)?;
        let section = entry.section_index().and_then(|section| self.places.get(&section));
        match section {
            Some((Place::Code(0), _)) if entry.address() == 0 => Ok(()),
            _ => Err(LoadError::Body),
        }
    }

    fn relocate(&mut self) -> Result<(), LoadError> {
        let mut references = Vec::new();
        for section in self.file.sections() {
            let Some(&(place, len)) = self.places.get(&section.index()) else { continue };
            let name = || section.name().unwrap_or("?").to_owned();
            for (offset, relocation) in section.relocations() {
                let RelocationFlags::Elf { r_type } = relocation.flags() else {
                    return Err(LoadError::Relocation { kind: u32::MAX, section: name() });
                };
                if !matches!(r_type, elf::R_X86_64_PC32 | elf::R_X86_64_PLT32) {
                    return Err(LoadError::Relocation { kind: r_type, section: name() });
                }
                let misplaced = || LoadError::Misplaced(name());
                let offset = usize::try_from(offset).map_err(|_| misplaced())?;
                if offset.checked_add(size_of::<u32>()).is_none_or(|end| end > len) {
                    return Err(misplaced());
                }
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    return Err(misplaced());
                };
                let to = self.target(&self.file.symbol_by_index(symbol)?, &name)?;
                let at = within(place, offset).ok_or_else(misplaced)?;
                references.push(Reference { at, to, addend: relocation.addend() });
            }
        }
        self.loaded.references = references;
        Ok(())
    }

    /// Where a symbol lies.
    fn target<'d>(
        &self,
        symbol: &impl ObjectSymbol<'d>,
        section: &impl Fn() -> String,
    ) -> Result<Place, LoadError> {
        if symbol.is_undefined() {
            let name = symbol.name()?;
            let known = Symbol::ALL.into_iter().find(|symbol| symbol.name() == name);
            return known.map(Place::Symbol).ok_or_else(|| LoadError::Undefined(name.to_owned()));
        }
        let misplaced = || LoadError::Misplaced(section());
        let index = symbol.section_index().ok_or_else(misplaced)?;
        let &(place, len) = self.places.get(&index).ok_or_else(misplaced)?;
        let offset = usize::try_from(symbol.address()).map_err(|_| misplaced())?;
        if offset > len {
            return Err(misplaced());
        }
        within(place, offset).ok_or_else(misplaced)
    }
}

/// The place so many bytes behind another.
fn within(place: Place, offset: usize) -> Option<Place> {
    match place {
        Place::Code(at) => Some(Place::Code(at.checked_add(offset)?)),
        Place::Data(at) => Some(Place::Data(at.checked_add(offset)?)),
        Place::Symbol(_) => None,
    }
}
