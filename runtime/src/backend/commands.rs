//! What is asked of a back end by name: compile, prepare, clear, pause, shut down.
//!
//! **Owns** the commands. They go to the job queue directly, in front of what was merely hot, and
//! regard neither cooldown nor back-off. **Never** waits for room in a queue, except where the caller
//! said how long it may.

use super::{
    Backend, Inner, Note, Subject, Work,
    job::{Outcome, Refusal},
    jobs::{Hired, Queued},
};
use crate::{hooks::Tier, observe::trace};
use std::{
    sync::{
        Arc, PoisonError,
        atomic::Ordering,
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prepared {
    /// Compiled by now.
    pub compiled: usize,
    /// On their way.
    pub pending: usize,
    /// Compiled without success, dropped, or refused.
    pub failed: usize,
}

/// What became of the threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// Came to their end.
    pub joined: usize,
    /// Did not in time. They end as soon as they come back.
    pub detached: usize,
}

/// Nothing is compiled while one of these is alive. Dropping it resumes, unless there are others.
pub(crate) struct Pause<W: Work>(Arc<Inner<W>>);

impl<W: Work> Drop for Pause<W> {
    fn drop(&mut self) {
        let inner = &self.0;
        let mut jobs = inner.jobs();
        // Relaxed: the workers look under the lock.
        let before = inner.control.pauses.fetch_sub(1, Ordering::Relaxed);
        if before == 1 {
            // The pause does not count as waiting.
            jobs.renew(inner.control.clock.now_ms());
            inner.work_ready.notify_all();
            inner.poke();
        }
        drop(jobs);
        trace::resumed(before as usize - 1);
    }
}

/// Where the outcome goes.
pub(super) struct Tell<'a> {
    who: u64,
    sender: &'a SyncSender<Outcome>,
}

impl<W: Work> Backend<W> {
    /// Compiles a subject soon, in front of others.
    ///
    /// # Errors
    /// If it is not on its way now. Without threads it is compiled here, and the outcome answered.
    pub(crate) fn compile(&self, subject: &Arc<W::Subject>, tier: Tier) -> Outcome {
        self.0.command(subject, tier, None)
    }

    /// Compiles a subject and waits for that, at most `timeout`.
    ///
    /// # Errors
    /// If it was not compiled, or not in time; then the job goes on.
    pub(crate) fn compile_wait(
        &self,
        subject: &Arc<W::Subject>,
        tier: Tier,
        timeout: Duration,
    ) -> Outcome {
        let (sender, outcomes) = sync_channel(1);
        let who = self.0.jobs().new_waiter();
        if self.0.is_threadless() {
            return self.0.command(subject, tier, None);
        }
        self.0.command(subject, tier, Some(&Tell { who, sender: &sender }))?;
        outcomes.recv_timeout(timeout).unwrap_or_else(|_| {
            self.0.jobs().remove_waiter(who);
            // It may have come in between.
            outcomes.try_recv().unwrap_or(Err(Refusal::TimedOut))
        })
    }

    /// Compiles a batch. Without `timeout`, what the queue has no room for is refused; else this waits
    /// until all are done, at most so long.
    pub(crate) fn prepare(
        &self,
        subjects: &[Arc<W::Subject>],
        tier: Tier,
        timeout: Option<Duration>,
    ) -> Prepared {
        let inner = &self.0;
        let mut prepared = Prepared::default();
        let Some(timeout) = timeout.filter(|_| !inner.is_threadless()) else {
            for subject in subjects {
                match inner.command(subject, tier, None) {
                    Ok(()) if inner.is_threadless() => prepared.compiled += 1,
                    Ok(()) => prepared.pending += 1,
                    Err(_) => prepared.failed += 1,
                }
            }
            return prepared;
        };
        let end = Instant::now() + timeout;
        let (sender, outcomes) = sync_channel(subjects.len().max(1));
        let tell = Tell { who: inner.jobs().new_waiter(), sender: &sender };
        let next = |prepared: &mut Prepared| -> bool {
            let left = end.saturating_duration_since(Instant::now());
            let outcome = match outcomes.recv_timeout(left) {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return false,
            };
            prepared.pending -= 1;
            if outcome.is_ok() {
                prepared.compiled += 1
            } else {
                prepared.failed += 1
            }
            true
        };
        for subject in subjects {
            loop {
                match inner.command(subject, tier, Some(&tell)) {
                    Ok(()) => prepared.pending += 1,
                    Err(Refusal::QueueFull) if prepared.pending > 0 && next(&mut prepared) => {
                        continue;
                    }
                    Err(_) => prepared.failed += 1,
                }
                break;
            }
        }
        while prepared.pending > 0 && next(&mut prepared) {}
        inner.jobs().remove_waiter(tell.who);
        prepared
    }

    /// Makes void what waits and what runs: when this returns, nothing that was asked for before it
    /// will be published.
    pub(crate) fn clear(&self) {
        let inner = &self.0;
        let generation = {
            let _gate = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
            // Relaxed: ordered by the gate.
            inner.control.generation.fetch_add(1, Ordering::Relaxed) + 1
        };
        let (queued, put_off) = {
            let mut jobs = inner.jobs();
            let queued = jobs.take_if(|_, queued| queued.generation < generation);
            for (tier, queued) in &queued {
                inner.drop_job(&mut jobs, *tier, queued, Refusal::Cleared);
            }
            let put_off = jobs.take_put_off(generation);
            inner.unlock(jobs);
            (queued, put_off)
        };
        for put_off in &put_off {
            put_off.subject.ticket().phase.give_up();
            inner.counts.jobs_stale.add(1);
        }
        // Subjects are freed here, outside of the lock.
        drop((queued, put_off));
        // For the events, which the backend thread sees to.
        inner.poke();
    }

    /// Stops compiling at once: jobs that run are cancelled and put back, queues stay as they are,
    /// requests are refused.
    pub(crate) fn pause(&self) -> Pause<W> {
        // Relaxed: noticed at the next look.
        let before = self.0.control.pauses.fetch_add(1, Ordering::Relaxed);
        trace::paused(before as usize + 1);
        Pause(self.0.clone())
    }

    /// Whether a pause is on.
    pub(crate) fn is_paused(&self) -> bool {
        self.0.control.is_paused()
    }

    /// Cancels everything and waits for the threads, at most `timeout`. Nothing is compiled any more.
    /// On one of its own threads it does not wait for that one.
    pub(crate) fn shut_down(&self, timeout: Duration) -> Stopped {
        let inner = &self.0;
        if !inner.control.shut_down.swap(true, Ordering::AcqRel) {
            trace::shutting_down(timeout.as_millis().try_into().unwrap_or(u64::MAX));
        }
        let mut jobs = inner.jobs();
        let queued = jobs.take_if(|_, _| true);
        for (tier, queued) in &queued {
            inner.drop_job(&mut jobs, *tier, queued, Refusal::ShutDown);
        }
        let put_off = jobs.take_put_off(u64::MAX);
        for put_off in &put_off {
            put_off.subject.ticket().phase.give_up();
            let note = Note::Dropped(Refusal::ShutDown);
            jobs.notes.push((put_off.subject.clone(), put_off.tier, note));
        }
        jobs.tell_all(&Err(Refusal::ShutDown));
        inner.work_ready.notify_all();
        inner.poke();
        let wait = inner.thread_ended.wait_timeout_while(jobs, timeout, |jobs| {
            // The backend thread may have come to sleep after it looked.
            inner.poke();
            jobs.others_alive() > 0
        });
        let (mut jobs, _) = wait.unwrap_or_else(PoisonError::into_inner);
        let workers = std::mem::take(&mut jobs.workers).into_iter().map(|worker| worker.thread);
        let threads: Vec<_> = workers.chain(jobs.backend.take()).collect();
        // Joined without the lock, which they need to come to their end.
        inner.unlock(jobs);
        inner.forget_events();
        drop((queued, put_off));
        self.part(threads)
    }

    fn part(&self, threads: Vec<Hired>) -> Stopped {
        let mut stopped = Stopped::default();
        for thread in threads {
            if thread.ended {
                // It says so last, and it never panics.
                let _ = thread.handle.join();
                stopped.joined += 1;
            } else if !thread.is_here() {
                stopped.detached += 1;
            }
        }
        self.0.counts.threads_detached.add(stopped.detached as u64);
        if stopped != Stopped::default() {
            trace::shut_down(stopped.detached);
        }
        stopped
    }
}

impl<W: Work> Drop for Backend<W> {
    fn drop(&mut self) {
        self.shut_down(Duration::from_millis(self.0.config.shutdown_ms as u64));
    }
}

impl<W: Work> Inner<W> {
    /// Queues a job in front of others. With `tell`, its outcome is told once.
    pub(super) fn command(
        self: &Arc<Self>,
        subject: &Arc<W::Subject>,
        tier: Tier,
        tell: Option<&Tell<'_>>,
    ) -> Outcome {
        self.refusal(tier).map_or(Ok(()), Err)?;
        if self.is_threadless() {
            return self.compile_here(subject, tier, |job| self.work.compile(subject, job));
        }
        Self::start(self);
        let phase = &subject.ticket().phase;
        let mut jobs = self.jobs();
        // Jobs may end while this looks, so that it takes more than one look.
        loop {
            if self.control.is_shut_down() {
                return Err(Refusal::ShutDown);
            }
            if phase.is_barred() {
                return Err(self.quarantine(subject));
            }
            let room = jobs.has_room(tier);
            let queued = room && phase.queue();
            if queued {
                subject.ticket().want(tier);
                let generation = self.control.generation();
                let since_ms = self.control.clock.now_ms();
                let (subject, note) = (subject.clone(), Note::Queued(jobs.waiting() + 1));
                jobs.notes.push((subject.clone(), tier, note));
                jobs.push(tier, Queued { subject, generation, since_ms, commanded: true });
                self.counts.jobs_queued.add(1);
                self.work_ready.notify_one();
            }
            // Already in front, if it was just put there.
            if phase.wait() {
                jobs.advance(tier, subject);
                if let Some(Tell { who, sender }) = tell {
                    jobs.add_waiter(subject, *who, sender);
                }
                self.counts.jobs_deduped.add(!queued as u64);
                self.unlock(jobs);
                return Ok(());
            }
            if !room {
                return Err(Refusal::QueueFull);
            }
        }
    }
}
