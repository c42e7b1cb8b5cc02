//! The jobs that wait, those that run, and who waits for them: what the back end's lock protects.
//!
//! **Owns** the bounds of the queues. **Callers guarantee** that subjects in a queue are in the phase
//! *queued*, put-off ones *asked*. **Never** runs a job, and is never seen by a thread that executes.

use super::{
    BackendConfig, Note,
    job::{Job, Outcome, PerTier, TIERS},
};
use crate::hooks::Tier;
use std::{
    cmp::{Ordering as Order, Reverse},
    collections::{BinaryHeap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::SyncSender,
    },
    thread::JoinHandle,
};

/// A job that waits.
#[derive(Debug)]
pub(super) struct Queued<S> {
    pub(super) subject: Arc<S>,
    pub(super) generation: u64,
    pub(super) since_ms: u64,
    /// Somebody asked by name: it does not age.
    pub(super) commanded: bool,
}

/// A request whose time has not come.
#[derive(Debug)]
pub(super) struct PutOff<S> {
    pub(super) due_ms: u64,
    pub(super) subject: Arc<S>,
    pub(super) tier: Tier,
    pub(super) generation: u64,
}

impl<S> PartialEq for PutOff<S> {
    fn eq(&self, other: &Self) -> bool {
        self.due_ms == other.due_ms
    }
}

impl<S> Eq for PutOff<S> {}

impl<S> PartialOrd for PutOff<S> {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl<S> Ord for PutOff<S> {
    fn cmp(&self, other: &Self) -> Order {
        self.due_ms.cmp(&other.due_ms)
    }
}

/// A job on a compile thread.
#[derive(Debug)]
pub(super) struct Running<S> {
    pub(super) subject: Arc<S>,
    pub(super) job: Job,
    owner: AtomicU8,
}

const WORKER: u8 = 0;
const DONE: u8 = 1;
const ABANDONED: u8 = 2;

impl<S> Running<S> {
    pub(super) fn new(subject: Arc<S>, job: Job) -> Self {
        Self { subject, job, owner: AtomicU8::new(WORKER) }
    }

    /// The worker came back. False if it was given up before: then it touches nothing any more.
    pub(super) fn claim(&self) -> bool {
        // Acquire and release: of the two that take it, the second sees that it was taken.
        self.owner.compare_exchange(WORKER, DONE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The worker is given up. False if it came back before.
    pub(super) fn abandon(&self) -> bool {
        self.owner.compare_exchange(WORKER, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A compile thread.
#[derive(Debug)]
pub(super) struct Worker<S> {
    pub(super) id: u64,
    pub(super) running: Option<Arc<Running<S>>>,
    pub(super) thread: Hired,
}

/// A thread that was started.
#[derive(Debug)]
pub(super) struct Hired {
    pub(super) handle: JoinHandle<()>,
    /// It said that it comes to its end.
    pub(super) ended: bool,
}

impl Hired {
    pub(super) fn is_here(&self) -> bool {
        self.handle.thread().id() == std::thread::current().id()
    }
}

/// Somebody who waits for a subject.
#[derive(Debug)]
struct Waiter<S> {
    subject: Arc<S>,
    who: u64,
    /// Has room for every outcome it may get.
    tell: SyncSender<Outcome>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Jobs<S> {
    len_max: usize,
    queues: PerTier<VecDeque<Queued<S>>>,
    put_off: BinaryHeap<Reverse<PutOff<S>>>,
    waiters: Vec<Waiter<S>>,
    waiters_made: u64,
    /// What is to be told once the lock is free.
    pub(super) notes: Vec<(Arc<S>, Tier, Note)>,
    pub(super) workers: Vec<Worker<S>>,
    pub(super) workers_made: u64,
    pub(super) backend: Option<Hired>,
    /// Workers given up so far.
    pub(super) abandoned: u32,
}

impl<S> Jobs<S> {
    pub(super) fn new(len_max: usize) -> Self {
        Self {
            len_max,
            queues: PerTier::default(),
            put_off: BinaryHeap::new(),
            waiters: Vec::new(),
            waiters_made: 0,
            notes: Vec::new(),
            workers: Vec::new(),
            workers_made: 0,
            backend: None,
            abandoned: 0,
        }
    }

    pub(super) fn has_room(&self, tier: Tier) -> bool {
        self.queues.of(tier).len() < self.len_max
    }

    /// Behind all others, or in front of them if somebody asked by name.
    pub(super) fn push(&mut self, tier: Tier, queued: Queued<S>) {
        let queue = self.queues.of_mut(tier);
        if queued.commanded {
            queue.push_front(queued);
        } else {
            queue.push_back(queued);
        }
    }

    /// The next one. Promotions have threads of their own, if there are some: they take far longer than what
    /// others wait for.
    pub(super) fn pop(&mut self, config: &BackendConfig) -> Option<(Tier, Queued<S>)> {
        let promotes = |tier: Tier| tier > config.first_tier;
        let running = self.workers.iter().filter_map(|worker| worker.running.as_ref());
        let promotions = running.clone().filter(|running| promotes(running.job.tier())).count();
        let others = running.count() - promotions;
        let may = |tier: Tier| match (promotes(tier), config.more_threads) {
            (_, 0) => true,
            (true, more) => promotions < more,
            (false, _) => others < config.threads,
        };
        let mut tiers = TIERS.into_iter().filter(|&tier| may(tier));
        tiers.find_map(|tier| Some((tier, self.queues.of_mut(tier).pop_front()?)))
    }

    /// Puts one that waits in front of all others: somebody asked for it by name.
    pub(super) fn advance(&mut self, tier: Tier, subject: &Arc<S>) {
        let queue = self.queues.of_mut(tier);
        let place = queue.iter().position(|queued| Arc::ptr_eq(&queued.subject, subject));
        if let Some(mut queued) = place.and_then(|place| queue.remove(place)) {
            queued.commanded = true;
            queue.push_front(queued);
        }
    }

    /// Takes out what is to be dropped.
    pub(super) fn take_if(
        &mut self,
        drop: impl Fn(Tier, &Queued<S>) -> bool,
    ) -> Vec<(Tier, Queued<S>)> {
        let mut taken = Vec::new();
        for tier in TIERS {
            let queue = self.queues.of_mut(tier);
            if queue.iter().any(|queued| drop(tier, queued)) {
                let (out, keep): (VecDeque<_>, VecDeque<_>) =
                    queue.drain(..).partition(|queued| drop(tier, queued));
                *queue = keep;
                taken.extend(out.into_iter().map(|queued| (tier, queued)));
            }
        }
        taken
    }

    /// What waits begins to wait now.
    pub(super) fn renew(&mut self, now_ms: u64) {
        for queued in self.queues.iter_mut().flatten() {
            queued.since_ms = now_ms;
        }
    }

    /// When the one that waits longest began to, those asked for by name not among them.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        // Behind those asked for by name they are in order.
        let oldest = |queue: &VecDeque<Queued<S>>| {
            queue.iter().find(|queued| !queued.commanded).map(|queued| queued.since_ms)
        };
        self.queues.iter().filter_map(oldest).min()
    }

    /// Puts a request off. Gives it back if too many are.
    pub(super) fn put_off(&mut self, put_off: PutOff<S>) -> Result<(), PutOff<S>> {
        if self.put_off.len() >= self.len_max {
            return Err(put_off);
        }
        self.put_off.push(Reverse(put_off));
        Ok(())
    }

    /// A request whose time has come.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<PutOff<S>> {
        let due = self.put_off.peek().is_some_and(|Reverse(first)| first.due_ms <= now_ms);
        if due { self.put_off.pop().map(|Reverse(first)| first) } else { None }
    }

    /// When the next one comes.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.put_off.peek().map(|Reverse(first)| first.due_ms)
    }

    /// Takes out all that was put off before a clear.
    pub(super) fn take_put_off(&mut self, generation: u64) -> Vec<PutOff<S>> {
        let all = std::mem::take(&mut self.put_off);
        let (keep, out) =
            all.into_iter().partition(|Reverse(put_off)| put_off.generation >= generation);
        self.put_off = keep;
        let out: BinaryHeap<_> = out;
        out.into_iter().map(|Reverse(put_off)| put_off).collect()
    }

    pub(super) fn waiting(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum::<usize>() + self.put_off.len()
    }

    pub(super) fn running(&self) -> usize {
        self.workers.iter().filter(|worker| worker.running.is_some()).count()
    }

    /// Threads that have not come to their end, those given up and this one not among them.
    pub(super) fn others_alive(&self) -> usize {
        let alive = |thread: &&Hired| !thread.ended && !thread.is_here();
        let workers = self.workers.iter().map(|worker| &worker.thread);
        workers.chain(&self.backend).filter(alive).count()
    }

    pub(super) fn worker(&mut self, id: u64) -> Option<&mut Worker<S>> {
        self.workers.iter_mut().find(|worker| worker.id == id)
    }

    /// A number for somebody who is going to wait.
    pub(super) fn new_waiter(&mut self) -> u64 {
        self.waiters_made += 1;
        self.waiters_made
    }

    /// Somebody waits for a subject.
    pub(super) fn add_waiter(&mut self, subject: &Arc<S>, who: u64, tell: &SyncSender<Outcome>) {
        self.waiters.push(Waiter { subject: subject.clone(), who, tell: tell.clone() });
    }

    /// Somebody waits no more.
    pub(super) fn remove_waiter(&mut self, who: u64) {
        self.waiters.retain(|waiter| waiter.who != who);
    }

    /// Tells everybody who waits for a subject.
    pub(super) fn tell(&mut self, subject: &Arc<S>, outcome: &Outcome) {
        self.waiters.retain(|waiter| {
            let waits = Arc::ptr_eq(&waiter.subject, subject);
            if waits {
                // Who is gone does not want to know.
                let _ = waiter.tell.try_send(outcome.clone());
            }
            !waits
        });
    }

    /// Tells everybody who waits at all.
    pub(super) fn tell_all(&mut self, outcome: &Outcome) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.tell.try_send(outcome.clone());
        }
    }
}
