//! The engine: what is shared by all EVMs of a process that run compiled code.
//!
//! **Owns** the stencil library, code memory, the resident programs and the counters.
//!
//! **Callers guarantee** nothing: an engine may be shared by any number of threads, EVMs, chains and
//! databases, even ones that return false code hashes.
//!
//! **Never** runs code, and holds no lock while it compiles.

use crate::{
    compile::{CompileError, Compiler, Task},
    config::{Backend, Compile, Config, ConfigError},
    heat::HotFrom,
    hooks::{CompileThread, Hooks, Tier},
    local::Local,
    memory::{CodeBlock, CodeMemory, MemoryError},
    observe::{Observer, Registration, Subject, metrics::Gauges, trace},
    policy::{Action, Event, Policy},
    program::Program,
    slot::{Baked, Slot},
    stats::{Counters, Stats},
};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use hashbrown::HashMap;
use kiln_abi::{EnterFn, Pc};
use kiln_tier0::{Library, LibraryError};
use revm::{bytecode::Bytecode, primitives::B256};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};
use thiserror::Error;

const SHARDS: usize = 16;
/// What EVMs that are gone leave for those to come; as many as may be made and dropped at a time.
const LOCALS: usize = 64;

/// Why there is no engine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Options that make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No stencil library for this CPU.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// No executable memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// What a resident program is found by. The code's bytes are compared on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) hash: B256,
    pub(crate) len: u32,
    pub(crate) baked: BakedId,
}

/// A configuration the engine knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BakedId(u32);

/// Compiles, keeps and hands out programs. Clones share everything.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Shared>);

/// A part of the resident map. Padded: threads that look up different codes share no cache line.
type Shard = CachePadded<RwLock<HashMap<Key, Arc<Slot>>>>;

/// Engines made so far.
static ENGINES: AtomicU32 = AtomicU32::new(0);

struct Shared {
    /// Unlike that of other engines of the process, as good as.
    id: u32,
    config: Config,
    native: Option<Native>,
    memory: CodeMemory,
    observer: Observer,
    shards: [Shard; SHARDS],
    baked: RwLock<Vec<Arc<Baked>>>,
    policy: Policy,
    locals: ArrayQueue<Box<Local>>,
    /// Goes up when what a cache of slots holds may be out of date. The increment releases what
    /// was changed before it; caches acquire.
    generation: AtomicU64,
    recording: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// Who counts, and what was counted by those that are gone.
#[derive(Default)]
struct Ledger {
    past: Stats,
    present: Vec<Arc<Counters>>,
}

struct Native {
    library: Library,
    /// In front of the trampoline, so that it is dropped first.
    _registration: Registration,
    trampoline: CodeBlock,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine with the given options. Generates the stencil library, if code is to be compiled
    /// to machine code.
    ///
    /// # Errors
    /// If this machine is not supported or has no executable memory to give.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        Self::with_hooks(config, Hooks::default())
    }

    /// An engine that tells of what it does.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn with_hooks(config: Config, hooks: Hooks) -> Result<Self, EngineError> {
        let observer = Observer::new(&config, hooks);
        let memory = match config.perf_map {
            true => CodeMemory::anonymous(config.code_bytes_max),
            false => CodeMemory::new(config.code_bytes_max),
        };
        let native = match config.backend {
            Backend::Native if config.enabled => {
                let library = Library::new()?;
                let trampoline = memory.place(library.trampoline())?;
                let registration = observer.register_trampoline(&trampoline);
                Some(Native { library, _registration: registration, trampoline })
            }
            _ => None,
        };
        // Relaxed: only the number counts.
        let id = ENGINES.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x01_0001);
        Ok(Self(Arc::new(Shared {
            id,
            recording: AtomicBool::new(config.recording),
            policy: Policy::new(&config),
            locals: ArrayQueue::new(LOCALS),
            config,
            native,
            memory,
            observer,
            shards: Default::default(),
            baked: RwLock::default(),
            generation: AtomicU64::new(0),
            ledger: Mutex::default(),
        })))
    }

    /// An engine with the options that the environment states; see [`Config::from_env`].
    ///
    /// # Errors
    /// If a `KILN_*` variable is bad, or as [`Engine::new`].
    pub fn from_env() -> Result<Self, EngineError> {
        Self::new(Config::from_env()?)
    }

    /// The options it was made with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The stencil library, if there is one.
    pub fn library(&self) -> Option<&Library> {
        self.0.native.as_ref().map(|native| &native.library)
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        let ledger = self.ledger();
        let mut stats = ledger.past;
        ledger.present.iter().for_each(|counters| stats += counters.load());
        stats.perf_map_errors = self.0.observer.perf_map_errors();
        stats
    }

    /// Gives the recorder of the `metrics` crate what changed since the last time: the counters and
    /// gauges of [`crate::metrics()`]. Without feature `metrics` it does nothing.
    pub fn record_metrics(&self) {
        self.0.observer.metrics.record(|| {
            let gauges = Gauges { code_bytes_used: self.code_bytes_used() };
            (self.stats(), gauges)
        });
    }

    /// Bytes of code memory in use now.
    pub fn code_bytes_used(&self) -> usize {
        self.0.memory.bytes_used()
    }

    /// With `true`, everything is interpreted, and the blocks that are run are marked;
    /// [`Engine::compile_recorded`] compiles them.
    pub fn set_recording(&self, recording: bool) {
        // Relaxed: frames that run at the moment may miss the change.
        self.0.recording.store(recording, Ordering::Relaxed);
    }

    /// Forgets all programs. Frames that run one at the moment leave it at their next safepoint, and
    /// its memory is free when the last has left.
    pub fn clear(&self) {
        let mut codes = 0;
        for shard in &self.0.shards {
            let slots = std::mem::take(&mut *shard.write().unwrap_or_else(PoisonError::into_inner));
            codes += slots.len();
            // Caches may hold on to slots, which must not hold on to programs.
            slots.values().for_each(|slot| slot.retire());
        }
        self.outdate();
        trace::cleared(codes);
    }

    /// Compiles a code now, whole or as far as it was seen, and makes it resident.
    ///
    /// `hash` is what the database says the code's hash is; it need not be true.
    ///
    /// # Errors
    /// If there is nothing to compile, it is over a limit, or does not fit.
    pub fn compile(
        &self,
        bytecode: &Bytecode,
        hash: B256,
        baked: &kiln_ir::Config,
    ) -> Result<Arc<Program>, CompileError> {
        if !self.0.config.enabled {
            return Err(CompileError::Disabled);
        }
        if !bytecode.is_legacy() || bytecode.is_empty() {
            return Err(CompileError::NotCode);
        }
        let slot = self.slot(bytecode, hash, self.intern(baked));
        if let Some(program) = slot.program() {
            return Ok(program);
        }
        if slot.failed() {
            return Err(CompileError::Failed);
        }
        self.compile_slot(&slot)
    }

    /// Compiles every code that was recorded and has blocks that are not compiled yet. Answers how
    /// many programs were made.
    pub fn compile_recorded(&self) -> usize {
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for shard in &self.0.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            slots.extend(shard.values().cloned());
        }
        let stale =
            |slot: &Slot| !slot.failed() && slot.seen().is_some_and(|seen| seen.fresh() > 0);
        slots.iter().filter(|slot| stale(slot) && self.compile_slot(slot).is_ok()).count()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an EVM needs of its own: what another one left, or a new one.
    pub(crate) fn borrow_local(&self) -> Box<Local> {
        self.0.locals.pop().unwrap_or_else(|| {
            let local = Box::<Local>::default();
            self.ledger().present.push(local.counters.clone());
            local
        })
    }

    /// Takes it back from an EVM that is gone.
    pub(crate) fn return_local(&self, local: Box<Local>) {
        if let Err(local) = self.0.locals.push(local) {
            let mut ledger = self.ledger();
            ledger.past += local.counters.load();
            ledger.present.retain(|present| !Arc::ptr_eq(present, &local.counters));
        }
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    fn outdate(&self) {
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    #[inline]
    pub(crate) fn trampoline(&self) -> Option<EnterFn> {
        let native = self.0.native.as_ref()?;
        // SAFETY: offset 0 of the library's trampoline is a function of this type; it is mapped
        // executable for as long as the engine lives.
        Some(unsafe { std::mem::transmute::<*mut u8, EnterFn>(native.trampoline.ptr().as_ptr()) })
    }

    /// The id of a configuration; the same for equal ones.
    pub(crate) fn intern(&self, baked: &kiln_ir::Config) -> BakedId {
        let known = |all: &[Arc<Baked>]| {
            all.iter().position(|known| known.config == *baked).map(|index| BakedId(index as u32))
        };
        if let Some(id) = known(&self.0.baked.read().unwrap_or_else(PoisonError::into_inner)) {
            return id;
        }
        let mut all = self.0.baked.write().unwrap_or_else(PoisonError::into_inner);
        known(&all).unwrap_or_else(|| {
            all.push(Arc::new(Baked::new(baked.clone())));
            BakedId(all.len() as u32 - 1)
        })
    }

    fn baked(&self, id: BakedId) -> Arc<Baked> {
        self.0.baked.read().unwrap_or_else(PoisonError::into_inner)[id.0 as usize].clone()
    }

    /// The slot of a code. A hit under the database's hash counts only if the bytes are the same;
    /// else the true hash decides.
    pub(crate) fn slot(&self, bytecode: &Bytecode, hash: B256, baked: BakedId) -> Arc<Slot> {
        let key = |hash| Key { hash, len: bytecode.len() as u32, baked };
        let slot = self.slot_at(key(hash), bytecode);
        if same_code(&slot.bytecode, bytecode) {
            return slot;
        }
        trace::false_hash(bytecode);
        let slot = self.slot_at(key(bytecode.hash_slow()), bytecode);
        if same_code(&slot.bytecode, bytecode) {
            return slot;
        }
        // The database gave another code this one's hash. It gets a slot that nobody else finds.
        Arc::new(Slot::new(bytecode.clone(), self.baked(baked)))
    }

    fn slot_at(&self, key: Key, bytecode: &Bytecode) -> Arc<Slot> {
        let shard = &self.0.shards[key.hash[0] as usize % SHARDS];
        if let Some(slot) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return slot.clone();
        }
        trace::lookup_miss(bytecode);
        let baked = self.baked(key.baked);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let slot = shard.entry(key).or_insert_with(|| Arc::new(Slot::new(bytecode.clone(), baked)));
        slot.clone()
    }

    /// Executions from which blocks of a code are hot; none if nobody counts.
    #[inline]
    pub(crate) fn hot_from(&self) -> Option<HotFrom> {
        let seed = self.0.id.wrapping_add(self.generation() as u32).wrapping_mul(0x9e37_79b1);
        Some(self.0.policy.hot_from()?.seeded(seed))
    }

    /// A frame begins without a program.
    #[cold]
    pub(crate) fn frame(&self, slot: &Slot) {
        let event = Event::Frame(slot.count_frame());
        self.act(slot, self.0.policy.decide(&slot.state(), event));
    }

    /// The interpreter came through a block that runs often and is not compiled.
    #[cold]
    pub(crate) fn hot_block(&self, slot: &Slot, pc: usize) {
        trace::hot_block(&slot.bytecode, pc);
        slot.miss(pc, self.0.policy.hot_executions);
        self.act(slot, self.0.policy.decide(&slot.state(), Event::HotBlock));
    }

    fn act(&self, slot: &Slot, action: Action) {
        match action {
            Action::Nothing => {}
            // A failure is kept in the slot.
            Action::CompileHere | Action::Request => drop(self.compile_slot(slot)),
        }
    }

    /// Compiles a code again. Frames that run its program go on in the new one at their next
    /// safepoint.
    pub(crate) fn recompile(&self, slot: &Slot) -> Option<Arc<Program>> {
        // Without a new one, for instance because another thread is at it, with what there is.
        if !slot.failed()
            && let Ok(program) = self.compile_slot(slot)
        {
            return Some(program);
        }
        slot.program()
    }

    /// Drops the program of a code. Frames that run it leave it at their next safepoint.
    pub(crate) fn evict(&self, slot: &Slot) {
        trace::evicted(&slot.bytecode, "forced");
        slot.publish(None);
    }

    /// Whether frames are to be interpreted and recorded.
    #[inline]
    pub(crate) fn is_recording(&self) -> bool {
        self.0.recording.load(Ordering::Relaxed)
    }

    fn compile_slot(&self, slot: &Slot) -> Result<Arc<Program>, CompileError> {
        let subject = Subject {
            bytecode: &slot.bytecode,
            baked: &slot.baked.config,
            tier: Tier::Baseline,
            thread: CompileThread::Calling,
            nth: slot.published(),
        };
        let mut stats = Stats::default();
        let compile = || self.compile_and_publish(slot, subject, &mut stats);
        let result = slot.exclusively(compile).ok_or(CompileError::Busy)?;
        self.ledger().past += stats;
        // Nothing is held here: a callback may use the engine.
        let outcome = result.as_ref().map(|program| &**program);
        let panics = self.0.observer.compiled(&subject, outcome, &stats);
        if panics != 0 {
            self.ledger().past.callback_panics += panics;
        }
        result
    }

    fn compile_and_publish(
        &self,
        slot: &Slot,
        subject: Subject<'_>,
        stats: &mut Stats,
    ) -> Result<Arc<Program>, CompileError> {
        let Shared { config, memory, observer, .. } = &*self.0;
        let compiler = Compiler { config, library: self.library(), memory, observer };
        let seen = match config.compile {
            Compile::Seen if !config.force.promote => slot.seen(),
            _ => None,
        };
        slot.settle();
        let select = |pc: Pc| config.force.keeps(subject.nth, pc);
        let task = Task { subject, seen, select: &select, cancelled: &|| false };
        let _span = trace::compile_span(&subject).entered();
        // A broken compiler costs one code its program, and nobody else anything.
        let result = catch_unwind(AssertUnwindSafe(|| compiler.compile(&task, stats)));
        match result.unwrap_or(Err(CompileError::Panicked)) {
            Ok(program) => {
                let program = Arc::new(program);
                slot.publish(Some(program.clone()));
                Ok(program)
            }
            Err(error) => {
                stats.compile_errors += 1;
                slot.set_failed();
                Err(error)
            }
        }
    }
}

/// Whether two bytecodes are the same: by address where possible.
pub(crate) fn same_code(a: &Bytecode, b: &Bytecode) -> bool {
    a.len() == b.len()
        && a.is_legacy() == b.is_legacy()
        && (a.bytecode_ptr() == b.bytecode_ptr()
            || a.original_byte_slice() == b.original_byte_slice())
}
