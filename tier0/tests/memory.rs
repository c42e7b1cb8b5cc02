//! What compiling hostile code takes of memory: a bounded number of bytes for each byte of code and each
//! instruction of a region.

use kiln_ir::{
    Blocks, Limits,
    ssa::{self, Analysis, Choice},
};
use kiln_region_tests::hostile::{codes, config, count, large_codes};
use kiln_tier0::region::Compiler;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Bytes of heap for each byte of code, from bytecode to regions, and besides.
const CHOICE_RATIO: usize = 512;
const CHOICE_FREE: usize = 4 << 20;
/// Bytes of heap for each instruction of a region, from there to its SSA form, and from that to code.
const BUILD_RATIO: usize = 6 << 10;
const CODEGEN_RATIO: usize = 96 << 10;
const REGION_FREE: usize = 256 << 10;
/// Regions of each code that are compiled.
const COMPILED: usize = 2;

thread_local! {
    /// Bytes that this thread has taken and not given back, and the most it had.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// Counts what goes through it, by thread.
struct Counting;

fn add(bytes: isize) {
    // A thread that ends frees what its thread-locals had.
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

// SAFETY: every call goes to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the caller's block, which `alloc` took from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What an action gives, and how much more heap it had at some time than at its beginning.
fn measured<R>(act: impl FnOnce() -> R) -> (R, usize) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let result = act();
    let (_, most) = HELD.get();
    (result, (most - before) as usize)
}

#[test]
fn memory_is_proportional_to_code() {
    let (limits, config) = (Limits::default(), config());
    let mut compiler = Compiler::new().unwrap();
    // The worst, in bytes for each byte or instruction.
    let mut worst = [0; 3];
    for (name, code) in codes().into_iter().chain(large_codes()) {
        let (blocks, scanned) = measured(|| Blocks::scan(&code, &config, &limits).unwrap());
        let ((analysis, regions), analysed) = measured(|| {
            let analysis = Analysis::new(&code, &blocks, &config, &limits).unwrap();
            let regions = ssa::choose(&analysis, &count, Choice { hot: 1, regions_max: 64 });
            (analysis, regions)
        });
        let (is, max) = (scanned + analysed, CHOICE_RATIO * code.len() + CHOICE_FREE);
        assert!(is <= max, "{name}: {is} bytes to choose, of {max}");
        worst[0] = worst[0].max(is.saturating_sub(CHOICE_FREE) / code.len());
        for region in regions.iter().take(COMPILED) {
            let instructions = region.instructions() as usize;
            let (function, is) = measured(|| ssa::build(&analysis, region, &limits));
            let max = BUILD_RATIO * instructions + REGION_FREE;
            assert!(is <= max, "{name}: {is} bytes to build, of {max}");
            worst[1] = worst[1].max(is.saturating_sub(REGION_FREE) / instructions);
            let Ok(function) = function else { continue };
            let (_, is) = measured(|| compiler.compile(&function, &limits).is_ok());
            let max = CODEGEN_RATIO * instructions + REGION_FREE;
            assert!(is <= max, "{name}: {is} bytes to compile, of {max}");
            worst[2] = worst[2].max(is.saturating_sub(REGION_FREE) / instructions);
        }
    }
    // The bounds mean something.
    let bounds = [CHOICE_RATIO, BUILD_RATIO, CODEGEN_RATIO];
    for (is, bound) in worst.into_iter().zip(bounds) {
        assert!(8 * is >= bound, "the worst are {worst:?}, of {bounds:?}");
    }
}
