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

#[cfg(test)]
mod tests {
    use super::*;
    use object::{
        Architecture, BinaryFormat, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
        write::{self, Relocation, SectionId, StandardSection, SymbolId, SymbolSection},
    };

    /// An object in the making: 16 bytes of code with the entry, and constants.
    struct Made {
        object: write::Object<'static>,
        text: SectionId,
        constants: SectionId,
    }

    impl Made {
        fn new() -> Self {
            let mut object =
                write::Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
            let text = object.section_id(StandardSection::Text);
            object.append_section_data(text, &[0x90; 16], 16);
            let constants =
                object.add_section(Vec::new(), b".rodata.cst8".to_vec(), SectionKind::ReadOnlyData);
            object.append_section_data(constants, &[1, 2, 3, 4, 5, 6, 7, 8], 8);
            let mut made = Self { object, text, constants };
            made.symbol(ENTRY, 0, SymbolSection::Section(text));
            made
        }

        fn symbol(&mut self, name: &str, value: u64, section: SymbolSection) -> SymbolId {
            self.object.add_symbol(write::Symbol {
                name: name.into(),
                value,
                size: 0,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section,
                flags: SymbolFlags::None,
            })
        }

        fn section(&mut self, name: &str, kind: SectionKind) -> SectionId {
            let section = self.object.add_section(Vec::new(), name.into(), kind);
            self.object.append_section_data(section, &[0; 8], 8);
            section
        }

        fn relocation(&mut self, r_type: u32, offset: u64, symbol: SymbolId, addend: i64) {
            let flags = RelocationFlags::Elf { r_type };
            let relocation = Relocation { offset, symbol, addend, flags };
            self.object.add_relocation(self.text, relocation).expect("a relocation");
        }

        fn load(&self) -> Result<Loaded, LoadError> {
            load(&self.object.write().expect("an object"))
        }
    }

    #[test]
    fn sections_are_placed_and_relocations_resolved() {
        let mut made = Made::new();
        let constants = made.object.section_symbol(made.constants);
        let thunk = made.symbol("kiln.div", 0, SymbolSection::Undefined);
        let records = made.symbol("kiln.records", 0, SymbolSection::Undefined);
        let inside = made.symbol("inside", 6, SymbolSection::Section(made.text));
        made.relocation(elf::R_X86_64_PLT32, 0, thunk, -4);
        made.relocation(elf::R_X86_64_PC32, 4, records, 8);
        made.relocation(elf::R_X86_64_PC32, 8, constants, 2);
        made.relocation(elf::R_X86_64_PC32, 12, inside, -4);
        // What is not loaded may be anything.
        made.section(".debug_line", SectionKind::Debug);
        let loaded = made.load().expect("it is as expected");
        assert_eq!(loaded.code, [0x90; 16]);
        assert_eq!(loaded.data, [1, 2, 3, 4, 5, 6, 7, 8]);
        let thunk = Place::Symbol(Symbol::Thunk(kiln_abi::envelope::Thunk::Div));
        let expected = [
            (0, thunk, -4),
            (4, Place::Symbol(Symbol::Records), 8),
            (8, Place::Data(0), 2),
            (12, Place::Code(6), -4),
        ];
        let references =
            expected.map(|(at, to, addend)| Reference { at: Place::Code(at), to, addend });
        assert_eq!(loaded.references, references);
    }

    #[test]
    fn sections_lie_behind_each_other() {
        let mut made = Made::new();
        let more = made.section(".rodata.cst16", SectionKind::ReadOnlyData);
        made.object.append_section_data(more, &[9; 8], 32);
        let symbol = made.object.section_symbol(more);
        made.relocation(elf::R_X86_64_PC32, 0, symbol, 0);
        let loaded = made.load().expect("it is as expected");
        assert_eq!(loaded.data.len(), 32 + 40);
        assert_eq!(loaded.references[0].to, Place::Data(32));
    }

    #[test]
    fn other_relocations_are_refused() {
        for r_type in [
            elf::R_X86_64_64,
            elf::R_X86_64_32,
            elf::R_X86_64_32S,
            elf::R_X86_64_GOTPCREL,
            elf::R_X86_64_REX_GOTPCRELX,
            elf::R_X86_64_GOTTPOFF,
            elf::R_X86_64_PC64,
        ] {
            let mut made = Made::new();
            let records = made.symbol("kiln.records", 0, SymbolSection::Undefined);
            made.relocation(r_type, 4, records, 0);
            let refused = LoadError::Relocation { kind: r_type, section: ".text".into() };
            assert_eq!(made.load(), Err(refused));
        }
    }

    #[test]
    fn undefined_symbols_are_refused() {
        for name in ["memcpy", "__udivti3", "kiln.nothing"] {
            let mut made = Made::new();
            let symbol = made.symbol(name, 0, SymbolSection::Undefined);
            made.relocation(elf::R_X86_64_PLT32, 0, symbol, -4);
            assert_eq!(made.load(), Err(LoadError::Undefined(name.into())));
        }
    }

    #[test]
    fn relocations_without_a_place_are_refused() {
        let misplaced = Err(LoadError::Misplaced(".text".into()));
        let mut made = Made::new();
        let records = made.symbol("kiln.records", 0, SymbolSection::Undefined);
        made.relocation(elf::R_X86_64_PC32, 13, records, 0);
        assert_eq!(made.load(), misplaced);
        let mut made = Made::new();
        let absolute = made.symbol("absolute", 7, SymbolSection::Absolute);
        made.relocation(elf::R_X86_64_PC32, 0, absolute, 0);
        assert_eq!(made.load(), misplaced);
        let mut made = Made::new();
        let behind = made.symbol("behind", 17, SymbolSection::Section(made.text));
        made.relocation(elf::R_X86_64_PC32, 0, behind, 0);
        assert_eq!(made.load(), misplaced);
        let mut made = Made::new();
        let debug = made.section(".debug_line", SectionKind::Debug);
        let debug = made.object.section_symbol(debug);
        made.relocation(elf::R_X86_64_PC32, 0, debug, 0);
        assert_eq!(made.load(), misplaced);
    }

    #[test]
    fn sections_that_are_more_than_read_are_refused() {
        let refused = |name: &str, kind| {
            let mut made = Made::new();
            made.section(name, kind);
            made.load().expect_err("refused")
        };
        assert_eq!(refused(".data", SectionKind::Data), LoadError::Writable(".data".into()));
        assert_eq!(
            refused(".data.rel.ro", SectionKind::ReadOnlyDataWithRel),
            LoadError::Writable(".data.rel.ro".into())
        );
        assert_eq!(refused(".tdata", SectionKind::Tls), LoadError::ThreadLocal(".tdata".into()));
        assert_eq!(
            refused(".init_array", SectionKind::Data),
            LoadError::Initialisers(".init_array".into())
        );
        let mut made = Made::new();
        let bss = made.object.section_id(StandardSection::UninitializedData);
        made.object.append_section_bss(bss, 8, 8);
        assert_eq!(made.load(), Err(LoadError::Writable(".bss".into())));
        let mut made = Made::new();
        let wide = made.section(".rodata.cst64", SectionKind::ReadOnlyData);
        made.object.append_section_data(wide, &[0; 64], 64);
        let refused = LoadError::Alignment { section: ".rodata.cst64".into(), align: 64 };
        assert_eq!(made.load(), Err(refused));
    }

    #[test]
    fn the_entry_begins_the_code() {
        let mut made = Made::new();
        let mut object =
            write::Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = object.section_id(StandardSection::Text);
        object.append_section_data(text, &[0x90; 16], 16);
        made = Made { object, text, ..made };
        assert_eq!(made.load(), Err(LoadError::Body));
        made.symbol(ENTRY, 8, SymbolSection::Section(text));
        assert_eq!(made.load(), Err(LoadError::Body));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let unreadable = |bytes: &[u8]| matches!(load(bytes), Err(LoadError::Unreadable(_)));
        assert!(unreadable(&[]) && unreadable(&[0x7f; 100]));
        let object =
            write::Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
        assert!(unreadable(&object.write().expect("an object")));
        // Cut off anywhere, it is refused or loads what is whole.
        let bytes = Made::new().object.write().expect("an object");
        let whole = Made::new().load().expect("it is as expected");
        for len in 0..bytes.len() {
            assert!(
                load(&bytes[..len]).is_ok_and(|loaded| loaded == whole)
                    || load(&bytes[..len]).is_err()
            );
        }
    }
}
