//! What users and operators ask of an engine by name.
//!
//! **Owns** the commands. **Callers guarantee** nothing. **Never** waits for room in a queue, except
//! where the caller said how long it may.

use super::{Engine, shared::Shared};
use crate::{
    backend::{self, Prepared, Refusal, Stopped},
    compile::CompileError,
    observe::trace,
    program::Program,
    slot::Slot,
};
use revm::{bytecode::Bytecode, primitives::B256};
use std::{sync::Arc, time::Duration};

/// Nothing is compiled while one of these is alive: see [`Engine::pause`]. Dropping it resumes, unless
/// there are others.
#[must_use = "dropping it resumes"]
pub struct Pause {
    _pause: backend::Pause<Shared>,
}

impl std::fmt::Debug for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pause").finish_non_exhaustive()
    }
}

impl Engine {
    /// Compiles a code now, on this thread, whole or as far as it was seen, and makes it resident.
    ///
    /// `hash` is what the database says the code's hash is; it need not be true.
    ///
    /// # Errors
    /// If there is nothing to compile, it is over a limit, or does not fit; if it is in quarantine, or
    /// another thread is at it; while the engine is paused, and after it was shut down.
    pub fn compile(
        &self,
        bytecode: &Bytecode,
        hash: B256,
        baked: &kiln_ir::Config,
    ) -> Result<Arc<Program>, CompileError> {
        let slot = self.slot_of(bytecode, hash, baked)?;
        slot.program().map_or_else(|| self.compile_slot(&slot), Ok)
    }

    /// Has a code compiled by a compile thread, in front of what is merely hot, and does not wait for
    /// it. Without compile threads it is compiled by this one.
    ///
    /// # Errors
    /// If it is not going to be.
    pub fn compile_soon(
        &self,
        bytecode: &Bytecode,
        hash: B256,
        baked: &kiln_ir::Config,
    ) -> Result<(), Refusal> {
        let slot = self.slot_of(bytecode, hash, baked)?;
        if slot.program().is_some() {
            return Ok(());
        }
        self.back.compile(&slot, self.first_tier())
    }

    /// As [`Engine::compile_soon`], and waits for the program, at most `timeout`.
    ///
    /// # Errors
    /// If there is none, or not in time; then its compilation goes on.
    pub fn compile_within(
        &self,
        bytecode: &Bytecode,
        hash: B256,
        baked: &kiln_ir::Config,
        timeout: Duration,
    ) -> Result<Arc<Program>, Refusal> {
        let slot = self.slot_of(bytecode, hash, baked)?;
        if let Some(program) = slot.program() {
            return Ok(program);
        }
        self.back.compile_wait(&slot, self.first_tier(), timeout)?;
        // It may have been cleared or evicted already.
        slot.program().ok_or(Refusal::Cleared)
    }

    /// Compiles codes ahead of their use, each given with what the database says its hash is. Without
    /// `timeout`, the job queue is filled and what it has no room for is refused; else this waits until
    /// all are done, at most so long. What has a program counts as compiled.
    pub fn prepare(
        &self,
        codes: &[(Bytecode, B256)],
        baked: &kiln_ir::Config,
        timeout: Option<Duration>,
    ) -> Prepared {
        let mut done = Prepared::default();
        let mut slots = Vec::new();
        for (bytecode, hash) in codes {
            match self.slot_of(bytecode, *hash, baked) {
                Ok(slot) if slot.program().is_some() => done.compiled += 1,
                Ok(slot) => slots.push(slot),
                Err(_) => done.failed += 1,
            }
        }
        let prepared = self.back.prepare(&slots, self.first_tier(), timeout);
        done.compiled += prepared.compiled;
        done.pending += prepared.pending;
        done.failed += prepared.failed;
        done
    }

    /// Compiles every code that was recorded and has blocks that are not compiled yet, on this thread.
    /// Answers how many programs were made.
    pub fn compile_recorded(&self) -> usize {
        let mut stale: Vec<Arc<Slot>> = Vec::new();
        self.shared.each_slot(|slot| {
            if slot.seen().is_some_and(|seen| seen.fresh() > 0) {
                stale.push(slot.clone());
            }
        });
        stale.iter().filter(|slot| self.compile_slot(slot).is_ok()).count()
    }

    /// Forgets all codes and programs, what is in quarantine, and what waits to be compiled; what is
    /// being compiled is cancelled, and not used. Frames that run a program at the moment leave it at
    /// their next safepoint, and its memory is free when the last has left. What the store has stays, and is loaded again
    /// when it is called; what it remembers is not used any more.
    pub fn clear(&self) {
        self.back.clear();
        // Before the slots: one that comes in between is known, or gone.
        self.shared.known.clear();
        let codes = self.shared.retire_slots();
        if let Some(persist) = &self.shared.persist {
            persist.forget();
        }
        self.shared.know_stored();
        self.shared.outdate();
        trace::cleared(codes);
    }

    /// Stops compiling until the answer is dropped. What runs is cancelled, and begun anew then; what
    /// waits goes on waiting. Programs run on. Pauses nest.
    pub fn pause(&self) -> Pause {
        Pause { _pause: self.back.pause() }
    }

    /// Whether a [`Pause`] is alive.
    pub fn is_paused(&self) -> bool {
        self.back.is_paused()
    }

    /// Throws away now what is idle or over budget, as the backend thread does from time to time.
    pub fn sweep(&self) {
        self.shared.sweep();
    }

    /// Cancels all compilations, has the store written, and waits for the engine's threads, at most `timeout`. From then
    /// on nothing is compiled or saved; programs run on. Dropping the last clone of an engine does the same, with
    /// [`crate::Config::shutdown_ms`].
    pub fn shutdown(&self, timeout: Duration) -> Stopped {
        self.back.stop(timeout)
    }

    fn slot_of(
        &self,
        bytecode: &Bytecode,
        hash: B256,
        baked: &kiln_ir::Config,
    ) -> Result<Arc<Slot>, Refusal> {
        if !self.config().enabled {
            return Err(Refusal::Off);
        }
        if !bytecode.is_legacy() || bytecode.is_empty() {
            return Err(Refusal::NotCode);
        }
        // What the store has is found by who compiles it.
        let found = self.shared.slot(bytecode, hash, self.intern(baked));
        if found.crowded && !self.back.sweep_soon() {
            self.shared.sweep();
        }
        Ok(found.slot)
    }
}
