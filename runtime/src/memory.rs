//! Executable memory.
//!
//! **Owns** the code arena: segments of shared memory, each mapped twice, once writable and once
//! executable, the free list over them, and the huge pages under them. The only place that changes page protections, and the
//! only one that frees code ([`CodeBlock`]'s `Drop`).
//!
//! **Callers guarantee** that no thread runs the code of a block when it is dropped.
//!
//! **Never** maps a page writable and executable at once, or patches code after it was placed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use thiserror::Error;

/// Bytes of a segment. Sparse: pages are only backed once code is placed on them.
const SEGMENT_BYTES: usize = 64 << 20;
/// Bytes of a huge page.
const WINDOW: usize = 2 << 20;
/// Bytes that were placed in a segment's first window from which it is to be a huge page; the others are at
/// once: an engine that compiles little is not to take 2 MiB.
const FIRST_USED: usize = WINDOW / 8;
/// Blocks begin at cache lines, and constant pools in them at least at words.
const ALIGNMENT: usize = 64;

/// Why code could not be placed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// The budget for code is used up.
    #[error("{wanted} bytes of code do not fit: {used} of {max} bytes are in use")]
    Full {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes in use.
        used: usize,
        /// The budget.
        max: usize,
    },
    /// The operating system refused.
    #[error("mapping executable memory: {0}")]
    Os(String),
    /// No dual mapping on this platform.
    #[error("executable memory is not supported on this platform")]
    Unsupported,
}

/// An arena of executable memory. Clones share it.
#[derive(Clone, Debug)]
pub struct CodeMemory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    backing: Backing,
    bytes_used: AtomicUsize,
    segments: Mutex<Vec<Arc<Segment>>>,
    /// Whether a window came to be used since the last look. Relaxed: a heuristic.
    wanted: AtomicBool,
}

/// What the pages of both views belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    /// A file of its own: what a system that forbids to make memory executable afterwards (systemd's
    /// `MemoryDenyWriteExecute`, for one) still allows.
    File,
    /// Shared memory without a name. `perf` looks up names in its map only for such memory, never for
    /// a file's.
    Anonymous,
}

#[derive(Debug)]
struct Segment {
    map: map::DualMap,
    free: Mutex<FreeList>,
    /// By window, what was placed there.
    windows: Box<[Window]>,
}

/// Relaxed: a heuristic.
#[derive(Debug, Default)]
struct Window {
    placed: AtomicUsize,
    huge: AtomicBool,
}

/// Code that was placed; returns its bytes to the arena when dropped.
#[derive(Debug)]
pub struct CodeBlock {
    segment: Arc<Segment>,
    shared: Arc<Shared>,
    offset: usize,
    len: usize,
    reserved: usize,
}

impl CodeMemory {
    /// An empty arena that hands out at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self::backed(bytes_max, Backing::File)
    }

    /// As [`CodeMemory::new`], with memory for which `perf` looks into `/tmp/perf-PID.map`.
    pub(crate) fn anonymous(bytes_max: usize) -> Self {
        Self::backed(bytes_max, Backing::Anonymous)
    }

    fn backed(bytes_max: usize, backing: Backing) -> Self {
        Self(Arc::new(Shared {
            bytes_max,
            backing,
            bytes_used: AtomicUsize::new(0),
            segments: Mutex::new(Vec::new()),
            wanted: AtomicBool::new(false),
        }))
    }

    /// Bytes in use, rounded up to whole blocks.
    pub fn bytes_used(&self) -> usize {
        self.0.bytes_used.load(Ordering::Relaxed)
    }

    /// Copies `code` into the arena.
    ///
    /// # Errors
    /// If the budget is used up or the operating system gives no more memory.
    pub fn place(&self, code: &[u8]) -> Result<CodeBlock, MemoryError> {
        let reserved = code.len().max(1).next_multiple_of(ALIGNMENT);
        self.charge(reserved)?;
        match self.reserve(reserved) {
            Ok((segment, offset)) => {
                // SAFETY: `reserve` took `reserved >= code.len()` bytes at `offset` off the free
                // list of the segment, so nobody else reads or writes them.
                unsafe { segment.map.write(offset, code) };
                self.look(&segment, offset, reserved);
                Ok(CodeBlock { segment, shared: self.0.clone(), offset, len: code.len(), reserved })
            }
            Err(error) => {
                self.0.bytes_used.fetch_sub(reserved, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// Notes in which windows something was placed.
    fn look(&self, segment: &Segment, offset: usize, len: usize) {
        for index in offset / WINDOW..=(offset + len - 1) / WINDOW {
            let Some(window) = segment.windows.get(index) else { continue };
            let placed = window.placed.fetch_add(len, Ordering::Relaxed) + len;
            let used = index > 0 || placed >= FIRST_USED;
            if used && !window.huge.load(Ordering::Relaxed) {
                self.0.wanted.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Puts huge pages under what is used, where the operating system can: code that was not run lately
    /// costs a page table walk for each page it is on (under virtualization, a long one). A window is done
    /// once and mostly while little lies there, since what lies there is copied; it takes a millisecond or
    /// two, so whoever runs code leaves it to others.
    pub(crate) fn use_huge_pages(&self) {
        if !self.0.wanted.swap(false, Ordering::Relaxed) {
            return;
        }
        let segments: Vec<_> =
            self.0.segments.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for segment in segments {
            for (index, window) in segment.windows.iter().enumerate() {
                let least = if index == 0 { FIRST_USED } else { 1 };
                if window.placed.load(Ordering::Relaxed) >= least
                    && !window.huge.swap(true, Ordering::Relaxed)
                {
                    segment.map.use_huge_page(index * WINDOW, WINDOW);
                }
            }
        }
    }

    fn charge(&self, bytes: usize) -> Result<(), MemoryError> {
        let shared = &self.0;
        // Relaxed: a counter; the free lists are ordered by their locks.
        shared
            .bytes_used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= shared.bytes_max)
            })
            .map(drop)
            .map_err(|used| MemoryError::Full { wanted: bytes, used, max: shared.bytes_max })
    }

    fn reserve(&self, bytes: usize) -> Result<(Arc<Segment>, usize), MemoryError> {
        let mut segments = self.0.segments.lock().unwrap_or_else(PoisonError::into_inner);
        for segment in segments.iter() {
            if let Some(offset) = segment.free_list(|free| free.take(bytes)) {
                return Ok((segment.clone(), offset));
            }
        }
        let len = bytes.max(SEGMENT_BYTES).next_multiple_of(WINDOW);
        let mut free = FreeList::new(len);
        let offset = free.take(bytes).ok_or(MemoryError::Unsupported)?;
        let map = map::DualMap::new(len, self.0.backing)?;
        let windows = (0..len / WINDOW).map(|_| Window::default()).collect();
        let segment = Arc::new(Segment { map, free: Mutex::new(free), windows });
        segments.push(segment.clone());
        Ok((segment, offset))
    }
}

impl Segment {
    fn free_list<R>(&self, act: impl FnOnce(&mut FreeList) -> R) -> R {
        act(&mut self.free.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CodeBlock {
    /// The first byte of the executable view.
    #[inline]
    pub fn ptr(&self) -> NonNull<u8> {
        self.segment.map.executable(self.offset)
    }

    /// Bytes of code.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that it takes of the arena.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Whether there is no code.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for CodeBlock {
    fn drop(&mut self) {
        self.segment.free_list(|free| free.give(self.offset, self.reserved));
        self.shared.bytes_used.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

/// Free ranges of a segment; neighbours are always merged.
#[derive(Debug)]
struct FreeList {
    /// Length by offset.
    ranges: BTreeMap<usize, usize>,
    /// The same, by length.
    by_len: BTreeSet<(usize, usize)>,
}

impl FreeList {
    fn new(len: usize) -> Self {
        Self { ranges: BTreeMap::from([(0, len)]), by_len: BTreeSet::from([(len, 0)]) }
    }

    fn insert(&mut self, offset: usize, len: usize) {
        self.ranges.insert(offset, len);
        self.by_len.insert((len, offset));
    }

    fn remove(&mut self, offset: usize, len: usize) {
        self.ranges.remove(&offset);
        self.by_len.remove(&(len, offset));
    }

    /// The first of the shortest ranges that suffice.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let &(len, offset) = self.by_len.range((bytes, 0)..).next()?;
        self.remove(offset, len);
        if len > bytes {
            self.insert(offset + bytes, len - bytes);
        }
        Some(offset)
    }

    fn give(&mut self, mut offset: usize, mut bytes: usize) {
        if let Some((&before, &len)) = self.ranges.range(..offset).next_back() {
            assert!(before + len <= offset, "code freed twice");
            if before + len == offset {
                self.remove(before, len);
                (offset, bytes) = (before, len + bytes);
            }
        }
        if let Some((&after, &len)) = self.ranges.range(offset + bytes..).next()
            && after == offset + bytes
        {
            self.remove(after, len);
            bytes += len;
        }
        self.insert(offset, bytes);
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod map {
    use super::{Backing, MemoryError, WINDOW};
    use rustix::{
        fs::{MemfdFlags, ftruncate, memfd_create},
        io::Errno,
        mm::{
            MapFlags, MprotectFlags, MremapFlags, ProtFlags, mmap, mmap_anonymous, mprotect,
            mremap, munmap,
        },
    };
    use std::{
        ffi::c_void,
        os::fd::OwnedFd,
        ptr::{self, NonNull},
    };

    /// Since Linux 6.1; whatever the system's settings for huge pages are. Not in `rustix`, nor in `libc`
    /// for all C libraries.
    const MADV_COLLAPSE: i32 = 25;

    /// Two views of the same pages.
    #[derive(Debug)]
    pub(super) struct DualMap {
        writable: View,
        executable: View,
    }

    #[derive(Debug)]
    struct View {
        start: NonNull<c_void>,
        len: usize,
    }

    // SAFETY: a view is an address range that stays mapped until it is dropped; all access to its
    // bytes goes through `write`, whose callers own the range they write.
    unsafe impl Send for View {}
    // SAFETY: as above.
    unsafe impl Sync for View {}

    impl DualMap {
        pub(super) fn new(len: usize, backing: Backing) -> Result<Self, MemoryError> {
            let map = match backing {
                Backing::File => Self::of_file(len),
                // Code that `perf` can not name is better than none.
                Backing::Anonymous => Self::anonymous(len).or_else(|_| Self::of_file(len)),
            };
            map.map_err(|error| MemoryError::Os(error.to_string()))
        }

        fn of_file(len: usize) -> Result<Self, Errno> {
            let file = file()?;
            ftruncate(&file, len as u64)?;
            Ok(Self {
                writable: View::new(&file, len, ProtFlags::READ | ProtFlags::WRITE)?,
                executable: View::new(&file, len, ProtFlags::READ | ProtFlags::EXEC)?,
            })
        }

        fn anonymous(len: usize) -> Result<Self, Errno> {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a new mapping at an address of the kernel's choice.
            let start =
                unsafe { mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::SHARED) }?;
            let writable = View::at(start, len)?;
            // SAFETY: an old length of 0 leaves the old mapping alone and makes another one of the
            // same pages (mremap(2)), at an address of the kernel's choice.
            let start = unsafe { mremap(start, 0, len, MremapFlags::MAYMOVE) }?;
            let executable = View::at(start, len)?;
            // SAFETY: the mapping was just made, and nothing knows of it.
            unsafe { mprotect(start, len, MprotectFlags::READ | MprotectFlags::EXEC) }?;
            Ok(Self { writable, executable })
        }

        /// # Safety
        /// Nobody else reads or writes the `code.len()` bytes at `offset` meanwhile.
        pub(super) unsafe fn write(&self, offset: usize, code: &[u8]) {
            assert!(offset <= self.writable.len && code.len() <= self.writable.len - offset);
            let start = self.writable.start.as_ptr().cast::<u8>();
            // SAFETY: in bounds by the assertion; exclusive by the caller.
            unsafe { start.add(offset).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        }

        /// Asks for a huge page under a part of both views. Without one nothing changes but speed.
        pub(super) fn use_huge_page(&self, offset: usize, len: usize) {
            for view in [&self.writable, &self.executable] {
                assert!(offset <= view.len && len <= view.len - offset);
                let start = view.start.as_ptr().wrapping_byte_add(offset);
                // SAFETY: the range is mapped, and its content stays as it is (madvise(2)).
                let _ = unsafe { libc::madvise(start, len, MADV_COLLAPSE) };
            }
        }

        #[cfg(test)]
        pub(super) fn writable_start(&self) -> usize {
            self.writable.start.as_ptr() as usize
        }

        #[inline]
        pub(super) fn executable(&self, offset: usize) -> NonNull<u8> {
            debug_assert!(offset < self.executable.len);
            // SAFETY: blocks lie within the mapping: their offsets come from its free list.
            unsafe { self.executable.start.cast::<u8>().add(offset) }
        }
    }

    /// Kernels before 6.3 do not know `MFD_EXEC`; later ones may want it said.
    fn file() -> Result<OwnedFd, Errno> {
        memfd_create("kiln-code", MemfdFlags::CLOEXEC | MemfdFlags::EXEC)
            .or_else(|_| memfd_create("kiln-code", MemfdFlags::CLOEXEC))
    }

    impl View {
        fn new(file: &OwnedFd, len: usize, prot: ProtFlags) -> Result<Self, Errno> {
            // As a huge page has to lie, in a range that is taken first.
            // SAFETY: a new mapping at an address of the kernel's choice.
            let taken = unsafe {
                mmap_anonymous(ptr::null_mut(), len + WINDOW, ProtFlags::empty(), MapFlags::PRIVATE)
            }?;
            let before = taken.align_offset(WINDOW);
            let start = taken.wrapping_byte_add(before);
            // SAFETY: all within the range just mapped, which nobody else knows of: the file in its
            // middle, and what lies before and behind that is given back.
            unsafe {
                let flags = MapFlags::SHARED | MapFlags::FIXED;
                let mapped = mmap(start, len, prot, flags, file, 0);
                if mapped.is_err() {
                    let _ = munmap(taken, len + WINDOW);
                }
                mapped?;
                if before > 0 {
                    let _ = munmap(taken, before);
                }
                if before < WINDOW {
                    let _ = munmap(start.wrapping_byte_add(len), WINDOW - before);
                }
            }
            Self::at(start, len)
        }

        /// Owns a mapping.
        fn at(start: *mut c_void, len: usize) -> Result<Self, Errno> {
            NonNull::new(start).map(|start| Self { start, len }).ok_or(Errno::NOMEM)
        }
    }

    impl Drop for View {
        fn drop(&mut self) {
            // SAFETY: the mapping was handed to `at`, and is dropped once. An error can only mean
            // that it is gone already.
            let _ = unsafe { munmap(self.start.as_ptr(), self.len) };
        }
    }
}

#[cfg(any(not(target_os = "linux"), miri))]
mod map {
    use super::{Backing, MemoryError};
    use std::ptr::NonNull;

    /// Not available here.
    #[derive(Debug)]
    pub(super) struct DualMap(std::convert::Infallible);

    impl DualMap {
        pub(super) fn new(_len: usize, _backing: Backing) -> Result<Self, MemoryError> {
            Err(MemoryError::Unsupported)
        }

        /// # Safety
        /// None: there is no value of this type.
        pub(super) unsafe fn write(&self, _offset: usize, _code: &[u8]) {
            match self.0 {}
        }

        pub(super) fn executable(&self, _offset: usize) -> NonNull<u8> {
            match self.0 {}
        }

        pub(super) fn use_huge_page(&self, _offset: usize, _len: usize) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ranges_are_reused_and_merged() {
        let mut free = FreeList::new(1024);
        let offsets: Vec<_> = (0..4).map(|_| free.take(256)).collect();
        assert_eq!(offsets, [Some(0), Some(256), Some(512), Some(768)]);
        assert_eq!(free.take(1), None);
        free.give(256, 256);
        free.give(768, 256);
        assert_eq!(free.take(512), None, "free, but in two pieces");
        free.give(512, 256);
        assert_eq!(free.ranges, BTreeMap::from([(256, 768)]));
        assert_eq!(free.take(100), Some(256));
        free.give(0, 256);
        free.give(256, 100);
        assert_eq!(free.ranges, BTreeMap::from([(0, 1024)]));
        assert_eq!(free.by_len, BTreeSet::from([(1024, 0)]));
    }

    #[test]
    #[should_panic(expected = "code freed twice")]
    fn freeing_twice_is_noticed() {
        let mut free = FreeList::new(1024);
        free.take(512);
        free.give(0, 64);
        free.give(32, 64);
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    mod mapped {
        use super::*;

        fn code(block: &CodeBlock) -> Vec<u8> {
            // SAFETY: the executable view is readable for as long as the block lives.
            unsafe { std::slice::from_raw_parts(block.ptr().as_ptr(), block.len()) }.to_vec()
        }

        #[test]
        fn code_is_visible_in_the_executable_view() {
            let memory = CodeMemory::new(1 << 20);
            let blocks: Vec<_> =
                (0..100u8).map(|i| memory.place(&vec![i; 1 + 7 * i as usize]).unwrap()).collect();
            for (i, block) in blocks.iter().enumerate() {
                assert_eq!(block.ptr().as_ptr() as usize % ALIGNMENT, 0);
                assert_eq!(code(block), vec![i as u8; 1 + 7 * i]);
            }
        }

        #[test]
        fn dropped_blocks_are_placed_over() {
            let memory = CodeMemory::new(1 << 20);
            let first = memory.place(&[1; 64]).unwrap();
            let second = memory.place(&[2; 64]).unwrap();
            let third = memory.place(&[3; 64]).unwrap();
            assert_eq!(memory.bytes_used(), 192);
            let freed = second.ptr();
            drop(second);
            assert_ne!(memory.place(&[4; 65]).unwrap().ptr(), freed, "does not fit the hole");
            let fourth = memory.place(&[4; 60]).unwrap();
            assert_eq!(fourth.ptr(), freed);
            assert_eq!(code(&fourth), [4; 60]);
            assert_eq!((code(&first), code(&third)), (vec![1; 64], vec![3; 64]));
            drop((first, third, fourth));
            assert_eq!(memory.bytes_used(), 0);
        }

        #[test]
        fn the_budget_holds() {
            let memory = CodeMemory::new(256);
            let block = memory.place(&[0; 200]).unwrap();
            assert_eq!(
                memory.place(&[0]).unwrap_err(),
                MemoryError::Full { wanted: 64, used: 256, max: 256 }
            );
            drop(block);
            assert!(memory.place(&[0]).is_ok());
        }

        #[test]
        fn a_block_may_be_larger_than_a_segment() {
            let memory = CodeMemory::new(usize::MAX);
            let small = memory.place(&[1]).unwrap();
            // Only the ends are touched by the copy of zeros: keep it just above one segment.
            let large = memory.place(&vec![0; SEGMENT_BYTES + 1]).unwrap();
            assert_eq!(large.len(), SEGMENT_BYTES + 1);
            assert_eq!(code(&small), [1]);
        }

        #[test]
        fn what_lies_on_huge_pages_is_what_was_placed() {
            let memory = CodeMemory::new(8 << 20);
            let place = |i: u8| memory.place(&vec![i; 100_000]).unwrap();
            let blocks: Vec<_> = (0..60).map(place).collect();
            memory.use_huge_pages();
            let huge = |block: &CodeBlock| {
                let window = &block.segment.windows[block.offset / WINDOW];
                window.huge.load(Ordering::Relaxed)
            };
            assert!(huge(&blocks[0]) && huge(&blocks[30]));
            let late = place(200);
            memory.use_huge_pages();
            for (i, block) in blocks.iter().chain([&late]).enumerate() {
                let i = if i < 60 { i as u8 } else { 200 };
                assert_eq!(code(block), vec![i; 100_000]);
            }
        }

        /// The mapping of an address: its protection, and what it is called.
        fn mapping(address: usize) -> (String, String) {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let bound = |text| usize::from_str_radix(text, 16).unwrap();
            let mut found = maps.lines().filter(|line| {
                let (start, rest) = line.split_once('-').unwrap();
                let (end, _) = rest.split_once(' ').unwrap();
                (bound(start)..bound(end)).contains(&address)
            });
            let line = found.next().expect("a mapping");
            let mut fields = line.split_whitespace().skip(1);
            let protection = fields.next().unwrap().to_owned();
            (protection, fields.skip(3).collect::<Vec<_>>().join(" "))
        }

        #[test]
        fn no_view_is_writable_and_executable() {
            let names = [
                (CodeMemory::new(1 << 20), "/memfd:kiln-code (deleted)"),
                // What perf takes for memory.
                (CodeMemory::anonymous(1 << 20), "/dev/zero (deleted)"),
            ];
            for (memory, name) in names {
                let block = memory.place(&[0xc3]).unwrap();
                let executable = block.ptr().as_ptr() as usize;
                assert_eq!(mapping(executable), ("r-xs".to_owned(), name.to_owned()));
                let writable = block.segment.map.writable_start();
                assert_eq!(mapping(writable), ("rw-s".to_owned(), name.to_owned()));
                assert_eq!(code(&block), [0xc3]);
            }
        }

        #[test]
        fn placed_code_runs() {
            if cfg!(target_arch = "x86_64") {
                for memory in [CodeMemory::new(1 << 20), CodeMemory::anonymous(1 << 20)] {
                    // mov eax, 42; ret
                    let block = memory.place(&[0xb8, 42, 0, 0, 0, 0xc3]).unwrap();
                    // SAFETY: the block holds a function of this type for this CPU.
                    let answer = unsafe {
                        std::mem::transmute::<*mut u8, extern "C" fn() -> u32>(block.ptr().as_ptr())
                    };
                    assert_eq!(answer(), 42);
                }
            }
        }
    }
}
