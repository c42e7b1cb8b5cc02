//! What all parts of an engine share: code memory, the resident programs, the counters.
//!
//! **Owns** them, and how a slot is compiled. **Callers guarantee** that one thread at a time compiles a
//! slot: the back end does. **Never** decides when, and holds no lock while it compiles.

use super::{EngineError, sweeper::Sweeper};
use crate::{
    backend::{BackendStats, Failure, Job, Note, Refusal, Ticket, Work},
    checks::{
        Check,
        report::{Seen as FrameSeen, Whose},
    },
    compile::{CompileError, Compiler, Task},
    config::{Backend, Compile, Config},
    heat::HotFrom,
    hooks::{CompileThread, Hooks, Tier},
    known::Known,
    local::Local,
    memory::{CodeBlock, CodeMemory, MemoryError},
    observe::{Observer, Registration, Subject, metrics::Gauges, trace},
    persist::{Persist, Unfinished},
    policy::Policy,
    program::Program,
    slot::{Baked, Seen, Slot},
    stats::{Counters, Stats},
    tier1::Tier1,
};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use hashbrown::HashMap;
use kiln_abi::{EnterFn, Pc};
use kiln_tier0::Library;
use revm::{bytecode::Bytecode, primitives::B256};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

const SHARDS: usize = 16;
/// What EVMs that are gone leave for those to come; as many as may be made and dropped at a time.
const LOCALS: usize = 64;

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

/// The slot of a code.
pub(super) struct Found {
    pub(super) slot: Arc<Slot>,
    /// There are too many by now.
    pub(super) crowded: bool,
    /// It is new, and the store has its program.
    pub(super) is_stored: bool,
}

impl Found {
    fn there(slot: Arc<Slot>) -> Self {
        Self { slot, crowded: false, is_stored: false }
    }
}

/// Slots by key.
type Slots = HashMap<Key, Arc<Slot>>;

/// A part of the resident map. Padded: threads that look up different codes share no cache line.
type Shard = CachePadded<RwLock<Slots>>;

/// Engines made so far.
static ENGINES: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Shared {
    /// Unlike that of other engines of the process, as good as.
    pub(super) id: u32,
    pub(super) config: Config,
    native: Option<Native>,
    pub(super) memory: CodeMemory,
    /// What is kept of what is compiled; none: nothing is.
    pub(super) persist: Option<Persist>,
    /// None: it can not be had.
    tier1: Option<Tier1>,
    pub(super) observer: Observer,
    shards: [Shard; SHARDS],
    /// Every code that has a slot, by the hash it was found by.
    pub(super) known: Known,
    baked: RwLock<Vec<Arc<Baked>>>,
    pub(super) policy: Policy,
    /// What the policy says, once.
    pub(super) hot_from: Option<HotFrom>,
    locals: ArrayQueue<Box<Local>>,
    /// Goes up when what a cache of slots holds may be out of date. The increment releases what
    /// was changed before it; caches acquire.
    pub(super) generation: AtomicU64,
    pub(super) recording: AtomicBool,
    /// Frames that could be checked. Relaxed: only the number counts.
    pub(super) shadows: AtomicU32,
    ledger: Mutex<Ledger>,
    pub(super) sweeper: Mutex<Sweeper>,
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

impl Shared {
    pub(super) fn new(config: Config, hooks: Hooks) -> Result<Self, EngineError> {
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
        let wants_tier1 = config.first_tier.max(config.top_tier) == Tier::Tier1;
        let tier1 = (config.enabled && wants_tier1).then(|| Tier1::find(&config.tier1_worker));
        let tier1 = tier1.flatten();
        let mut policy = Policy::new(&config);
        if tier1.is_none() {
            if config.enabled && config.first_tier == Tier::Tier1 {
                return Err(EngineError::NoTier1);
            }
            policy.top_tier = policy.top_tier.min(Tier::Optimised);
        }
        let persist = Persist::open(&config, config.first_tier.max(policy.top_tier))?;
        if config.enabled && config.compile == Compile::Stored && persist.is_none() {
            return Err(EngineError::NoStore);
        }
        let known = Known::with_room(persist.as_ref().map_or(0, Persist::codes));
        // Relaxed: only the number counts.
        let id = ENGINES.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x01_0001);
        let shared = Self {
            id,
            recording: AtomicBool::new(config.recording),
            shadows: AtomicU32::new(0),
            hot_from: policy.hot_from(),
            policy,
            locals: ArrayQueue::new(LOCALS),
            config,
            native,
            memory,
            persist,
            tier1,
            observer,
            shards: Default::default(),
            known,
            baked: RwLock::default(),
            generation: AtomicU64::new(0),
            ledger: Mutex::default(),
            sweeper: Mutex::default(),
        };
        shared.know_stored();
        Ok(shared)
    }

    /// What the store has, or remembers, is known before it is first called.
    pub(super) fn know_stored(&self) {
        if let Some(persist) = &self.persist {
            persist.each_code(|hash| self.known.add(hash));
        }
    }

    pub(super) fn library(&self) -> Option<&Library> {
        self.native.as_ref().map(|native| &native.library)
    }

    #[inline]
    pub(super) fn trampoline(&self) -> Option<EnterFn> {
        let native = self.native.as_ref()?;
        // SAFETY: offset 0 of the library's trampoline is a function of this type; it is mapped
        // executable for as long as the engine lives.
        Some(unsafe { std::mem::transmute::<*mut u8, EnterFn>(native.trampoline.ptr().as_ptr()) })
    }

    /// Bytes of code memory that no program has.
    #[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
    pub(super) fn trampoline_bytes(&self) -> usize {
        let native = self.native.as_ref();
        native.map_or(0, |native| native.trampoline.len().next_multiple_of(64))
    }

    /// Who is told of its work.
    #[cfg(feature = "dump")]
    pub(super) fn hooks(&self) -> &Hooks {
        &self.observer.hooks
    }

    /// The counters, with the back end's.
    pub(super) fn stats(&self, backend: &BackendStats) -> Stats {
        let mut stats = self.frame_stats();
        stats.perf_map_errors = self.observer.perf_map_errors();
        stats.set_backend(backend);
        stats
    }

    /// The counters of frames, as far as they count themselves.
    pub(super) fn frame_stats(&self) -> Stats {
        let ledger = self.ledger();
        let mut stats = ledger.past;
        ledger.present.iter().for_each(|counters| stats += counters.load());
        stats
    }

    /// Records what changed since the last time. `backend` is asked if somebody listens.
    pub(super) fn record_metrics(&self, backend: impl FnOnce() -> BackendStats) {
        self.observer.metrics.record(|| {
            let backend = backend();
            let gauges = Gauges {
                code_bytes_used: self.memory.bytes_used(),
                events_waiting: backend.events_waiting as usize,
                jobs_waiting: backend.jobs_waiting as usize,
                jobs_running: backend.jobs_running as usize,
            };
            (self.stats(&backend), gauges)
        });
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts.
    pub(super) fn count(&self, more: Stats) {
        self.ledger().past += more;
    }

    pub(super) fn borrow_local(&self) -> Box<Local> {
        self.locals.pop().unwrap_or_else(|| {
            let local = Box::<Local>::default();
            self.ledger().present.push(local.counters.clone());
            local
        })
    }

    pub(super) fn return_local(&self, local: Box<Local>) {
        if let Err(local) = self.locals.push(local) {
            let mut ledger = self.ledger();
            ledger.past += local.counters.load();
            ledger.present.retain(|present| !Arc::ptr_eq(present, &local.counters));
        }
    }

    pub(super) fn outdate(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(super) fn intern(&self, baked: &kiln_ir::Config) -> BakedId {
        let known = |all: &[Arc<Baked>]| {
            all.iter().position(|known| known.config == *baked).map(|index| BakedId(index as u32))
        };
        if let Some(id) = known(&self.baked.read().unwrap_or_else(PoisonError::into_inner)) {
            return id;
        }
        let mut all = self.baked.write().unwrap_or_else(PoisonError::into_inner);
        known(&all).unwrap_or_else(|| {
            all.push(Arc::new(Baked::new(baked.clone())));
            BakedId(all.len() as u32 - 1)
        })
    }

    fn baked(&self, id: BakedId) -> Arc<Baked> {
        self.baked.read().unwrap_or_else(PoisonError::into_inner)[id.0 as usize].clone()
    }

    /// The slot of a code.
    pub(super) fn slot(&self, bytecode: &Bytecode, hash: B256, baked: BakedId) -> Found {
        let key = |hash| Key { hash, len: bytecode.len() as u32, baked };
        let found = self.slot_at(key(hash), bytecode);
        if same_code(&found.slot.bytecode, bytecode) {
            return found;
        }
        trace::false_hash(bytecode);
        let found = self.slot_at(key(bytecode.hash_slow()), bytecode);
        if same_code(&found.slot.bytecode, bytecode) {
            return found;
        }
        // The database gave another code this one's hash. It gets a slot that nobody else finds, and
        // that is retired: neither a clear nor a sweep would find its program.
        let slot = Slot::new(bytecode.clone(), hash, self.baked(baked));
        slot.retire();
        Found::there(Arc::new(slot))
    }

    fn slot_at(&self, key: Key, bytecode: &Bytecode) -> Found {
        let shard = &self.shards[key.hash[0] as usize % SHARDS];
        self.known.add(&key.hash);
        if let Some(slot) = read(shard).get(&key) {
            return Found::there(slot.clone());
        }
        trace::lookup_miss(bytecode);
        let new = Arc::new(Slot::new(bytecode.clone(), key.hash, self.baked(key.baked)));
        let restored = self.persist.as_ref().is_some_and(|persist| persist.adopt(&new));
        let mut shard = write(shard);
        let before = shard.len();
        let slot = shard.entry(key).or_insert(new).clone();
        let is_new = shard.len() > before;
        // At a new code, and then not at each: a sweep looks at all.
        let max = (self.config.slots_max / SHARDS).max(64);
        let crowded = is_new && shard.len() > max && shard.len().is_multiple_of(64);
        drop(shard);
        if is_new && restored {
            self.count(Stats { store_restored: 1, ..Stats::default() });
        }
        let is_stored = is_new && slot.is_stored();
        Found { slot, crowded, is_stored }
    }

    /// Every slot in turn, with its shard locked for reading.
    pub(super) fn each_slot(&self, mut look: impl FnMut(&Arc<Slot>)) {
        for shard in &self.shards {
            read(shard).values().for_each(&mut look);
        }
    }

    /// Takes out slots that only the map has, of those that are not to be kept. Answers how many.
    pub(super) fn forget_slots(&self, keep: impl Fn(&Arc<Slot>) -> bool) -> usize {
        let mut gone = Vec::new();
        for shard in &self.shards {
            // Nobody gets a slot from the map meanwhile, so that what is held once stays so.
            let forget = |slot: &Arc<Slot>| Arc::strong_count(slot) == 1 && !keep(slot);
            gone.extend(write(shard).extract_if(|_, slot| forget(slot)));
        }
        gone.len()
    }

    /// Forgets all slots, and takes their programs away: caches may hold on to slots, which must not
    /// hold on to programs. Answers how many there were.
    pub(super) fn retire_slots(&self) -> usize {
        let mut codes = 0;
        for shard in &self.shards {
            let slots = std::mem::take(&mut *write(shard));
            codes += slots.len();
            slots.values().for_each(|slot| slot.retire());
        }
        codes
    }

    /// Compiles a slot, and tells of it.
    pub(super) fn compile_slot(
        &self,
        slot: &Slot,
        job: &Job,
    ) -> Result<Arc<Program>, CompileError> {
        let subject = Subject {
            bytecode: &slot.bytecode,
            baked: &slot.baked.config,
            tier: job.tier(),
            thread: job.thread(),
            nth: slot.published(),
        };
        let mut stats = Stats::default();
        let stored = self.load_stored(slot, job, &subject, &mut stats);
        let is_compiled = stored.is_none();
        let result = stored.unwrap_or_else(|| self.compile(slot, job, subject, &mut stats));
        let off_path = job.thread() != CompileThread::Calling || !self.policy.background;
        if self.config.huge_pages && off_path {
            self.memory.use_huge_pages();
        }
        stats.compile_errors += u64::from(is_compiled && result.is_err());
        if matches!(
            result,
            Err(CompileError::StorageBound | CompileError::Memory(MemoryError::Full { .. }))
        ) {
            slot.leave_alone();
        }
        if let Err(CompileError::Differs { check, differences }) = &result {
            self.report(slot, subject.tier, (*check, differences.clone()), None);
        }
        self.count(stats);
        if !is_compiled {
            if let Ok(program) = &result {
                self.loaded(program, &stats);
            }
            return result;
        }
        // Nothing is held here: a callback may use the engine.
        let outcome = result.as_ref().map(|program| &**program);
        let callback_panics = self.observer.compiled(&subject, outcome, &stats);
        if callback_panics != 0 {
            self.count(Stats { callback_panics, ..Stats::default() });
        }
        result
    }

    /// Tells of a difference that a check found. Without a lock.
    pub(super) fn report(
        &self,
        slot: &Slot,
        tier: Tier,
        found: (Check, Vec<String>),
        seen: Option<&FrameSeen>,
    ) {
        let Self { config, observer, .. } = self;
        let whose = Whose { bytecode: &slot.bytecode, fork: slot.baked.config.spec, tier };
        let (report, error) = observer.reports.make(config, whose, found, seen);
        if observer.reports.says(&report) {
            trace::difference(&report);
        }
        if let (Some(error), Some(folder)) = (&error, &config.reports) {
            trace::report_error(folder, error);
        }
        let callback_panics = u64::from(observer.hooks.reported(&report));
        let report_errors = u64::from(error.is_some());
        self.count(Stats { callback_panics, report_errors, ..Stats::default() });
    }

    fn compile(
        &self,
        slot: &Slot,
        job: &Job,
        subject: Subject<'_>,
        stats: &mut Stats,
    ) -> Result<Arc<Program>, CompileError> {
        let Self { config, memory, observer, .. } = self;
        let demand = slot.demand();
        let make_room = |bytes| self.make_room(slot, bytes, demand, job);
        let library = self.library();
        let tier1 = self.tier1.as_ref();
        let make_room = &make_room;
        let compiler = Compiler { config, library, memory, tier1, observer, make_room };
        let seen = match config.compile {
            Compile::Seen if !config.force.promote => slot.seen(),
            _ => None,
        };
        // By profile, and not because everything is to be optimised.
        let promotes = job.tier() != config.first_tier;
        if promotes {
            slot.try_promotion();
        }
        let profile = if promotes { slot.seen() } else { seen };
        let renew = slot.seen().is_some_and(|seen| seen.fresh() > 0);
        slot.settle();
        let select = |pc: Pc| config.force.keeps(subject.nth, pc);
        let counted = seen.is_some_and(Seen::counted);
        let cancelled = || job.is_cancelled();
        let optimised = slot.pin().as_ref().and_then(|program| program.optimised().cloned());
        let (select, cancelled) = (&select, &cancelled);
        let task = Task { subject, seen, counted, select, profile, optimised, renew, cancelled };
        let _span = trace::compile_span(&subject).entered();
        trace::compiling();
        // A broken compiler costs one code its program, and nobody else anything.
        let result = catch_unwind(AssertUnwindSafe(|| compiler.compile(&task, stats)));
        let program = result.unwrap_or(Err(CompileError::Panicked)).map(Arc::new)?;
        if promotes {
            slot.promoted();
        }
        Ok(program)
    }
}

impl crate::backend::Subject for Slot {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

impl Work for Shared {
    type Subject = Slot;
    type Output = Arc<Program>;

    fn compile(&self, slot: &Arc<Slot>, job: &Job) -> Result<Arc<Program>, Failure> {
        self.compile_slot(slot, job).map_err(|error| error.failure())
    }

    fn publish(&self, slot: &Arc<Slot>, program: Arc<Program>) {
        let is_saved = program.is_saved();
        slot.publish(Some(program));
        let persist = self.persist.as_ref().filter(|_| !is_saved);
        if persist.is_some_and(|persist| !persist.offer(slot)) {
            self.count(Stats { store_dropped: 1, ..Stats::default() });
        }
    }

    fn sweep(&self, stats: &BackendStats) {
        self.sweep();
        if let Some(tier1) = &self.tier1 {
            tier1.trim();
        }
        self.record_metrics(|| *stats);
    }

    fn note(&self, slot: &Slot, tier: Tier, note: &Note) {
        match note {
            Note::Queued(waiting) => trace::requested(&slot.bytecode, tier, *waiting),
            Note::Dropped(cause) => {
                trace::job_dropped(&slot.bytecode, tier, cause);
                // Called off, and not for its own sake: another session is to do it.
                if let (Refusal::ShutDown, Some(persist)) = (cause, &self.persist)
                    && let Some(unfinished) = Unfinished::of(slot, tier)
                {
                    persist.leave(unfinished);
                }
            }
            Note::Quarantined(reason) => {
                trace::quarantined(&slot.bytecode, reason);
                slot.leave_alone();
            }
            Note::Abandoned => trace::abandoned(&slot.bytecode, tier),
        }
    }
}

fn read(shard: &Shard) -> RwLockReadGuard<'_, Slots> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &Shard) -> RwLockWriteGuard<'_, Slots> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

/// Whether two bytecodes are the same: by address where possible.
pub(crate) fn same_code(a: &Bytecode, b: &Bytecode) -> bool {
    a.len() == b.len()
        && a.is_legacy() == b.is_legacy()
        && (a.bytecode_ptr() == b.bytecode_ptr()
            || a.original_byte_slice() == b.original_byte_slice())
}
