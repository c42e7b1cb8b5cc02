//! What an engine remembers of codes, in bytes of the heap each.
//!
//! Counted at the allocator, so what the engine's map keeps free counts too; the allocator's own
//! overhead does not. Not counted: the bytecodes (their `Arc`s are made before, and engines share
//! them), machine code (which is not on the heap), and what the EVM holds that ran the codes.

use crate::BenchError;
use kiln::{Compile, Config, Engine, Tiered};
use kiln_ir::OpcodeSet;
use revm::{
    Context, Database, ExecuteEvm, MainBuilder, MainContext,
    bytecode::Bytecode,
    context::TxEnv,
    interpreter::instructions::gas_table_spec,
    primitives::{Address, B256, TxKind, U256, hardfork::SpecId},
    state::AccountInfo,
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    convert::Infallible,
    sync::atomic::{AtomicIsize, Ordering},
};

/// The system's allocator, which counts the bytes that are allocated.
#[derive(Debug)]
pub struct Counting {
    bytes: AtomicIsize,
}

impl Counting {
    /// Nothing is allocated.
    #[expect(clippy::new_without_default, reason = "for a static")]
    pub const fn new() -> Self {
        Self { bytes: AtomicIsize::new(0) }
    }

    /// Bytes allocated now, by all threads.
    pub fn bytes(&self) -> isize {
        // Relaxed, here and below: a counter, read when other threads are still.
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: isize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        self.count(-(layout.size() as isize));
        // SAFETY: the caller's; `System` allocated it.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count(size as isize - layout.size() as isize);
        // SAFETY: the caller's; `System` allocated it.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

/// Bytes of the heap for each code.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// Codes.
    pub codes: usize,
    /// For a code that was run and has no program.
    pub seen: f64,
    /// For a code with a program: what was made for it besides machine code included.
    pub compiled: f64,
    /// Bytes of code memory of each program.
    pub code: f64,
}

/// Makes an engine remember `count` codes, and another one compile them.
///
/// # Errors
/// There is no engine on this machine.
pub fn measure(count: usize, heap: &Counting) -> Result<Bytes, BenchError> {
    let codes = Codes::new(count);
    let config = Config {
        compile: Compile::All,
        slots_max: count * 2,
        warm_frames: u32::MAX,
        sweep_interval_ms: 3_600_000,
        ..Config::eager()
    };
    // Once in vain: what is allocated once a process.
    seen(&Codes::new(1), &config)?;
    let each = |bytes: isize| bytes as f64 / count as f64;

    let before = heap.bytes();
    let engine = seen(&codes, &config)?;
    let seen = each(heap.bytes() - before - empty(&config, heap)?);
    drop(engine);

    let before = heap.bytes();
    let engine = compiled(&codes, &config)?;
    let compiled = each(heap.bytes() - before - empty(&config, heap)?);
    let code = engine.stats().code_bytes as f64 / count as f64;
    Ok(Bytes { codes: count, seen, compiled, code })
}

/// Bytes of an engine that knows no code.
fn empty(config: &Config, heap: &Counting) -> Result<isize, BenchError> {
    let before = heap.bytes();
    let _engine = Engine::new(config.clone())?;
    Ok(heap.bytes() - before)
}

/// An engine through which all codes ran once.
fn seen(codes: &Codes, config: &Config) -> Result<Engine, BenchError> {
    let engine = Engine::new(config.clone())?;
    let mut context = Context::mainnet().with_db(codes.clone());
    context.cfg.set_spec_and_mainnet_gas_params(SPEC);
    context.cfg.disable_nonce_check = true;
    let mut evm = Tiered::mainnet(context.build_mainnet(), engine.clone());
    for number in 0..codes.0.len() {
        let kind = TxKind::Call(address(number));
        let tx = TxEnv { kind, gas_limit: 100_000, ..TxEnv::default() };
        let result = evm.transact(tx).map_err(|error| BenchError::Slots(error.to_string()))?;
        if !result.result.is_success() {
            return Err(BenchError::Slots(format!("code {number}: {:?}", result.result)));
        }
    }
    Ok(engine)
}

/// An engine that compiled all codes.
fn compiled(codes: &Codes, config: &Config) -> Result<Engine, BenchError> {
    let engine = Engine::new(config.clone())?;
    let baked =
        kiln_ir::Config { spec: SPEC, gas: gas_table_spec(SPEC), replaced: OpcodeSet::EMPTY };
    for code in codes.0.iter() {
        let program = engine.compile(&code.0, code.1, &baked);
        program.map_err(|error| BenchError::Slots(error.to_string()))?;
    }
    Ok(engine)
}

const SPEC: SpecId = SpecId::CANCUN;

/// Codes that differ, at addresses that say which.
#[derive(Clone, Debug)]
struct Codes(std::sync::Arc<[(Bytecode, B256)]>);

impl Codes {
    /// PUSH4 number, POP, STOP: one block, the smallest program there is.
    fn new(count: usize) -> Self {
        let code = |number: usize| {
            let [a, b, c, d] = (number as u32).to_be_bytes();
            let code = Bytecode::new_legacy(vec![0x63, a, b, c, d, 0x50, 0x00].into());
            let hash = code.hash_slow();
            (code, hash)
        };
        Self((0..count).map(code).collect())
    }
}

/// Above the precompiles.
fn address(number: usize) -> Address {
    Address::left_padding_from(&(number as u64 | 1 << 40).to_be_bytes())
}

impl Database for Codes {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        let number = u32::from_be_bytes([address[16], address[17], address[18], address[19]]);
        let account =
            |(code, hash): &(Bytecode, B256)| AccountInfo::new(U256::ZERO, 1, *hash, code.clone());
        let is_code = address == self::address(number as usize);
        Ok(self.0.get(number as usize).filter(|_| is_code).map(account))
    }

    fn code_by_hash(&mut self, _: B256) -> Result<Bytecode, Infallible> {
        Ok(Bytecode::default())
    }

    fn storage(&mut self, _: Address, _: U256) -> Result<U256, Infallible> {
        Ok(U256::ZERO)
    }

    fn block_hash(&mut self, _: u64) -> Result<B256, Infallible> {
        Ok(B256::ZERO)
    }
}
