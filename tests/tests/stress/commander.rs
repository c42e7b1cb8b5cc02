//! The fifth thread: what users and operators may do to an engine at any time.

use crate::configs::Named;
use crate::watchdog::Doing;
use crate::{Arena, RUNS_MIN};
use kiln_ir::OpcodeSet;
use kiln_runtime::{Engine, Stats};
use kiln_tests::case::TARGET;
use revm::bytecode::Bytecode;
use revm::interpreter::instructions::gas_table_spec;
use revm::primitives::keccak256;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long work that was begun before may take to let go of its code.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Commands engines.
pub(crate) struct Commander<'a> {
    arena: &'a Arena,
    configs: &'a [Named],
    doing: &'a Doing,
    random: fastrand::Rng,
}

impl<'a> Commander<'a> {
    pub(crate) fn new(arena: &'a Arena, configs: &'a [Named], doing: &'a Doing) -> Self {
        Self { arena, configs, doing, random: fastrand::Rng::with_seed(99) }
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
    }

    /// One command, mostly followed by a pause.
    fn act(&mut self, engine: &Engine, before: usize) {
        match self.random.u8(..100) {
            0..4 => {
                self.doing.says("clears", 0);
                engine.clear();
            }
            4..8 => self.quiet(engine, before),
            8..12 => self.record(engine),
            12..40 => self.compile(engine),
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
        let start = Instant::now();
        while engine.code_bytes_used() != before && start.elapsed() < IDLE_MAX {
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

    /// Compiles a code on this thread, which may be compiled, run or dropped elsewhere meanwhile.
    fn compile(&mut self, engine: &Engine) {
        let index = self.arena.programs.pick(&mut self.random);
        self.doing.says("compiles", index as u64);
        let case = &self.arena.programs.all[index].case;
        let code = Bytecode::new_legacy(case.contracts[&TARGET].code.clone().into());
        let gas = gas_table_spec(case.spec);
        let baked = kiln_ir::Config { spec: case.spec, gas, replaced: OpcodeSet::EMPTY };
        let hash = keccak256(code.original_byte_slice());
        // An error is an outcome like any other: no room, or compiled elsewhere at the moment.
        if let Ok(program) = engine.compile(&code, hash, &baked) {
            assert_eq!(program.bytecode(), &code);
        }
    }
}

/// No queue is longer than it may be.
fn bounded(_named: &Named, _stats: &Stats) {}
