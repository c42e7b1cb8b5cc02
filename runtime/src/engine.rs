//! The engine: what is shared by all EVMs of a process that run compiled code.
//!
//! **Owns** what all its parts are made of, and the way a frame finds its code: `shared` has the
//! resident programs, `control` the commands, `sweeper` evictions; the back end has the threads.
//!
//! **Callers guarantee** nothing: an engine may be shared by any number of threads, EVMs, chains and
//! databases, even ones that return false code hashes.
//!
//! **Never** runs code, and holds no lock while it compiles.

mod control;
mod keeper;
mod shared;
mod stored;
mod sweeper;
#[cfg(test)]
mod tests;

pub use control::Pause;
pub(crate) use shared::{BakedId, same_code};

use crate::{
    backend::{Backend, BackendConfig, Failure, QuotaConfig, Refusal, Requested},
    checks::{Check, report::Seen},
    compile::CompileError,
    config::{Config, ConfigError},
    heat::HotFrom,
    hooks::{Hooks, Tier},
    local::Local,
    memory::MemoryError,
    observe::trace,
    policy::{Action, Event},
    program::Program,
    slot::{Profiled, Slot},
    stats::Stats,
};
use keeper::Back;
use kiln_abi::EnterFn;
use kiln_store::StoreError;
use kiln_tier0::{Library, LibraryError};
use revm::{bytecode::Bytecode, primitives::B256};
use shared::{Found, Shared};
use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
};
use thiserror::Error;

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
    /// All code is to be compiled with tier 1, which can not be had.
    #[error("tier 1 needs a worker executable that has LLVM, or a build with feature llvm")]
    NoTier1,
    /// Nothing is to be compiled, and there is no store that has anything.
    #[error("with only what is stored there must be a store, and machine code")]
    NoStore,
    /// The store can not be used.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// No executable memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Compiles, keeps and hands out programs. Clones share everything; dropping the last one shuts its
/// threads down.
#[derive(Clone)]
pub struct Engine {
    /// What frames look at, apart from the back end: its threads keep this alive, not the engine.
    shared: Arc<Shared>,
    back: Arc<Back>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", self.config()).finish_non_exhaustive()
    }
}

/// The back end's part of the options.
fn backend_config(config: &Config) -> BackendConfig {
    BackendConfig {
        enabled: config.enabled,
        // What is forced is to be the same each time.
        threads: if config.force.promote { 0 } else { config.compile_threads },
        more_threads: usize::from(config.top_tier > Tier::Baseline),
        first_tier: config.first_tier,
        event_queue_len: config.event_queue_len,
        job_queue_len: config.job_queue_len,
        drain_max: config.drain_max,
        deadline_ms: config.compile_deadline_ms,
        optimise_deadline_ms: config.optimise_deadline_ms,
        grace_ms: config.compile_grace_ms,
        job_age_ms_max: config.job_age_ms_max,
        sweep_interval_ms: config.sweep_interval_ms,
        shutdown_ms: config.shutdown_ms,
        quota: QuotaConfig {
            cooldown_ms: config.cooldown_ms,
            backoff_ms_max: config.backoff_ms_max,
            attempts_max: config.attempts_max,
        },
        ..BackendConfig::default()
    }
}

impl Engine {
    /// An engine with the given options. Generates the stencil library, if code is to be compiled
    /// to machine code. Starts no thread: the first code that is to be compiled in the background
    /// does.
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
        let backend = backend_config(&config);
        let shared = Arc::new(Shared::new(config, hooks)?);
        let back = Backend::new(backend, shared.clone());
        let back = Arc::new(Back::new(back, shared.clone()));
        Ok(Self { shared, back })
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
        &self.shared.config
    }

    /// Who is told of its work.
    #[cfg(feature = "dump")]
    pub(crate) fn hooks(&self) -> &Hooks {
        self.shared.hooks()
    }

    /// The stencil library, if there is one.
    pub fn library(&self) -> Option<&Library> {
        self.shared.library()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats(&self.back.stats())
    }

    /// Gives the recorder of the `metrics` crate what changed since the last time: the counters and
    /// gauges of [`crate::metrics()`]. Without feature `metrics` it does nothing.
    pub fn record_metrics(&self) {
        self.shared.record_metrics(|| self.back.stats());
    }

    /// The tier that code is compiled with first.
    fn first_tier(&self) -> Tier {
        self.shared.config.first_tier
    }

    /// Bytes of code memory in use now.
    pub fn code_bytes_used(&self) -> usize {
        self.shared.memory.bytes_used()
    }

    /// With `true`, everything is interpreted, and the blocks that are run are marked;
    /// [`Engine::compile_recorded`] compiles them.
    pub fn set_recording(&self, recording: bool) {
        // Relaxed: frames that run at the moment may miss the change.
        self.shared.recording.store(recording, Ordering::Relaxed);
    }

    /// What an EVM needs of its own: what another one left, or a new one.
    pub(crate) fn borrow_local(&self) -> Box<Local> {
        self.shared.borrow_local()
    }

    /// Takes it back from an EVM that is gone.
    pub(crate) fn return_local(&self, local: Box<Local>) {
        self.shared.return_local(local);
    }

    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn trampoline(&self) -> Option<EnterFn> {
        self.shared.trampoline()
    }

    /// The id of a configuration; the same for equal ones.
    pub(crate) fn intern(&self, baked: &kiln_ir::Config) -> BakedId {
        self.shared.intern(baked)
    }

    /// The slot of a code. A hit under the database's hash counts only if the bytes are the same;
    /// else the true hash decides.
    pub(crate) fn slot(&self, bytecode: &Bytecode, hash: B256, baked: BakedId) -> Arc<Slot> {
        let Found { slot, crowded, is_stored } = self.shared.slot(bytecode, hash, baked);
        if crowded && !self.back.sweep_soon() {
            self.shared.sweep();
        }
        if is_stored {
            self.fetch(&slot);
        }
        slot
    }

    /// Asks for a program that the store has.
    #[cold]
    fn fetch(&self, slot: &Arc<Slot>) {
        slot.begin_fetch();
        let tier = self.first_tier();
        if self.back.request(slot, tier) == Requested::Here {
            // Without it the code is interpreted, as any other.
            let _ = self.back.compile_here(slot, tier);
        }
    }

    /// Executions from which blocks of a code are hot; none if nobody counts.
    #[inline]
    pub(crate) fn hot_from(&self) -> Option<HotFrom> {
        let seed = self.shared.id.wrapping_add(self.generation() as u32).wrapping_mul(0x9e37_79b1);
        Some(self.shared.hot_from?.seeded(seed))
    }

    /// Whether there may be something to know about a code. Always true while recording.
    #[inline]
    pub(crate) fn knows(&self, hash: &B256) -> bool {
        self.shared.known.has(hash) || self.is_recording()
    }

    /// A frame begins without a program.
    #[cold]
    pub(crate) fn frame(&self, slot: &Arc<Slot>) {
        let event = Event::Frame(slot.count_frame());
        self.act(slot, self.shared.policy.decide(&slot.state(), event));
    }

    /// The interpreter came through a block of a known code that is not compiled. Whether something was
    /// decided: that is not done each time.
    #[inline]
    pub(crate) fn missed(&self, slot: &Arc<Slot>, pc: usize) -> bool {
        let missed = slot.miss(pc);
        let decides = missed.is_multiple_of(self.shared.policy.decides_every);
        if decides {
            self.missed_often(slot, pc);
        }
        decides
    }

    #[cold]
    #[inline(never)]
    fn missed_often(&self, slot: &Arc<Slot>, pc: usize) {
        trace::missed(&slot.bytecode, pc);
        self.act(slot, self.shared.policy.decide(&slot.state(), Event::Missed));
    }

    /// A code's program was run in so many frames, or for as long as in so many.
    #[cold]
    #[inline(never)]
    pub(crate) fn worked(&self, slot: &Arc<Slot>, frames: u32) {
        slot.work(frames);
        self.act(slot, self.shared.policy.decide(&slot.state(), Event::Worked));
    }

    /// A block of a code that is profiled is about to be counted. Whether it need not.
    pub(crate) fn profiled_block(&self, slot: &Arc<Slot>) -> bool {
        let profiled = slot.profiled_block();
        if profiled == Profiled::Complete {
            self.act(slot, self.shared.policy.decide(&slot.state(), Event::Worked));
        }
        profiled != Profiled::Counts
    }

    fn act(&self, slot: &Arc<Slot>, action: Action) {
        let tier = match action {
            Action::Promote(tier) => tier,
            _ => self.first_tier(),
        };
        let here = match action {
            Action::Nothing => false,
            Action::Profile => {
                slot.profile(self.shared.config.profile_blocks);
                false
            }
            Action::LeaveAlone => {
                trace::left_alone(&slot.bytecode);
                slot.leave_alone();
                false
            }
            Action::CompileHere => true,
            Action::Request | Action::Promote(_) => {
                self.back.request(slot, tier) == Requested::Here
            }
        };
        if here {
            // What fails is counted, and the slot knows when it may be tried again.
            let _ = self.back.compile_here(slot, tier);
        }
    }

    /// Compiles a code again. Frames that run its program go on in the new one at their next
    /// safepoint.
    pub(crate) fn recompile(&self, slot: &Arc<Slot>) -> Option<Arc<Program>> {
        // Without a new one, for instance because another thread is at it, with what there is.
        self.compile_slot(slot).ok().or_else(|| slot.program())
    }

    /// As [`Engine::recompile`], with optimised regions.
    pub(crate) fn optimise(&self, slot: &Arc<Slot>) -> Option<Arc<Program>> {
        let tier = self.first_tier().max(Tier::Optimised);
        self.compile_slot_with(slot, tier).ok().or_else(|| slot.program())
    }

    /// Drops the program of a code. Frames that run it leave it at their next safepoint.
    pub(crate) fn evict(&self, slot: &Slot) {
        trace::evicted(&slot.bytecode, "forced");
        slot.publish(None);
    }

    /// A frame begins that can be checked; whether it is to be: one of so many.
    pub(crate) fn shadows_next(&self, every: NonZeroU32) -> bool {
        // Relaxed: only the number counts.
        self.shared.shadows.fetch_add(1, Ordering::Relaxed).is_multiple_of(every.get())
    }

    /// A check found that a code's program is wrong: reports it, and takes it away for good.
    #[cold]
    pub(crate) fn distrust(
        &self,
        slot: &Arc<Slot>,
        tier: Tier,
        (check, differences): (Check, Vec<String>),
        seen: Option<&Seen>,
    ) {
        let why = CompileError::Differs { check, differences: differences.clone() };
        trace::evicted(&slot.bytecode, &why);
        slot.publish(None);
        self.shared.report(slot, tier, (check, differences), seen);
        let why: Arc<str> = why.to_string().into();
        let wrong = Failure::Wrong(why.clone());
        let outcome = self.back.compile_with(slot, self.first_tier(), |_| Err(wrong));
        if !matches!(outcome, Err(Refusal::Failed(_))) {
            // Paused, or another thread compiles it, whose program does not get there either: the slot is retired.
            slot.ticket.bar(why);
        }
        slot.retire();
        if let Some(persist) = &self.shared.persist {
            let mut stats = Stats::default();
            persist.discard(slot, &mut stats);
            self.shared.count(stats);
        }
    }

    /// Whether frames are to be interpreted and recorded.
    #[inline]
    pub(crate) fn is_recording(&self) -> bool {
        self.shared.recording.load(Ordering::Relaxed)
    }

    /// Compiles a code on this thread, now.
    fn compile_slot(&self, slot: &Arc<Slot>) -> Result<Arc<Program>, CompileError> {
        self.compile_slot_with(slot, self.first_tier())
    }

    fn compile_slot_with(
        &self,
        slot: &Arc<Slot>,
        tier: Tier,
    ) -> Result<Arc<Program>, CompileError> {
        let mut result = Err(CompileError::Busy);
        let outcome = self.back.compile_with(slot, tier, |job| {
            result = self.shared.compile_slot(slot, job);
            match &result {
                Ok(program) => Ok(program.clone()),
                Err(error) => Err(error.failure()),
            }
        });
        match (outcome, result) {
            (Err(refusal), Ok(_) | Err(CompileError::Busy)) => Err(refusal.into()),
            (_, result) => result,
        }
    }
}
