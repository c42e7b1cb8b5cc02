//! The backend thread: events become jobs, workers are watched, sweeps happen.
//!
//! **Owns** the order of its duties and when it sleeps. **Never** compiles.

use super::{
    Event, Inner, Note, Subject, Work,
    clock::thread_cpu_ns,
    job::Refusal,
    jobs::{Hired, Jobs, PutOff, Queued, Worker},
    quota::Admission,
    worker,
};
use crate::{hooks::Tier, observe::trace};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread::{Builder, current, park_timeout},
    time::Duration,
};

/// A nap between two looks at the event queue, while events are likely.
const LINGER: Duration = Duration::from_millis(2);

/// The backend thread's life.
pub(super) fn serve<W: Work>(inner: &Arc<Inner<W>>) {
    let _ending = Ending(inner);
    let _ = inner.backend.set(current());
    trace::thread_started("kiln-backend");
    inner.hire();
    let clock = &inner.control.clock;
    let interval_ms = inner.config.sweep_interval_ms as u64;
    let (mut cpu_ns, mut quiet, mut dropped) = (thread_cpu_ns(), 0, 0);
    let mut sweep_ms = clock.now_ms() + interval_ms;
    while !inner.control.is_shut_down() {
        let drained = inner.drain();
        let due_ms = inner.supervise();
        // Acquire, pairs with `sweep_soon`.
        let wanted = inner.sweep_wanted.swap(false, Ordering::AcqRel);
        if wanted || clock.now_ms() >= sweep_ms {
            inner.sweep();
            sweep_ms = clock.now_ms() + interval_ms;
        }
        let dropped_before = std::mem::replace(&mut dropped, inner.counts.events_dropped.get());
        if dropped > dropped_before {
            trace::events_dropped(dropped - dropped_before);
        }
        let now_ns = thread_cpu_ns();
        inner.counts.backend_thread_cpu_ns.add(now_ns.saturating_sub(cpu_ns));
        cpu_ns = now_ns;
        quiet = if drained == 0 { quiet + 1 } else { 0 };
        if drained < inner.config.drain_max {
            inner.sleep(quiet, due_ms.min(sweep_ms));
        }
    }
}

/// Says that the thread is at its end, however it got there.
struct Ending<'a, W: Work>(&'a Inner<W>);

impl<W: Work> Drop for Ending<'_, W> {
    fn drop(&mut self) {
        if let Some(thread) = &mut self.0.jobs().backend {
            thread.ended = true;
        }
        self.0.thread_ended.notify_all();
    }
}

impl<W: Work> Inner<W> {
    /// Sleeps until there may be something to do, at most until `due_ms`.
    fn sleep(&self, quiet: u32, due_ms: u64) {
        if quiet < self.config.linger_rounds {
            return park_timeout(LINGER);
        }
        if self.wake.may_park(|| self.events.is_empty()) {
            let config = &self.config;
            // A job may begin meanwhile, so that it is due earlier than was known.
            let longest = (config.deadline_ms as u64 + config.grace_ms as u64).max(1);
            let wait_ms = due_ms.saturating_sub(self.control.clock.now_ms()).min(longest);
            park_timeout(Duration::from_millis(wait_ms));
            self.wake.woke();
        }
    }

    /// Starts workers until there are enough.
    fn hire(self: &Arc<Self>) {
        let mut jobs = self.jobs();
        let mut result = Ok(());
        while jobs.workers.len() < self.config.threads + self.config.more_threads
            && !self.control.is_shut_down()
            && result.is_ok()
        {
            result = self.hire_one(&mut jobs);
        }
        if jobs.workers.is_empty() {
            self.threadless.store(true, Ordering::Relaxed);
        }
        drop(jobs);
        if let Err(error) = result {
            trace::thread_failed("kiln-compile", &error);
        }
    }

    fn hire_one(self: &Arc<Self>, jobs: &mut Jobs<W::Subject>) -> std::io::Result<()> {
        let id = jobs.workers_made;
        jobs.workers_made += 1;
        let inner = self.clone();
        let thread =
            Builder::new().name(format!("kiln-compile-{id}")).stack_size(worker::STACK_BYTES);
        let handle = thread
            .spawn(move || worker::work(&inner, id))
            .inspect_err(|_| self.counts.threads_refused.add(1))?;
        let thread = Hired { handle, ended: false };
        jobs.workers.push(Worker { id, running: None, thread });
        Ok(())
    }

    /// Handles events, at most so many as a round may have. Answers how many.
    fn drain(&self) -> usize {
        let max = self.config.drain_max.max(1);
        (0..max).map_while(|_| self.events.pop()).map(|event| self.admit(event)).count()
    }

    /// Makes a job of an event, if its subject's quota allows it.
    fn admit(&self, event: Event<W::Subject>) {
        let Event { subject, tier, generation } = event;
        if generation != self.control.generation() || self.is_off(tier) {
            subject.ticket().phase.give_up();
            return self.counts.jobs_stale.add(1);
        }
        let now_ms = self.control.clock.now_ms();
        let mut jobs = self.jobs();
        match subject.ticket().quota().admit(now_ms) {
            Admission::Now => self.queue_asked(&mut jobs, subject, tier, generation, now_ms),
            Admission::At(due_ms) => {
                if let Err(refused) = jobs.put_off(PutOff { due_ms, subject, tier, generation }) {
                    self.refuse(&mut jobs, refused.subject, tier);
                }
            }
        }
        self.unlock(jobs);
    }

    fn queue_asked(
        &self,
        jobs: &mut Jobs<W::Subject>,
        subject: Arc<W::Subject>,
        tier: Tier,
        generation: u64,
        now_ms: u64,
    ) {
        if !jobs.has_room(tier) {
            self.refuse(jobs, subject, tier);
        } else if subject.ticket().phase.queue_asked() {
            let note = Note::Queued(jobs.waiting() + 1);
            jobs.notes.push((subject.clone(), tier, note));
            jobs.push(tier, Queued { subject, generation, since_ms: now_ms, commanded: false });
            self.counts.jobs_queued.add(1);
            self.work_ready.notify_one();
        } else {
            // A command was faster.
            self.counts.jobs_deduped.add(1);
        }
    }

    /// There is no room for a request.
    fn refuse(&self, jobs: &mut Jobs<W::Subject>, subject: Arc<W::Subject>, tier: Tier) {
        subject.ticket().phase.give_up();
        self.counts.jobs_dropped.add(1);
        jobs.notes.push((subject, tier, Note::Dropped(Refusal::QueueFull)));
    }

    /// Looks after what waits and what runs. Answers when it has to again.
    fn supervise(self: &Arc<Self>) -> u64 {
        let now_ms = self.control.clock.now_ms();
        let mut jobs = self.jobs();
        while let Some(due) = jobs.pop_due(now_ms) {
            self.queue_asked(&mut jobs, due.subject, due.tier, due.generation, now_ms);
        }
        let age_ms = self.config.job_age_ms_max as u64 + 1;
        let is_paused = self.control.is_paused();
        if !is_paused && jobs.oldest_ms().is_some_and(|since_ms| now_ms >= since_ms + age_ms) {
            for (tier, queued) in jobs.take_if(|tier, queued| self.outdated(tier, queued).is_some())
            {
                self.drop_job(&mut jobs, tier, &queued, Refusal::TimedOut);
            }
        }
        self.give_up_workers(&mut jobs, now_ms);
        let aged_ms = jobs.oldest_ms().filter(|_| !is_paused).map(|since_ms| since_ms + age_ms);
        let late_ms = jobs.workers.iter().filter_map(|worker| worker.running.as_ref());
        let late_ms = late_ms.map(|running| self.late_ms(running.job.deadline_ms) + 1).min();
        let due_ms = [jobs.due_ms(), aged_ms, late_ms].into_iter().flatten().min();
        self.unlock(jobs);
        due_ms.unwrap_or(u64::MAX)
    }

    fn late_ms(&self, deadline_ms: u64) -> u64 {
        deadline_ms + self.config.grace_ms as u64
    }

    /// Replaces workers that did not come back.
    fn give_up_workers(self: &Arc<Self>, jobs: &mut Jobs<W::Subject>, now_ms: u64) {
        let mut index = 0;
        while let Some(worker) = jobs.workers.get(index) {
            let late = worker.running.as_ref().filter(|running| {
                now_ms > self.late_ms(running.job.deadline_ms) && running.abandon()
            });
            let Some(running) = late.cloned() else {
                index += 1;
                continue;
            };
            // Its thread is on its own from here on.
            drop(jobs.workers.remove(index));
            jobs.abandoned += 1;
            self.counts.workers_abandoned.add(1);
            self.counts.quarantined.add(1);
            let ticket = running.subject.ticket();
            let reason: Arc<str> = "the compiler did not return".into();
            ticket.quarantine(reason.clone());
            if ticket.phase.finish(true).waited {
                jobs.tell(&running.subject, &Err(Refusal::Quarantined(reason)));
            }
            let tier = running.job.tier();
            jobs.notes.push((running.subject.clone(), tier, Note::Abandoned));
            if jobs.abandoned >= self.config.abandoned_max {
                self.switch_off(jobs, tier);
            } else {
                // Without another thread there is one less; that is counted.
                let _ = self.hire_one(jobs);
            }
        }
    }

    /// A tier's compiler did not return too often.
    fn switch_off(&self, jobs: &mut Jobs<W::Subject>, tier: Tier) {
        self.off.of(tier).store(true, Ordering::Relaxed);
        for (tier, queued) in jobs.take_if(|of, _| of == tier) {
            self.drop_job(jobs, tier, &queued, Refusal::Off);
        }
    }

    /// Why a job that waits is dropped, if it is.
    pub(super) fn outdated(&self, tier: Tier, queued: &Queued<W::Subject>) -> Option<Refusal> {
        let age_ms = self.control.clock.now_ms().saturating_sub(queued.since_ms);
        if queued.generation != self.control.generation() {
            Some(Refusal::Cleared)
        } else if self.is_off(tier) {
            Some(Refusal::Off)
        } else if age_ms > self.config.job_age_ms_max as u64
            && !queued.commanded
            && !self.control.is_paused()
        {
            Some(Refusal::TimedOut)
        } else {
            None
        }
    }

    /// Lets go of a job that waited. Its subject may ask again.
    pub(super) fn drop_job(
        &self,
        jobs: &mut Jobs<W::Subject>,
        tier: Tier,
        queued: &Queued<W::Subject>,
        refusal: Refusal,
    ) {
        match refusal {
            Refusal::Cleared => self.counts.jobs_stale.add(1),
            Refusal::TimedOut => self.counts.jobs_aged.add(1),
            _ => self.counts.jobs_dropped.add(1),
        }
        if queued.subject.ticket().phase.drop_queued() {
            jobs.tell(&queued.subject, &Err(refusal.clone()));
        }
        jobs.notes.push((queued.subject.clone(), tier, Note::Dropped(refusal)));
    }

    fn sweep(&self) {
        if self.control.is_paused() {
            return;
        }
        self.counts.sweeps.add(1);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work.sweep(&self.stats()))) {
            let reason = worker::reason(panic);
            tracing::error!(target: "kiln", %reason, "a sweep panicked");
            self.counts.sweeps_panicked.add(1);
        }
    }
}
