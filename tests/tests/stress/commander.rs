//! The fifth thread: what users and operators may do to an engine at any time.

use crate::configs::Named;
use crate::watchdog::Doing;
use crate::{Arena, RUNS_MIN};
use kiln_ir::OpcodeSet;
use kiln_runtime::{Config, Engine, Stats, Tier};
use kiln_tests::case::TARGET;
use revm::bytecode::Bytecode;
use revm::interpreter::instructions::gas_table_spec;
use revm::primitives::{B256, keccak256};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Looks, a tenth of a millisecond apart or more, until work that was begun before has let go of its
/// code.
const LOOKS_MAX: u32 = 300_000;

/// Commands engines.
pub(crate) struct Commander<'a> {
    arena: &'a Arena,
    configs: &'a [Named],
    doing: &'a Doing,
    random: fastrand::Rng,
    /// What all engines did.
    did: Stats,
}

impl<'a> Commander<'a> {
    pub(crate) fn new(arena: &'a Arena, configs: &'a [Named], doing: &'a Doing) -> Self {
        Self { arena, configs, doing, random: fastrand::Rng::with_seed(99), did: Stats::default() }
    }

    /// Puts one engine after the other in place, until the time is up and each had its turn.
    pub(crate) fn command(&mut self, until: Instant) {
        let each = until.saturating_duration_since(Instant::now()) / self.configs.len() as u32;
        let mut turn = 0;
        while turn < self.configs.len() || Instant::now() < until {
            let named = &self.configs[turn % self.configs.len()];
            self.doing.says("starts an engine", turn as u64);
            let engine = Engine::new(named.config.clone()).expect("the engine starts");
            let before = engine.code_bytes_used();
            let old = {
                let mut place = self.arena.engine.write().unwrap_or_else(PoisonError::into_inner);
                self.arena.runs.store(0, Ordering::Relaxed);
                self.arena.epoch.fetch_add(1, Ordering::Release);
                std::mem::replace(&mut *place, engine.clone())
            };
            drop(old);
            self.attend(named, &engine, before, Instant::now() + each.min(Duration::from_secs(20)));
            turn += 1;
        }
        if !self.arena.done.load(Ordering::Relaxed) {
            happened(&self.did);
        }
    }

    /// Commands one engine until it ran programs for long enough, and looks at what is left then.
    fn attend(&mut self, named: &Named, engine: &Engine, before: usize, until: Instant) {
        let (arena, name) = (self.arena, named.name);
        while (arena.runs.load(Ordering::Relaxed) < RUNS_MIN || Instant::now() < until)
            && !arena.done.load(Ordering::Relaxed)
        {
            self.act(engine, before);
            bounded(named, &engine.stats());
        }
        if arena.done.load(Ordering::Relaxed) {
            return;
        }
        self.quiet(engine, before);
        let stats = engine.stats();
        assert!(stats.programs > 0 && stats.native_entries > 0, "{name}: {stats:?}");
        self.did += stats;
    }

    /// One command, or a moment without.
    fn act(&mut self, engine: &Engine, before: usize) {
        match self.random.u16(..1000) {
            // Rare, so that code memory fills up in between.
            0..3 => {
                self.doing.says("clears", 0);
                engine.clear();
            }
            3..6 => self.quiet(engine, before),
            6..26 => self.record(engine),
            26..100 => self.pause(engine),
            100..140 => {
                self.doing.says("sweeps", 0);
                engine.sweep();
            }
            140..400 => self.compile(engine),
            400..440 => self.prepare(engine),
            _ => self.wait(),
        }
    }

    fn wait(&mut self) {
        self.doing.says("waits", 0);
        std::thread::sleep(Duration::from_micros(self.random.u64(..2000)));
    }

    /// While no program runs, a clear leaves no code behind.
    fn quiet(&mut self, engine: &Engine, before: usize) {
        self.doing.says("waits for all EVMs to be idle", 0);
        let _alone = self.arena.engine.write().unwrap_or_else(PoisonError::into_inner);
        self.doing.says("clears while all EVMs are idle", 0);
        engine.clear();
        let mut looks = 0;
        while engine.code_bytes_used() != before && looks < LOOKS_MAX {
            looks += 1;
            self.doing.says("waits for code to be freed", engine.code_bytes_used() as u64);
            std::thread::sleep(Duration::from_micros(100));
        }
        assert_eq!(engine.code_bytes_used(), before, "code is left over: {:?}", engine.stats());
    }

    /// Interprets and marks for a moment.
    fn record(&mut self, engine: &Engine) {
        self.doing.says("records", 0);
        engine.set_recording(true);
        self.wait();
        engine.set_recording(false);
        self.doing.says("compiles what was recorded", 0);
        engine.compile_recorded();
    }

    /// Pauses for a moment, mostly twice.
    fn pause(&mut self, engine: &Engine) {
        self.doing.says("pauses", 0);
        let outer = engine.pause();
        let inner = self.random.bool().then(|| engine.pause());
        assert!(engine.is_paused());
        self.wait();
        match self.random.bool() {
            true => drop((inner, outer)),
            false => drop((outer, inner)),
        }
    }

    /// Compiles a code that may be compiled, run or dropped elsewhere meanwhile.
    fn compile(&mut self, engine: &Engine) {
        let index = self.arena.programs.pick(&mut self.random);
        let (code, hash, baked) = self.code(index);
        // An error is an outcome like any other: no room, paused, cleared, or too late.
        let program = match self.random.u8(..3) {
            0 => {
                self.doing.says("compiles", index as u64);
                engine.compile(&code, hash, &baked).ok()
            }
            1 => {
                self.doing.says("asks for a compilation", index as u64);
                let _ = engine.compile_soon(&code, hash, &baked);
                None
            }
            _ => {
                self.doing.says("waits for a compilation", index as u64);
                let timeout = Duration::from_micros(self.random.u64(..5000));
                engine.compile_within(&code, hash, &baked, timeout).ok()
            }
        };
        assert!(program.is_none_or(|program| program.bytecode() == &code));
    }

    /// Compiles some codes ahead of their use.
    fn prepare(&mut self, engine: &Engine) {
        self.doing.says("prepares", 0);
        let count = self.random.usize(1..40);
        let indices = (0..count).map(|_| self.arena.programs.pick(&mut self.random));
        let indices: Vec<usize> = indices.collect();
        let codes: Vec<_> = indices.into_iter().map(|index| self.code(index)).collect();
        let baked = codes[0].2.clone();
        let codes: Vec<_> = codes.into_iter().map(|(code, hash, _)| (code, hash)).collect();
        let timeout = self.random.bool().then(|| Duration::from_micros(self.random.u64(..20_000)));
        let prepared = engine.prepare(&codes, &baked, timeout);
        let sum = prepared.compiled + prepared.pending + prepared.failed;
        assert_eq!(sum, codes.len(), "{prepared:?}");
    }

    fn code(&self, index: usize) -> (Bytecode, B256, kiln_ir::Config) {
        let case = &self.arena.programs.all[index].case;
        let code = Bytecode::new_legacy(case.contracts[&TARGET].code.clone().into());
        let gas = gas_table_spec(case.spec);
        let baked = kiln_ir::Config { spec: case.spec, gas, replaced: OpcodeSet::EMPTY };
        (code.clone(), keccak256(code.original_byte_slice()), baked)
    }
}

/// No queue is longer than it may be: of the jobs, as many may be put off as wait, and each worker may
/// have put one back.
fn bounded(named: &Named, stats: &Stats) {
    let Config { event_queue_len, job_queue_len, compile_threads, top_tier, .. } = named.config;
    // Promotions have a queue and a thread of their own.
    let promotions = usize::from(top_tier > Tier::Baseline);
    let threads = compile_threads + promotions;
    let jobs = 2 * job_queue_len * (1 + promotions) + threads;
    assert!(stats.events_waiting <= event_queue_len as u64, "{}: {stats:?}", named.name);
    assert!(stats.jobs_waiting <= jobs as u64, "{}: {stats:?}", named.name);
    assert!(stats.jobs_running <= threads as u64, "{}: {stats:?}", named.name);
}

/// What the test is about did happen.
fn happened(did: &Stats) {
    let counts = [
        did.events_accepted,
        did.jobs_compiled,
        did.jobs_dropped + did.events_dropped,
        did.jobs_cancelled + did.jobs_stale,
        did.swaps,
        did.frames_dropped,
        did.forced_evictions,
        did.forced_exits,
        did.sweeps,
    ];
    assert!(counts.iter().all(|&count| count > 0), "{did:?}");
    // The evaluator's programs take no room.
    assert!(did.code_bytes == 0 || did.evicted_budget > 0, "{did:?}");
    assert_eq!((did.jobs_panicked, did.quarantined, did.workers_abandoned), (0, 0, 0), "{did:?}");
}
