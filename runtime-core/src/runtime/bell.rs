//! How pools wake the runtime, and which thread they wake.
//!
//! A pool rings only when an earlier look at it would now be too late, mostly when it goes from empty to
//! non-empty. The ring leaves the pool's id in one channel and wakes the thread that chooses at the moment:
//! the device thread while it is idle, so that a lone task crosses two threads in all; the loader while a
//! batch runs, so that the next batch is gathered meanwhile.

use crate::pool::PoolId;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::thread::Thread;
use crate::sync::{flume, thread_local};
use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Tells runtimes of one process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuntimeId(u64);

impl RuntimeId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

thread_local! {
    static HOME: Cell<Option<RuntimeId>> = const { Cell::new(None) };
}

/// Marks the current thread as one of the runtime's until the mark is dropped.
pub(crate) struct ThreadMark(Option<RuntimeId>);

impl ThreadMark {
    pub(crate) fn new(runtime: RuntimeId) -> Self {
        Self(HOME.with(|home| home.replace(Some(runtime))))
    }
}

impl Drop for ThreadMark {
    fn drop(&mut self) {
        HOME.with(|home| home.set(self.0));
    }
}

/// Whether the current thread belongs to the runtime that `runtime` names. Free on other threads.
pub(crate) fn on_thread_of(runtime: impl FnOnce() -> Option<RuntimeId>) -> bool {
    HOME.with(Cell::get).is_some_and(|home| runtime() == Some(home))
}

/// What the timer is told.
pub(crate) enum TimerEvent {
    /// A task of this pool expires at this time.
    Arm(PoolId, Instant),
    /// See then whether the device is stuck.
    Watch(Instant),
    /// This pool panicked, under a lock under which nobody may be answered: close it.
    Close(PoolId),
    /// The clock was moved by hand.
    Tick,
    /// The runtime has stopped.
    Stop,
}

pub(crate) struct Bells {
    pub(crate) runtime: RuntimeId,
    rings: flume::Sender<PoolId>,
    /// How many rings have been left. Reading it costs less than asking the channel, which has a lock.
    rung: AtomicUsize,
    timer: flume::Sender<TimerEvent>,
    spin: Duration,
    device: OnceLock<Thread>,
    loader: OnceLock<Thread>,
    /// Whether the loader is the one that chooses at the moment.
    ///
    /// A ring is counted and sent before this is read; the device thread clears this before it looks for rings one last
    /// time and sleeps. So either it finds the ring, or the ring finds it here and wakes it.
    loader_chooses: AtomicBool,
}

impl Bells {
    pub(crate) fn new(
        rings: flume::Sender<PoolId>,
        timer: flume::Sender<TimerEvent>,
        spin: Duration,
    ) -> Self {
        Self {
            runtime: RuntimeId::next(),
            rings,
            rung: AtomicUsize::new(0),
            timer,
            spin,
            device: OnceLock::new(),
            loader: OnceLock::new(),
            loader_chooses: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_device(&self, thread: Thread) {
        self.device.set(thread).ok();
    }

    pub(crate) fn set_loader(&self, thread: Thread) {
        self.loader.set(thread).ok();
    }

    /// Says whether rings go to the loader (a batch is running) or to the device thread (it is idle).
    pub(crate) fn let_loader_choose(&self, yes: bool) {
        self.loader_chooses.store(yes, Ordering::SeqCst);
    }

    pub(crate) fn loader_chooses(&self) -> bool {
        self.loader_chooses.load(Ordering::SeqCst)
    }

    pub(crate) fn wake_device(&self) {
        if let Some(thread) = self.device.get() {
            thread.unpark();
        }
    }

    pub(crate) fn wake_loader(&self) {
        if let Some(thread) = self.loader.get() {
            thread.unpark();
        }
    }

    /// Wakes the thread that chooses at the moment.
    pub(crate) fn wake_chooser(&self) {
        if self.loader_chooses() {
            self.wake_loader();
        } else {
            self.wake_device();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.wake_device();
        self.wake_loader();
    }

    /// Leaves a ring without waking anybody.
    pub(crate) fn leave_ring(&self, pool: PoolId) {
        // Counted first: who sees the count and finds no ring yet is woken after it was sent. The other way round, a
        // ring that was sent would stay unheard while one before it was sent and not yet counted.
        self.rung.fetch_add(1, Ordering::SeqCst);
        self.rings.send(pool).ok();
    }

    /// How many rings have been left so far.
    pub(crate) fn rung(&self) -> usize {
        self.rung.load(Ordering::SeqCst)
    }

    pub(crate) fn tell_timer(&self, event: TimerEvent) {
        self.timer.send(event).ok();
    }

    pub(crate) fn doorbell(self: &Arc<Self>, pool: PoolId) -> Doorbell {
        Doorbell { pool, bells: Arc::clone(self) }
    }
}

/// What a pool holds of its runtime.
#[derive(Clone)]
pub struct Doorbell {
    pool: PoolId,
    bells: Arc<Bells>,
}

impl Doorbell {
    /// Asks the runtime to look at the pool again. Never waits.
    pub fn ring(&self) {
        self.bells.leave_ring(self.pool);
        self.bells.wake_chooser();
    }

    /// Asks the runtime to call [`Pool::expire`](crate::Pool::expire) at this time. Never waits.
    pub fn expire_at(&self, at: Instant) {
        self.bells.tell_timer(TimerEvent::Arm(self.pool, at));
    }

    /// The runtime behind this bell.
    pub fn runtime(&self) -> RuntimeId {
        self.bells.runtime
    }

    /// How long a thread that waits for an answer of this runtime looks for it before it sleeps, for
    /// [`Ticket::queued`](crate::Ticket::queued).
    pub fn spin(&self) -> Duration {
        self.bells.spin
    }

    /// Whether the current thread is one of the runtime's, which must not wait for the runtime.
    pub fn is_own_thread(&self) -> bool {
        on_thread_of(|| Some(self.bells.runtime))
    }
}
