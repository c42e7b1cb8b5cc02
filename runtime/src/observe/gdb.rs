//! The GDB JIT interface: how a debugger learns the names of code that was made at run time
//! (GDB manual, "JIT Compilation Interface"; lldb and others understand it too).
//!
//! **Owns** kiln's entries of the process-wide list. **Callers guarantee** that code is not moved, and
//! not freed before its [`Entry`]. **Never** describes more than where a symbol begins and ends: no
//! lines, no unwinding.
//!
//! The two `__jit_debug_` symbols have fixed names, and a program may hold them once. They are *weak*
//! here: linked together with another JIT that defines them (LLVM, wasmtime), the other's are
//! used by both, which have the same layout by definition. Then both change one list, and know nothing
//! of each other's lock: of two such JITs only one may have its registration switched on.

use object::{
    Endianness, elf,
    write::elf::{FileHeader, SectionHeader, Sym, Writer},
};
use std::{
    arch::global_asm,
    ptr::{self, NonNull},
    sync::{Mutex, MutexGuard, PoisonError},
};

// What a debugger puts its breakpoint on, and the head of the list: version 1, no action, no entries.
// In assembly, because only there stable Rust has weak symbols.
global_asm!(
    ".pushsection .text.__jit_debug_register_code, \"ax\", @progbits",
    ".weak __jit_debug_register_code",
    ".type __jit_debug_register_code, @function",
    "__jit_debug_register_code:",
    "ret",
    ".size __jit_debug_register_code, . - __jit_debug_register_code",
    ".popsection",
    ".pushsection .data.__jit_debug_descriptor, \"aw\", @progbits",
    ".weak __jit_debug_descriptor",
    ".type __jit_debug_descriptor, @object",
    ".balign 8",
    "__jit_debug_descriptor:",
    ".long 1",
    ".long 0",
    ".quad 0",
    ".quad 0",
    ".size __jit_debug_descriptor, . - __jit_debug_descriptor",
    ".popsection",
);

// SAFETY: defined above, or by another JIT, with these types: GDB's manual fixes them. The function
// takes and gives nothing.
unsafe extern "C" {
    static mut __jit_debug_descriptor: Descriptor;
    fn __jit_debug_register_code();
}

const NO_ACTION: u32 = 0;
const REGISTER: u32 = 1;
const UNREGISTER: u32 = 2;

/// `struct jit_descriptor`.
#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut CodeEntry,
    first: *mut CodeEntry,
}

/// `struct jit_code_entry`.
#[repr(C)]
struct CodeEntry {
    next: *mut CodeEntry,
    prev: *mut CodeEntry,
    symfile: *const u8,
    symfile_len: u64,
}

/// What an entry points to, and the entry, at one address.
struct Record {
    code: CodeEntry,
    /// An ELF file, for the debugger to read through the entry.
    _symfile: Vec<u8>,
}

/// Held by whoever reads or writes the list, or a record in it. Waited for by publishing threads, while
/// a debugger that is attached reads the symbols.
static LIST: Mutex<()> = Mutex::new(());

/// A piece of code that debuggers know; its drop takes it off the list.
#[derive(Debug)]
pub(super) struct Entry(NonNull<Record>);

// SAFETY: the record is only read or written with `LIST` held, by any thread.
unsafe impl Send for Entry {}
// SAFETY: as above; a shared entry gives access to nothing.
unsafe impl Sync for Entry {}

/// Tells debuggers of code at an address. Answers nothing if there is no describing it.
pub(super) fn register(name: &str, address: NonNull<u8>, len: usize) -> Option<Entry> {
    let symfile = symfile(name, address.as_ptr() as u64, len as u64)?;
    let code = CodeEntry {
        next: ptr::null_mut(),
        prev: ptr::null_mut(),
        symfile: symfile.as_ptr(),
        symfile_len: symfile.len() as u64,
    };
    let record = NonNull::from(Box::leak(Box::new(Record { code, _symfile: symfile })));
    let list = List::lock();
    // SAFETY: the record was just made, and is not in the list.
    unsafe { list.insert(&raw mut (*record.as_ptr()).code) };
    Some(Entry(record))
}

impl Drop for Entry {
    fn drop(&mut self) {
        let list = List::lock();
        // SAFETY: `register` put the record into the list, and nothing else takes it out.
        unsafe { list.remove(&raw mut (*self.0.as_ptr()).code) };
        drop(list);
        // SAFETY: made by `Box::leak`, and dropped once. Nothing in the list points to it any more.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// The right to use the list.
struct List {
    _lock: MutexGuard<'static, ()>,
}

impl List {
    fn lock() -> Self {
        // Nothing that is done under the lock panics half way.
        Self { _lock: LIST.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// # Safety
    /// The entry is valid, and stays so until it is removed. It is not in the list.
    unsafe fn insert(&self, entry: *mut CodeEntry) {
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: the lock is held; all entries of the list are valid until they are removed.
        unsafe {
            let first = (*descriptor).first;
            (*entry).next = first;
            if !first.is_null() {
                (*first).prev = entry;
            }
            (*descriptor).first = entry;
            self.tell(REGISTER, entry);
        }
    }

    /// # Safety
    /// The entry is in the list.
    unsafe fn remove(&self, entry: *mut CodeEntry) {
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: the lock is held; the entry and its neighbours are in the list, so they are valid.
        unsafe {
            let CodeEntry { next, prev, .. } = *entry;
            match prev.is_null() {
                true => (*descriptor).first = next,
                false => (*prev).next = next,
            }
            if !next.is_null() {
                (*next).prev = prev;
            }
            self.tell(UNREGISTER, entry);
        }
    }

    /// # Safety
    /// The entry is valid.
    unsafe fn tell(&self, action: u32, entry: *mut CodeEntry) {
        let descriptor = &raw mut __jit_debug_descriptor;
        // SAFETY: the lock is held. A debugger that stops in the function reads what was written
        // before: the call is to code that the compiler does not see.
        unsafe {
            (*descriptor).action = action;
            (*descriptor).relevant = entry;
            __jit_debug_register_code();
            (*descriptor).action = NO_ACTION;
            (*descriptor).relevant = ptr::null_mut();
        }
    }
}

/// An ELF file with one section, which lies at `address` and is not in the file, and one symbol, which
/// covers it.
fn symfile(name: &str, address: u64, len: u64) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    let mut writer = Writer::new(Endianness::Little, true, &mut file);
    writer.reserve_file_header();
    writer.reserve_null_section_index();
    let text_name = writer.add_section_name(b".text");
    let text = writer.reserve_section_index();
    writer.reserve_symtab_section_index();
    writer.reserve_strtab_section_index();
    writer.reserve_shstrtab_section_index();
    writer.reserve_null_symbol_index();
    let symbol_name = writer.add_string(name.as_bytes());
    writer.reserve_symbol_index(Some(text));
    writer.reserve_symtab();
    writer.reserve_strtab();
    writer.reserve_shstrtab();
    writer.reserve_section_headers();

    let header = FileHeader {
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        e_type: elf::ET_REL,
        e_machine: elf::EM_X86_64,
        e_entry: 0,
        e_flags: 0,
    };
    writer.write_file_header(&header).ok()?;
    writer.write_null_symbol();
    writer.write_symbol(&Sym {
        name: Some(symbol_name),
        section: Some(text),
        st_info: elf::STB_GLOBAL << 4 | elf::STT_FUNC,
        st_other: elf::STV_DEFAULT,
        st_shndx: 0,
        // Relative to the section, as in every relocatable file.
        st_value: 0,
        st_size: len,
    });
    writer.write_strtab();
    writer.write_shstrtab();
    writer.write_null_section_header();
    writer.write_section_header(&SectionHeader {
        name: Some(text_name),
        sh_type: elf::SHT_NOBITS,
        sh_flags: u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR),
        sh_addr: address,
        sh_offset: 0,
        sh_size: len,
        sh_link: 0,
        sh_info: 0,
        sh_addralign: 1,
        sh_entsize: 0,
    });
    // All symbols but the first are global.
    writer.write_symtab_section_header(1);
    writer.write_strtab_section_header();
    writer.write_shstrtab_section_header();
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
    use std::thread;

    /// The names in the list that begin with `start`, the newest first, each with its address. All
    /// links are looked at.
    fn listed(start: &str) -> Vec<(String, u64)> {
        let _list = List::lock();
        let mut found = Vec::new();
        // SAFETY: the lock is held; entries of the list are valid, and so are their files.
        unsafe {
            let descriptor = &raw const __jit_debug_descriptor;
            assert_eq!(((*descriptor).version, (*descriptor).action), (1, NO_ACTION));
            assert!((*descriptor).relevant.is_null());
            let (mut prev, mut entry) = (ptr::null_mut(), (*descriptor).first);
            while !entry.is_null() {
                let CodeEntry { next, prev: back, symfile, symfile_len } = *entry;
                assert_eq!(back, prev);
                let file = std::slice::from_raw_parts(symfile, symfile_len as usize);
                let file = object::File::parse(file).expect("an ELF file");
                let symbol = file.symbols().next().expect("a symbol");
                let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
                assert_eq!((section.size(), symbol.address()), (symbol.size(), 0));
                let name = symbol.name().unwrap();
                if name.starts_with(start) {
                    found.push((name.to_owned(), section.address()));
                }
                (prev, entry) = (entry, next);
            }
        }
        found
    }

    fn at(address: usize) -> NonNull<u8> {
        NonNull::new(ptr::without_provenance_mut(address)).unwrap()
    }

    #[test]
    fn entries_come_and_go() {
        let names = || listed("order:");
        assert_eq!(names(), []);
        let one = register("order:1", at(0x1000), 64).unwrap();
        let two = register("order:2", at(0x2000), 128).unwrap();
        let three = register("order:3", at(0x3000), 1).unwrap();
        let pair = |name: &str, address| (name.to_owned(), address);
        let (first, second, third) =
            (pair("order:1", 0x1000), pair("order:2", 0x2000), pair("order:3", 0x3000));
        assert_eq!(names(), [third.clone(), second, first.clone()]);
        drop(two);
        assert_eq!(names(), [third, first.clone()]);
        drop(three);
        assert_eq!(names(), [first]);
        drop(one);
        assert_eq!(names(), []);
    }

    #[test]
    fn threads_share_the_list() {
        thread::scope(|scope| {
            for thread in 0..4usize {
                scope.spawn(move || {
                    for round in 0..100 {
                        let name = format!("threads:{thread}:");
                        let entries: Vec<_> = (0..3)
                            .map(|n| register(&name, at(0x1000 + 64 * n + round), 64).unwrap())
                            .collect();
                        assert_eq!(listed(&name).len(), 3);
                        // Oldest first, then from the middle.
                        entries.into_iter().for_each(drop);
                        assert_eq!(listed(&name), []);
                    }
                });
            }
        });
        assert_eq!(listed("threads:"), []);
    }
}
