//! What is asked of the store's thread, and that thread's beginning and end.
//!
//! **Owns** the queue of programs that wait for being saved, and who waits for what. **Callers guarantee** that
//! [`Desk::employ`] is called once, before anything else. **Never** starts a thread before there is something to do, and
//! has whoever asks wait only as long as they say.

use crate::{backend::Wake, observe::trace, slot::Slot};
use crossbeam_queue::ArrayQueue;
use std::{
    fmt, io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

/// Starts the thread; none if there is no engine any more.
pub(crate) type Start = dyn Fn() -> Option<io::Result<JoinHandle<()>>> + Send + Sync;

/// The desk.
pub(crate) struct Desk {
    waits: ArrayQueue<Arc<Slot>>,
    /// One found no room. Release, pairs with the acquire of who looks for it then: it finds its program.
    overflowed: AtomicBool,
    wake: Wake,
    start: OnceLock<Box<Start>>,
    /// Somebody starts the thread, or did. Relaxed: only one may, no matter who.
    started: AtomicBool,
    thread: OnceLock<Thread>,
    orders: Mutex<Orders>,
    /// Something was done that somebody may wait for.
    done: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    /// Flushes asked for, and done.
    flushes: u64,
    flushed: u64,
    /// When the thread has to be at its end.
    end: Option<Instant>,
    handle: Option<JoinHandle<()>>,
    ended: bool,
}

/// What became of a thread at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dismissed {
    /// There was none.
    None,
    Joined,
    /// It did not come to its end in time.
    Detached,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("waits", &self.waits.len()).finish_non_exhaustive()
    }
}

impl Desk {
    /// With room for so many programs that wait.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            waits: ArrayQueue::new(room.max(1)),
            overflowed: AtomicBool::new(false),
            wake: Wake::new(),
            start: OnceLock::new(),
            started: AtomicBool::new(false),
            thread: OnceLock::new(),
            orders: Mutex::default(),
            done: Condvar::new(),
        }
    }

    /// Says how the thread is started.
    pub(crate) fn employ(&self, start: Box<Start>) {
        let _ = self.start.set(start);
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot's program is to be saved. False if too many wait.
    pub(crate) fn push(&self, slot: &Arc<Slot>) -> bool {
        if self.waits.push(slot.clone()).is_err() {
            slot.begin_saving();
            self.overflowed.store(true, Ordering::Release);
            return false;
        }
        self.start();
        if self.wake.is_due() {
            self.poke();
        }
        true
    }

    /// The next slot whose program is to be saved.
    pub(crate) fn pop(&self) -> Option<Arc<Slot>> {
        self.waits.pop()
    }

    /// For the thread: whether one found no room since this was last asked.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed.swap(false, Ordering::AcqRel)
    }

    /// How many wait, and whether that is more than half of what may.
    pub(crate) fn waiting(&self) -> (usize, bool) {
        let waiting = self.waits.len();
        (waiting, waiting > self.waits.capacity() / 2)
    }

    /// Starts the thread, the first time. Answers whether there is one.
    pub(crate) fn start(&self) -> bool {
        if self.started.load(Ordering::Relaxed) || self.started.swap(true, Ordering::Relaxed) {
            return true;
        }
        let mut orders = self.orders();
        if orders.end.is_some() {
            return false;
        }
        self.start_under(&mut orders)
    }

    fn start_under(&self, orders: &mut Orders) -> bool {
        match self.start.get().and_then(|start| start()) {
            Some(Ok(handle)) => {
                orders.handle = Some(handle);
                true
            }
            Some(Err(error)) => {
                trace::thread_failed(THREAD, &error);
                orders.ended = true;
                false
            }
            None => {
                orders.ended = true;
                false
            }
        }
    }

    fn poke(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Has everything written, and waits for that, at most `timeout`. Whether it was done.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let mut orders = self.orders();
        if orders.end.is_some() || orders.ended {
            return false;
        }
        orders.flushes += 1;
        let wanted = orders.flushes;
        drop(orders);
        if !self.start() {
            return false;
        }
        self.poke();
        let waits = |orders: &mut Orders| orders.flushed < wanted && !orders.ended;
        let waited = self.done.wait_timeout_while(self.orders(), timeout, |orders| {
            self.poke();
            waits(orders)
        });
        let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        orders.flushed >= wanted
    }

    /// For the thread: the flush that somebody waits for.
    pub(crate) fn flush_wanted(&self) -> Option<u64> {
        let orders = self.orders();
        (orders.flushed < orders.flushes).then_some(orders.flushes)
    }

    /// For the thread: everything that was there when this flush was asked for is written.
    pub(crate) fn flushed(&self, flush: u64) {
        self.orders().flushed = flush;
        self.done.notify_all();
    }

    /// For the thread: when it has to be at its end, if so.
    pub(crate) fn end(&self) -> Option<Instant> {
        self.orders().end
    }

    /// For the thread: sleeps until it is woken, at most so long.
    pub(crate) fn sleep(&self, longest: Option<Duration>) {
        let idle = || {
            let orders = self.orders();
            self.waits.is_empty() && orders.end.is_none() && orders.flushed == orders.flushes
        };
        match longest {
            // Whoever comes waits for the end of the nap.
            Some(longest) => thread::park_timeout(longest),
            None => {
                if self.wake.may_park(idle) {
                    thread::park();
                    self.wake.woke();
                }
            }
        }
    }

    /// For the thread: it begins. What this answers says, when it is dropped, that it is at its end.
    pub(crate) fn begin(&self) -> Ending<'_> {
        let _ = self.thread.set(thread::current());
        trace::thread_started(THREAD);
        Ending(self)
    }

    /// Has the thread write what is left, if that is wanted, and waits for its end, at most `timeout`.
    pub(crate) fn dismiss(&self, wanted: bool, timeout: Duration) -> Dismissed {
        let mut orders = self.orders();
        let is_first = orders.end.is_none();
        if is_first {
            orders.end = Some(Instant::now() + timeout);
            if wanted && !self.started.swap(true, Ordering::Relaxed) {
                self.start_under(&mut orders);
            }
        }
        self.poke();
        let here = thread::current().id();
        if orders.handle.as_ref().is_none_or(|handle| handle.thread().id() == here) {
            return Dismissed::None;
        }
        let waited = self.done.wait_timeout_while(orders, timeout, |orders| {
            // It may have come to sleep after it looked.
            self.poke();
            !orders.ended
        });
        let (mut orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let (handle, ended) = (orders.handle.take(), orders.ended);
        drop(orders);
        match handle {
            Some(handle) if ended => {
                // It says so last.
                let _ = handle.join();
                Dismissed::Joined
            }
            Some(_) => Dismissed::Detached,
            None => Dismissed::None,
        }
    }
}

/// Of the thread, as it is seen from outside.
pub(crate) const THREAD: &str = "kiln-store";

/// Says that the thread is at its end, however it got there.
pub(crate) struct Ending<'a>(&'a Desk);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.orders().ended = true;
        self.0.done.notify_all();
    }
}
