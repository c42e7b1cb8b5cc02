//! The back end: everything that is done in the background, and the rules for what is done elsewhere.
//!
//! **Owns** the event queue, the job queues, the threads and their supervision, the quotas, pauses and
//! clears. Knows nothing of what it compiles: see [`Work`].
//!
//! **Callers guarantee** nothing. Threads that execute use [`Backend::request`], which neither waits
//! nor allocates, and [`Backend::compile_here`], which waits for no job and no queue.
//!
//! **Never** starts a thread before there is work for it, nor any if there are to be none, and never
//! lets one outlive the [`Backend`] if it comes back in time.
//!
//! ```text
//! request -> event queue -> backend thread: quota -> job queue -> compile thread -> publish
//! ```
//!
//! The event queue is lock-free. The job queues have a lock, which only the backend's own threads and
//! commands take.

mod clock;
mod commands;
mod counters;
mod job;
mod jobs;
mod phase;
mod quota;
mod sync;
#[cfg(test)]
mod tests;
mod thread;
mod ticket;
mod wake;
mod worker;

pub(crate) use clock::{Clock, thread_cpu_ns};
pub(crate) use commands::Pause;
pub use commands::{Prepared, Stopped};
pub(crate) use counters::BackendStats;
pub use job::Refusal;
pub(crate) use job::{Failure, Job, Outcome};
pub(crate) use quota::QuotaConfig;
pub(crate) use ticket::Ticket;
pub(crate) use wake::Wake;
pub(crate) use worker::STACK_BYTES;

use crate::{hooks::Tier, observe::trace};
use counters::Counts;
use crossbeam_queue::ArrayQueue;
use job::{Control, PerTier};
use jobs::{Hired, Jobs};
use phase::Asked;
use quota::Admission;
use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, Thread},
};

/// What is compiled: shared by reference count, with the back end's part embedded.
pub(crate) trait Subject: Send + Sync + 'static {
    /// The back end's part.
    fn ticket(&self) -> &Ticket;
}

/// What a back end does.
pub(crate) trait Work: Send + Sync + 'static {
    /// What is compiled.
    type Subject: Subject;
    /// What compiling makes.
    type Output;

    /// Compiles. Looks at [`Job::is_cancelled`] often. May panic.
    fn compile(&self, subject: &Arc<Self::Subject>, job: &Job) -> Result<Self::Output, Failure>;

    /// Puts in place what was compiled. A clear does not come between this and the check for one, so
    /// it is short and uses no command of the back end.
    fn publish(&self, subject: &Arc<Self::Subject>, output: Self::Output);

    /// Throws away what is not worth its place. On the backend thread, which counted `stats` so far.
    fn sweep(&self, stats: &BackendStats);

    /// Something was decided. Without a lock.
    fn note(&self, subject: &Self::Subject, tier: Tier, note: &Note);
}

/// What was decided about a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A job was queued; so many wait.
    Queued(usize),
    /// A job was dropped, or its result.
    Dropped(Refusal),
    /// It is not compiled any more.
    Quarantined(Arc<str>),
    /// A worker did not come back from it, and was given up.
    Abandoned,
}

/// The options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackendConfig {
    /// If false, everything is refused.
    pub(crate) enabled: bool,
    /// Threads that compile. With 0 there is no backend thread either.
    pub(crate) threads: usize,
    /// Threads besides these, if there are any: for promotions.
    pub(crate) more_threads: usize,
    /// The tier that code is compiled with first: only failures of that one lead to quarantine.
    pub(crate) first_tier: Tier,
    /// Events that wait; at least 1.
    pub(crate) event_queue_len: usize,
    /// Jobs that wait, for each tier; as many requests may be put off.
    pub(crate) job_queue_len: usize,
    /// Events handled in one round; at least 1.
    pub(crate) drain_max: usize,
    /// Wall-clock time of one job, in milliseconds.
    pub(crate) deadline_ms: u32,
    /// The same of the tiers above the baseline.
    pub(crate) optimise_deadline_ms: u32,
    /// After the deadline, until a worker is given up, in milliseconds.
    pub(crate) grace_ms: u32,
    /// A job that waited longer is dropped, in milliseconds.
    pub(crate) job_age_ms_max: u32,
    /// Between two sweeps, in milliseconds.
    pub(crate) sweep_interval_ms: u32,
    /// How long dropping waits for threads, in milliseconds.
    pub(crate) shutdown_ms: u32,
    /// Workers given up until nothing is compiled any more.
    pub(crate) abandoned_max: u32,
    /// Rounds without events until the backend thread parks, [`LINGER`] each. Until then it costs
    /// nothing to wake it.
    pub(crate) linger_rounds: u32,
    /// Whether a pause cancels jobs that run. They are put back.
    pub(crate) pause_cancels: bool,
    /// How often a subject may be compiled.
    pub(crate) quota: QuotaConfig,
}

impl Default for BackendConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            threads: 1,
            event_queue_len: 1024,
            job_queue_len: 256,
            drain_max: 256,
            more_threads: 0,
            first_tier: Tier::Baseline,
            deadline_ms: 1000,
            optimise_deadline_ms: 30_000,
            grace_ms: 1000,
            job_age_ms_max: 10_000,
            sweep_interval_ms: 1000,
            shutdown_ms: 2000,
            abandoned_max: 4,
            linger_rounds: 10,
            pause_cancels: true,
            quota: QuotaConfig::default(),
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// It was passed on.
    Asked,
    /// It is on its way already.
    Known,
    /// There are no threads: the caller may [compile it](Backend::compile_here).
    Here,
    /// No.
    Refused(Refusal),
}

/// A back end. Dropping it shuts it down.
pub(crate) struct Backend<W: Work>(Arc<Inner<W>>);

/// What a thread that is not its own has of a back end: it is shut down when the [`Backend`] is dropped.
pub(crate) struct Handle<W: Work>(Arc<Inner<W>>);

/// A [`Handle`] that keeps nothing alive.
pub(crate) struct WeakHandle<W: Work>(Weak<Inner<W>>);

impl<W: Work> WeakHandle<W> {
    pub(crate) fn upgrade(&self) -> Option<Handle<W>> {
        self.0.upgrade().map(Handle)
    }
}

impl<W: Work> Handle<W> {
    /// As [`Backend::compile_with`].
    ///
    /// # Errors
    /// If it fails, or not even begins.
    pub(crate) fn compile_with(
        &self,
        subject: &Arc<W::Subject>,
        tier: Tier,
        compile: impl FnOnce(&Job) -> Result<W::Output, Failure>,
    ) -> Outcome {
        self.0.refusal(tier).map_or(Ok(()), Err)?;
        self.0.compile_here(subject, tier, compile)
    }

    /// As [`Backend::is_paused`].
    pub(crate) fn is_paused(&self) -> bool {
        self.0.control.is_paused()
    }

    /// As [`Backend::compile`].
    ///
    /// # Errors
    /// If it is not on its way now.
    pub(crate) fn compile(&self, subject: &Arc<W::Subject>, tier: Tier) -> Outcome {
        self.0.command(subject, tier, None)
    }
}

/// A request on its way to the backend thread.
struct Event<S> {
    subject: Arc<S>,
    tier: Tier,
    generation: u64,
}

/// What the threads share. They keep the work alive, not the [`Backend`].
struct Inner<W: Work> {
    config: BackendConfig,
    work: Arc<W>,
    control: Arc<Control>,
    /// Held for reading from the check of the generation to the end of the publication, and for
    /// writing while the generation changes.
    gate: RwLock<()>,
    events: ArrayQueue<Event<W::Subject>>,
    wake: Wake,
    /// Somebody starts the backend thread, or did. Relaxed: only one may, no matter who.
    started: AtomicBool,
    /// The system gave no thread: callers compile themselves. Relaxed: a hint.
    threadless: AtomicBool,
    backend: OnceLock<Thread>,
    jobs: Mutex<Jobs<W::Subject>>,
    /// A job was queued, a pause ended, or all is over.
    work_ready: Condvar,
    /// A thread came to its end.
    thread_ended: Condvar,
    /// A sweep is wanted at once. Release, pairs with the acquire of the backend thread: it sees what
    /// there is to sweep.
    sweep_wanted: AtomicBool,
    /// Tiers whose compiler did not return too often. Relaxed: noticed at the next look.
    off: PerTier<AtomicBool>,
    counts: Counts,
}

impl<W: Work> Backend<W> {
    /// A back end without threads so far.
    pub(crate) fn new(config: BackendConfig, work: Arc<W>) -> Self {
        Self::with_clock(config, work, Clock::default())
    }

    /// As [`Backend::new`], with a clock of the caller's.
    pub(crate) fn with_clock(config: BackendConfig, work: Arc<W>, clock: Clock) -> Self {
        let has_threads = config.enabled && config.threads > 0;
        let events = if has_threads { config.event_queue_len.max(1) } else { 1 };
        Self(Arc::new(Inner {
            work,
            control: Arc::new(Control { clock, ..Control::default() }),
            gate: RwLock::new(()),
            events: ArrayQueue::new(events),
            wake: Wake::new(),
            started: AtomicBool::new(false),
            threadless: AtomicBool::new(!has_threads),
            backend: OnceLock::new(),
            jobs: Mutex::new(Jobs::new(config.job_queue_len.max(1))),
            work_ready: Condvar::new(),
            thread_ended: Condvar::new(),
            sweep_wanted: AtomicBool::new(false),
            off: PerTier::default(),
            counts: Counts::default(),
            config,
        }))
    }

    /// For threads of others.
    pub(crate) fn handle(&self) -> Handle<W> {
        Handle(self.0.clone())
    }

    /// The same, without keeping anything alive.
    pub(crate) fn weak(&self) -> WeakHandle<W> {
        WeakHandle(Arc::downgrade(&self.0))
    }

    /// Asks for a subject to be compiled soon. For threads that execute: one compare-and-swap if it
    /// is on its way already, and never more than a push into a queue, except that the very first
    /// request starts a thread.
    pub(crate) fn request(&self, subject: &Arc<W::Subject>, tier: Tier) -> Requested {
        self.0.request(subject, tier)
    }

    /// Compiles a subject on the calling thread with `compile`, whenever that was done before.
    ///
    /// # Errors
    /// If it fails, or not even begins.
    pub(crate) fn compile_with(
        &self,
        subject: &Arc<W::Subject>,
        tier: Tier,
        compile: impl FnOnce(&Job) -> Result<W::Output, Failure>,
    ) -> Outcome {
        self.0.refusal(tier).map_or(Ok(()), Err)?;
        self.0.compile_here(subject, tier, compile)
    }

    /// Compiles a subject on the calling thread, under the rules that hold for all jobs.
    ///
    /// # Errors
    /// If it fails, or not even begins.
    pub(crate) fn compile_here(&self, subject: &Arc<W::Subject>, tier: Tier) -> Outcome {
        let inner = &self.0;
        inner.refusal(tier).map_or(Ok(()), Err)?;
        let now_ms = inner.control.clock.now_ms();
        if let Admission::At(_) = subject.ticket().quota().admit(now_ms) {
            if !inner.is_threadless() {
                // The backend thread keeps it until it may be compiled, and until then nobody asks.
                inner.request(subject, tier);
            }
            return Err(Refusal::TooSoon);
        }
        inner.compile_here(subject, tier, |job| inner.work.compile(subject, job))
    }

    /// What was counted.
    pub(crate) fn stats(&self) -> BackendStats {
        self.0.stats()
    }

    /// Wants a sweep now. False if there is no thread to do it.
    pub(crate) fn sweep_soon(&self) -> bool {
        let inner = &self.0;
        if inner.control.is_shut_down() || inner.is_threadless() {
            return false;
        }
        // Release, pairs with the backend thread's acquire.
        if !inner.sweep_wanted.swap(true, Ordering::AcqRel) {
            Inner::start(inner);
            inner.poke();
        }
        true
    }
}

impl<W: Work> Inner<W> {
    fn jobs(&self) -> MutexGuard<'_, Jobs<W::Subject>> {
        // What panics under the lock is a defect; the queues are still in order.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the lock, and tells what happened under it.
    fn unlock(&self, mut jobs: MutexGuard<'_, Jobs<W::Subject>>) {
        let notes = std::mem::take(&mut jobs.notes);
        drop(jobs);
        for (subject, tier, note) in notes {
            self.work.note(&subject, tier, &note);
        }
    }

    fn stats(&self) -> BackendStats {
        let jobs = self.jobs();
        BackendStats {
            events_waiting: self.events.len() as u64,
            jobs_waiting: jobs.waiting() as u64,
            jobs_running: jobs.running() as u64,
            ..self.counts.load()
        }
    }

    fn is_threadless(&self) -> bool {
        self.threadless.load(Ordering::Relaxed)
    }

    fn is_off(&self, tier: Tier) -> bool {
        !self.config.enabled || self.off.of(tier).load(Ordering::Relaxed)
    }

    /// Why nothing is compiled at the moment.
    fn refusal(&self, tier: Tier) -> Option<Refusal> {
        if self.is_off(tier) {
            Some(Refusal::Off)
        } else if self.control.is_shut_down() {
            Some(Refusal::ShutDown)
        } else if self.control.is_paused() {
            Some(Refusal::Paused)
        } else {
            None
        }
    }

    fn request(self: &Arc<Self>, subject: &Arc<W::Subject>, tier: Tier) -> Requested {
        if let Some(refusal) = self.refusal(tier) {
            return Requested::Refused(refusal);
        }
        if self.is_threadless() {
            return Requested::Here;
        }
        let phase = &subject.ticket().phase;
        match phase.ask() {
            Asked::Known => {
                self.counts.jobs_deduped.add(1);
                return Requested::Known;
            }
            Asked::Barred => {
                self.counts.jobs_refused.add(1);
                return Requested::Refused(self.quarantine(subject));
            }
            Asked::New => subject.ticket().want(tier),
        }
        let generation = self.control.generation();
        if self.events.push(Event { subject: subject.clone(), tier, generation }).is_err() {
            phase.give_up();
            self.counts.events_dropped.add(1);
            return Requested::Refused(Refusal::QueueFull);
        }
        self.counts.events_accepted.add(1);
        Self::start(self);
        if self.wake.is_due() {
            self.poke();
        }
        Requested::Asked
    }

    /// The refusal for a subject that is barred.
    fn quarantine(&self, subject: &Arc<W::Subject>) -> Refusal {
        // The reason was kept before the phase became barred.
        let reason = subject.ticket().quarantined().cloned();
        Refusal::Quarantined(reason.unwrap_or_else(|| "".into()))
    }

    /// Wakes the backend thread, if there is one.
    fn poke(&self) {
        if let Some(thread) = self.backend.get() {
            thread.unpark();
        }
    }

    /// Starts the backend thread, the first time. It starts the others.
    #[inline]
    fn start(self: &Arc<Self>) {
        if !self.started.load(Ordering::Relaxed) {
            self.start_now();
        }
    }

    #[cold]
    fn start_now(self: &Arc<Self>) {
        if self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut jobs = self.jobs();
        if self.control.is_shut_down() {
            return;
        }
        let inner = self.clone();
        let thread = Builder::new().name("kiln-backend".into());
        match thread.spawn(move || thread::serve(&inner)) {
            Ok(handle) => jobs.backend = Some(Hired { handle, ended: false }),
            Err(error) => {
                self.counts.threads_refused.add(1);
                self.threadless.store(true, Ordering::Relaxed);
                self.forget_events();
                drop(jobs);
                trace::thread_failed("kiln-backend", &error);
            }
        }
    }

    /// Gives up all requests that nobody has looked at.
    fn forget_events(&self) {
        while let Some(Event { subject, tier, .. }) = self.events.pop() {
            let was_asked = subject.ticket().phase.give_up();
            if was_asked && self.control.is_shut_down() {
                self.work.note(&subject, tier, &Note::Dropped(Refusal::ShutDown));
            }
        }
    }
}
