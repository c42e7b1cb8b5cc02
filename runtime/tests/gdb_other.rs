//! A process in which another JIT defines the symbols of the GDB JIT interface: it links, and kiln
//! uses the other's.

#![cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]

mod common;

use common::{code, engine};
use kiln_runtime::{Backend, Config};
use revm::{interpreter::instructions::gas_table_spec, primitives::hardfork::SpecId};
use std::{
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut (),
    first: *mut (),
}

#[unsafe(no_mangle)]
static mut __jit_debug_descriptor: Descriptor =
    Descriptor { version: 1, action: 0, relevant: ptr::null_mut(), first: ptr::null_mut() };

/// Relaxed: one thread calls and looks.
static CALLS: AtomicU32 = AtomicU32::new(0);

#[unsafe(no_mangle)]
extern "C" fn __jit_debug_register_code() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

fn listed() -> bool {
    // SAFETY: only this test's thread makes and drops programs.
    unsafe { !__jit_debug_descriptor.first.is_null() }
}

#[test]
fn the_symbols_of_another_jit_are_used() {
    let sum = code("6002600301 50 00");
    let spec = SpecId::CANCUN;
    let replaced = kiln_ir::OpcodeSet::EMPTY;
    let baked = kiln_ir::Config { spec, gas: gas_table_spec(spec), replaced };
    assert!(!listed());
    let engine = engine(Config { backend: Backend::Native, gdb: true, ..Config::eager() });
    // The trampoline.
    assert_eq!((CALLS.load(Ordering::Relaxed), listed()), (1, true));
    drop(engine.compile(&sum, sum.hash_slow(), &baked).unwrap());
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    engine.clear();
    assert_eq!((CALLS.load(Ordering::Relaxed), listed()), (3, true));
    drop(engine);
    assert_eq!((CALLS.load(Ordering::Relaxed), listed()), (4, false));
}
