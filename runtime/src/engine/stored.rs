//! Programs that come from the store instead of a compiler.
//!
//! **Owns** the ways there: at a job, when a program is asked for; and before anybody asks, the hottest first.
//! **Callers guarantee** what they do for [`Shared::compile_slot`]: one thread at a time has a slot. **Never** compiles,
//! and never replaces a program by one of the same tier or a lower one.

use super::shared::Shared;
use crate::{
    backend::{Failure, Handle, Job, Refusal, thread_cpu_ns},
    compile::{CompileError, place_in},
    config::Compile,
    hooks::{CompileThread, Tier},
    memory::MemoryError,
    observe::{Subject, trace},
    persist::{CodeKey, LoadError, Persist, check_limits, key_of, tier_of},
    program::Program,
    slot::Slot,
    stats::Stats,
};
use kiln_ir::Blocks;
use kiln_store::Artifact;
use revm::{
    bytecode::Bytecode,
    primitives::{B256, Bytes},
};
use std::sync::Arc;

/// Huge pages are looked after once in so many programs that are loaded in a row.
const HUGE_PAGES_EVERY: usize = 64;

impl Shared {
    /// The program that the store has for a job, if it has one that is better than the present one. An error is the
    /// job's: then nothing is to be compiled either.
    pub(super) fn load_stored(
        &self,
        slot: &Slot,
        job: &Job,
        subject: &Subject<'_>,
        stats: &mut Stats,
    ) -> Option<Result<Arc<Program>, CompileError>> {
        let loaded = self.persist.as_ref().and_then(|persist| {
            let start_ns = thread_cpu_ns();
            let loaded = self.load_from(persist, slot, job, subject, stats);
            stats.store_load_cpu_ns += thread_cpu_ns().saturating_sub(start_ns);
            loaded
        });
        // Who asks for a program that was thought to be there has seen nothing of what the code runs.
        let is_fetched = slot.end_fetch();
        let has_reason = || match self.config.compile {
            Compile::All => true,
            Compile::Seen => !is_fetched || slot.seen().is_some(),
            Compile::Stored => false,
        };
        loaded.or_else(|| (!has_reason()).then_some(Err(CompileError::NotStored)))
    }

    fn load_from(
        &self,
        persist: &Persist,
        slot: &Slot,
        job: &Job,
        subject: &Subject<'_>,
        stats: &mut Stats,
    ) -> Option<Result<Arc<Program>, CompileError>> {
        let present = slot.pin().as_ref().map(|program| program.tier());
        if slot.is_retired() || present.is_some_and(|present| present >= job.tier()) {
            return None;
        }
        let demand = slot.demand();
        let make_room = |bytes| self.make_room(slot, bytes, demand, job);
        let code = key_of(slot);
        while let Some(key) = persist.find(&code, job.tier()) {
            let Some(artifact) = persist.load(&key, stats) else { continue };
            match self.program_of(*artifact, slot, subject, &make_room) {
                Ok(program) => return Some(Ok(self.take_over(slot, program, stats))),
                Err(LoadError::Memory(error)) => {
                    stats.store_refused += 1;
                    return Some(Err(error.into()));
                }
                Err(error) => {
                    stats.store_refused += 1;
                    trace::not_loaded(&slot.bytecode, error);
                    persist.dismiss(&key);
                }
            }
        }
        slot.set_stored(persist.find(&code, Tier::Baseline).is_some());
        stats.store_misses += u64::from(present.is_none());
        None
    }

    /// What has to be done once a program was loaded.
    fn take_over(&self, slot: &Slot, program: Program, stats: &mut Stats) -> Arc<Program> {
        slot.loaded(program.entries().to_table().iter().map(|(pc, ..)| pc));
        slot.promoted();
        stats.store_hits += 1;
        stats.store_loaded_bytes += program.code_bytes() as u64;
        Arc::new(program)
    }

    /// Places an artifact that this engine may use.
    fn program_of(
        &self,
        artifact: Artifact,
        slot: &Slot,
        subject: &Subject<'_>,
        make_room: &dyn Fn(usize) -> bool,
    ) -> Result<Program, LoadError> {
        let tier = tier_of(artifact.key.rank)?;
        check_limits(&artifact, &self.config.limits, self.config.regions_max)?;
        if self.config.compile == Compile::All {
            let blocks = Blocks::scan(&artifact.bytecode, &artifact.config, &self.config.limits);
            let is = blocks.map_or(0, |blocks| blocks.blocks.len());
            let max = artifact.blocks as usize;
            if is > max {
                return Err(LoadError::Limit { what: "blocks, of which it has less", is, max });
            }
        }
        let subject = Subject { tier, ..*subject };
        let register = |code: &_| self.observer.register(&subject, code);
        let place = place_in(&self.memory, make_room);
        let program = Program::from_artifact(artifact, slot.bytecode.clone(), register, &place)?;
        Ok(program)
    }

    /// Loads the next of the programs that are to be there before they are asked for. False if there are no more, or
    /// nothing is published at the moment.
    pub(super) fn preload_one(&self, persist: &Persist, back: &Handle<Self>) -> bool {
        if back.is_paused() {
            return false;
        }
        let Some((code, _under_way)) = persist.next_preload() else { return false };
        let mut stats = Stats::default();
        let start_ns = thread_cpu_ns();
        if self.preload(persist, back, &code, &mut stats) {
            persist.end_preload();
        }
        stats.store_load_cpu_ns = thread_cpu_ns().saturating_sub(start_ns);
        self.count(stats);
        true
    }

    /// Loads a code's program, if there is none. Whether it is over: there is no room, or nothing is published any more.
    fn preload(
        &self,
        persist: &Persist,
        back: &Handle<Self>,
        code: &CodeKey,
        stats: &mut Stats,
    ) -> bool {
        let Some(key) = persist.find(code, Tier::Baseline) else { return false };
        let Some(artifact) = persist.load(&key, stats) else { return false };
        // What was resident at a time is to be so again: what comes later takes the place of what is not used.
        let bytes = artifact.text.len() + size_of_val(artifact.entries.words());
        if self.memory.bytes_used() + bytes > self.config.code_bytes_max {
            return true;
        }
        let bytecode = Bytecode::new_legacy(Bytes::copy_from_slice(&artifact.bytecode));
        let baked = self.intern(&artifact.config);
        let slot = self.slot(&bytecode, B256::new(key.code_hash), baked).slot;
        if slot.pin().is_some() {
            return false;
        }
        let mut full = false;
        let outcome = back.compile_with(&slot, self.config.first_tier, |job| {
            let subject = Subject {
                bytecode: &slot.bytecode,
                baked: &slot.baked.config,
                tier: job.tier(),
                thread: CompileThread::Background,
                nth: slot.published(),
            };
            match self.program_of(*artifact, &slot, &subject, &|_| false) {
                Ok(program) => Ok(self.take_over(&slot, program, stats)),
                Err(error) => {
                    stats.store_refused += 1;
                    full = matches!(error, LoadError::Memory(MemoryError::Full { .. }));
                    if !full {
                        persist.dismiss(&key);
                    }
                    Err(Failure::Unused(error.to_string().into()))
                }
            }
        });
        // Who is at it already loads it, too; and so does who calls it, if a pause came in between.
        full || matches!(outcome, Err(Refusal::Off | Refusal::ShutDown))
    }

    /// Looks after huge pages, if so many programs were loaded since the last time.
    pub(super) fn preloaded(&self, programs: usize, last: bool) {
        if self.config.huge_pages && (last || programs.is_multiple_of(HUGE_PAGES_EVERY)) {
            self.memory.use_huge_pages();
        }
    }

    /// Tells of a program that was loaded for a job.
    pub(super) fn loaded(&self, program: &Program, stats: &Stats) {
        let code_bytes = program.code_bytes();
        trace::loaded(program.bytecode(), program.tier(), code_bytes, stats.store_load_cpu_ns);
    }
}
