//! Compile threads, and what happens to a job from its beginning to its end, on any thread.
//!
//! **Owns** the order: compile, claim, publish, note, finish. **Never** lets a panic of the compiler
//! out, and never holds the lock while it compiles or publishes.

use super::{
    Inner, Note, Subject, Work,
    clock::thread_cpu_ns,
    job::{Cancelled, Failure, Job, Outcome, Refusal},
    jobs::{Queued, Running},
    quota::Attempt,
};
use crate::{
    hooks::{CompileThread, Tier},
    observe::trace,
};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
};

/// Compilers recurse: they get more than the 2 MiB that threads get otherwise.
pub(crate) const STACK_BYTES: usize = 16 << 20;

/// How a job ended.
#[derive(Debug)]
enum Ended {
    Compiled,
    Failed(Attempt, Arc<str>),
    Panicked(Arc<str>),
    Cancelled(Cancelled),
}

/// A compile thread's life.
pub(super) fn work<W: Work>(inner: &Arc<Inner<W>>, id: u64) {
    let _ending = Ending { inner, id };
    trace::thread_started(std::thread::current().name().unwrap_or_default());
    let mut cpu_ns = thread_cpu_ns();
    while let Some(running) = inner.next(id) {
        let (subject, job) = (&running.subject, &running.job);
        let compile = |job: &Job| inner.work.compile(subject, job);
        let ended = inner.perform(subject, job, compile, || running.claim());
        let now_ns = thread_cpu_ns();
        inner.counts.compile_thread_cpu_ns.add(now_ns.saturating_sub(cpu_ns));
        cpu_ns = now_ns;
        match ended {
            Some(ended) => inner.settle(subject, job, ended),
            // Given up: another one is in this one's place.
            None => return,
        }
    }
}

/// Says that a worker is at its end, however it got there.
struct Ending<'a, W: Work> {
    inner: &'a Inner<W>,
    id: u64,
}

impl<W: Work> Drop for Ending<'_, W> {
    fn drop(&mut self) {
        if let Some(worker) = self.inner.jobs().worker(self.id) {
            worker.thread.ended = true;
            worker.running = None;
        }
        self.inner.thread_ended.notify_all();
    }
}

impl<W: Work> Inner<W> {
    /// Waits for a worker's next job. None if there is to be none.
    fn next(&self, id: u64) -> Option<Arc<Running<W::Subject>>> {
        let mut jobs = self.jobs();
        loop {
            jobs.worker(id)?.running = None;
            if self.control.is_shut_down() {
                return None;
            }
            while !self.control.is_paused() {
                let Some((tier, queued)) = jobs.pop(&self.config) else { break };
                if let Some(refusal) = self.outdated(tier, &queued) {
                    self.drop_job(&mut jobs, tier, &queued, refusal);
                } else if queued.subject.ticket().phase.begin() {
                    let job = self.job(tier, CompileThread::Background, queued.generation);
                    let running = Arc::new(Running::new(queued.subject, job));
                    jobs.worker(id)?.running = Some(running.clone());
                    self.unlock(jobs);
                    return Some(running);
                }
            }
            if !jobs.notes.is_empty() {
                self.unlock(jobs);
                jobs = self.jobs();
                continue;
            }
            jobs = self.work_ready.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn job(&self, tier: Tier, thread: CompileThread, generation: u64) -> Job {
        let allowed_ms = match tier {
            Tier::Baseline => self.config.deadline_ms,
            Tier::Optimised | Tier::Tier1 => self.config.optimise_deadline_ms,
        };
        let deadline_ms = self.control.clock.now_ms() + u64::from(allowed_ms);
        let pausable = self.config.pause_cancels;
        Job::new(tier, thread, deadline_ms, generation, pausable, &self.control)
    }

    /// Compiles on this thread.
    pub(super) fn compile_here(
        self: &Arc<Self>,
        subject: &Arc<W::Subject>,
        tier: Tier,
        compile: impl FnOnce(&Job) -> Result<W::Output, Failure>,
    ) -> Outcome {
        let phase = &subject.ticket().phase;
        let generation = self.control.generation();
        if !phase.begin_here() {
            let barred = phase.is_barred();
            return Err(if barred { self.quarantine(subject) } else { Refusal::Busy });
        }
        let job = self.job(tier, CompileThread::Calling, generation);
        match self.perform(subject, &job, compile, || true) {
            Some(ended) => {
                let outcome = ended.outcome();
                self.settle(subject, &job, ended);
                outcome
            }
            None => unreachable!("nobody gives up the caller"),
        }
    }

    /// Compiles and publishes. None if `claim` says that it is nobody's business any more.
    fn perform(
        &self,
        subject: &Arc<W::Subject>,
        job: &Job,
        compile: impl FnOnce(&Job) -> Result<W::Output, Failure>,
        claim: impl FnOnce() -> bool,
    ) -> Option<Ended> {
        // A compiler that panicked is used again: it keeps nothing from one job to the next.
        let result = catch_unwind(AssertUnwindSafe(|| compile(job)));
        claim().then(|| match result {
            Ok(Ok(output)) => self.publish(subject, job, output),
            Ok(Err(Failure::Failed(why))) => Ended::Failed(Attempt::Failed, why),
            Ok(Err(Failure::Panicked(why))) => Ended::Panicked(why),
            Ok(Err(Failure::Unused(why))) => Ended::Failed(Attempt::Unused, why),
            Ok(Err(Failure::Hopeless(why))) => Ended::Failed(Attempt::Hopeless, why),
            Ok(Err(Failure::Wrong(why))) => Ended::Failed(Attempt::Wrong, why),
            Ok(Err(Failure::Cancelled)) => match job.cancellation() {
                Some(Cancelled::Deadline) => {
                    self.counts.jobs_cancelled.add(1);
                    Ended::Failed(Attempt::Failed, "over its deadline".into())
                }
                Some(cause) => Ended::Cancelled(cause),
                None => Ended::Failed(Attempt::Failed, "stopped without being told to".into()),
            },
            Err(panic) => Ended::Panicked(reason(panic)),
        })
    }

    fn publish(&self, subject: &Arc<W::Subject>, job: &Job, output: W::Output) -> Ended {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.control.generation() != job.generation {
            return Ended::Cancelled(Cancelled::Cleared);
        }
        if self.control.is_shut_down() {
            return Ended::Cancelled(Cancelled::ShutDown);
        }
        let publish = || self.work.publish(subject, output);
        match catch_unwind(AssertUnwindSafe(publish)) {
            Ok(()) => Ended::Compiled,
            Err(panic) => Ended::Panicked(reason(panic)),
        }
    }

    /// Notes how a job ended, and lets go of its subject.
    fn settle(self: &Arc<Self>, subject: &Arc<W::Subject>, job: &Job, ended: Ended) {
        self.count(&ended);
        if matches!(ended, Ended::Cancelled(Cancelled::Paused)) && job.is_background() {
            return self.put_back(subject, job);
        }
        let outcome = ended.outcome();
        let ticket = subject.ticket();
        let now_ms = self.control.clock.now_ms();
        let attempt = match ended.attempt() {
            // Without it the code keeps its program; the policy knows when to try again.
            Attempt::Failed | Attempt::Unused | Attempt::Hopeless if self.promotes(job) => {
                Attempt::Cancelled
            }
            attempt => attempt,
        };
        let (quota, quarantine) = ticket.quota().after(attempt, &self.config.quota, now_ms);
        ticket.note(quota);
        if let (true, Err(refusal)) = (quarantine, &outcome) {
            ticket.quarantine(refusal.to_string().into());
            self.counts.quarantined.add(1);
        }
        let meanwhile = ticket.phase.finish(quarantine);
        if meanwhile.waited {
            self.jobs().tell(subject, &outcome);
        }
        match outcome {
            Err(why) if matches!(ended, Ended::Cancelled(_)) => {
                self.work.note(subject, job.tier(), &Note::Dropped(why));
            }
            Err(why) if quarantine => {
                let note = Note::Quarantined(why.to_string().into());
                self.work.note(subject, job.tier(), &note);
            }
            _ => {}
        }
        if meanwhile.again {
            self.request(subject, job.tier());
        }
    }

    /// Whether a job is for a better tier than the one that code is compiled with first.
    fn promotes(&self, job: &Job) -> bool {
        job.tier() > self.config.first_tier
    }

    /// A pause came: the job waits for its end, in front of the others.
    fn put_back(&self, subject: &Arc<W::Subject>, job: &Job) {
        let mut jobs = self.jobs();
        subject.ticket().phase.requeue();
        let queued = Queued {
            subject: subject.clone(),
            generation: job.generation,
            since_ms: self.control.clock.now_ms(),
            commanded: true,
        };
        if self.control.is_shut_down() {
            self.drop_job(&mut jobs, job.tier(), &queued, Refusal::ShutDown);
        } else {
            jobs.push(job.tier(), queued);
            // The pause may be over already.
            self.work_ready.notify_one();
        }
        self.unlock(jobs);
    }

    fn count(&self, ended: &Ended) {
        let counts = &self.counts;
        match ended {
            Ended::Compiled => counts.jobs_compiled.add(1),
            Ended::Failed(..) => counts.jobs_failed.add(1),
            Ended::Panicked(_) => {
                counts.jobs_failed.add(1);
                counts.jobs_panicked.add(1);
            }
            Ended::Cancelled(cause) => {
                counts.jobs_cancelled.add(1);
                counts.jobs_stale.add((*cause == Cancelled::Cleared) as u64);
            }
        }
    }
}

impl Ended {
    fn attempt(&self) -> Attempt {
        match self {
            Self::Compiled => Attempt::Compiled,
            Self::Failed(attempt, _) => *attempt,
            Self::Panicked(_) => Attempt::Failed,
            Self::Cancelled(_) => Attempt::Cancelled,
        }
    }

    fn outcome(&self) -> Outcome {
        Err(match self {
            Self::Compiled => return Ok(()),
            Self::Failed(_, why) | Self::Panicked(why) => Refusal::Failed(why.clone()),
            Self::Cancelled(Cancelled::Paused) => Refusal::Paused,
            Self::Cancelled(Cancelled::Cleared) => Refusal::Cleared,
            Self::Cancelled(Cancelled::ShutDown) => Refusal::ShutDown,
            Self::Cancelled(Cancelled::Deadline) => Refusal::TimedOut,
        })
    }
}

/// What a panic said.
pub(super) fn reason(panic: Box<dyn Any + Send>) -> Arc<str> {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let reason =
        format!("the compiler panicked: {}", text.unwrap_or("for no stated reason")).into();
    // What was thrown may throw again when it is dropped.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(panic))).map_err(std::mem::forget);
    reason
}
