//! Bells: the runtime's side of its pools' doorbells, and the threads that a ring wakes.
//!
//! A pool rings only when an earlier look at it would now be too late, mostly when it goes from empty to
//! non-empty. The ring leaves the pool's id in one channel and wakes the thread that chooses at the moment:
//! the device thread while it is idle, so that a lone task crosses two threads in all; the loader while a
//! batch runs, so that the next batch is gathered meanwhile.

use crate::contract::clock::Clock;
use crate::contract::doorbell::{Doorbell, Ring};
use crate::contract::id::{PoolId, RuntimeId};
use crate::contract::policy::Policy;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::flume;
use crate::sync::thread::Thread;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// An order to the timer.
pub(crate) enum TimerEvent {
    /// A task of this pool expires at this time.
    Arm(PoolId, Instant),
    /// See then whether the device is stuck.
    Watch(Instant),
    /// The clock was moved by hand.
    Tick,
    /// Say so when all that is due has been done.
    #[cfg(any(test, feature = "testing"))]
    Pass(flume::Sender<()>),
    /// The runtime has stopped.
    Stop,
}

pub(crate) struct Bells {
    pub(crate) runtime: RuntimeId,
    rings: flume::Sender<PoolId>,
    /// The number of rings that have been left. Reading it costs less than asking the channel, which has a lock.
    rung: AtomicUsize,
    timer: flume::Sender<TimerEvent>,
    spin: Duration,
    policy: Arc<dyn Policy>,
    device: OnceLock<Thread>,
    loader: OnceLock<Thread>,
    /// True while the loader is the one that chooses.
    ///
    /// A ring is counted and sent before this is read; the device thread clears this before it looks for rings one last
    /// time and sleeps. So either it finds the ring, or the ring finds it here and wakes it.
    loader_chooses: AtomicBool,
}

impl Bells {
    pub(crate) fn new(
        runtime: RuntimeId,
        rings: flume::Sender<PoolId>,
        timer: flume::Sender<TimerEvent>,
        spin: Duration,
        policy: Arc<dyn Policy>,
    ) -> Self {
        Self {
            runtime,
            rings,
            rung: AtomicUsize::new(0),
            timer,
            spin,
            policy,
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

    /// Sends rings to the loader (a batch is running) or to the device thread (it is idle).
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

    /// The number of rings that have been left so far.
    pub(crate) fn rung(&self) -> usize {
        self.rung.load(Ordering::SeqCst)
    }

    pub(crate) fn tell_timer(&self, event: TimerEvent) {
        self.timer.send(event).ok();
    }

    pub(crate) fn doorbell(self: &Arc<Self>, pool: PoolId, clock: &Arc<dyn Clock>) -> Doorbell {
        let (policy, ring) = (Arc::clone(&self.policy), Arc::clone(self) as Arc<dyn Ring>);
        Doorbell::new(pool, self.runtime, self.spin, Arc::clone(clock), policy, ring)
    }
}

impl Ring for Bells {
    fn ring(&self, pool: PoolId) {
        self.leave_ring(pool);
        self.wake_chooser();
    }

    fn expire_at(&self, pool: PoolId, at: Instant) {
        self.tell_timer(TimerEvent::Arm(pool, at));
    }
}
