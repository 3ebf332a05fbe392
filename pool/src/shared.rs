//! All that callers and the runtime share of a pool.

use crate::options::PoolOptions;
use crate::queue::Queue;
use crate::queue::lanes::Items;
use crate::task::Task;
use skep_runtime_core::pool::Doorbell;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::sync::atomic::AtomicBool;
use skep_runtime_core::sync::event_listener::Event;
use skep_runtime_core::{Clock, Counts, DeviceLoss, Schema, Shutdown, SubmitError, TensorOps};
use std::sync::Arc;
use std::time::Instant;

pub(crate) struct Inner<O: TensorOps> {
    pub(crate) name: String,
    pub(crate) ops: Arc<O>,
    pub(crate) schema: Schema,
    pub(crate) options: PoolOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Mutex<State<O::Tensor>>,
    /// The buffer that the tasks of the last batch were in, for tasks to come.
    pub(crate) spare: Mutex<Items<Task<O::Tensor>>>,
    /// Some caller has found the queue full, so that there may be callers who wait for room. Set before the
    /// caller tries again, so who makes room after that sees it.
    pub(crate) crowded: AtomicBool,
    /// Told when there is room in the queue, when time has passed for those who wait for room, and when
    /// the pool is closed.
    pub(crate) room: Event,
}

pub(crate) struct State<T> {
    pub(crate) queue: Queue<Task<T>>,
    pub(crate) counts: Counts,
    pub(crate) closed: Option<Shutdown>,
    /// The runtime has lost its device, and no other has taken the pool over.
    pub(crate) loss: Option<DeviceLoss>,
    pub(crate) doorbell: Option<Doorbell>,
    /// Rung, and not looked at since: ringing again would tell nothing new.
    pub(crate) rung: bool,
    /// The earliest time at which the runtime will ask for expired tasks.
    pub(crate) armed: Option<Instant>,
    /// Tasks that were cut since callers who wait for room were last told, if there can be any.
    pub(crate) freed: usize,
}

impl<O: TensorOps> Inner<O> {
    pub(crate) fn new(
        name: String,
        ops: Arc<O>,
        schema: Schema,
        options: PoolOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name,
            ops,
            schema,
            options,
            clock,
            state: Mutex::new(State::new()),
            spare: Mutex::new(Items::new()),
            crowded: AtomicBool::new(false),
            room: Event::new(),
        }
    }

    pub(crate) fn is_own_thread(&self) -> bool {
        self.state.lock().doorbell.as_ref().is_some_and(Doorbell::is_own_thread)
    }
}

impl<T> State<T> {
    fn new() -> Self {
        Self {
            queue: Queue::new(),
            counts: Counts::default(),
            closed: None,
            loss: None,
            doorbell: None,
            rung: false,
            armed: None,
            freed: 0,
        }
    }

    pub(crate) fn admits(
        &self,
        deadline: Option<Instant>,
        now: Instant,
        options: &PoolOptions,
    ) -> Result<(), SubmitError> {
        if let Some(loss) = &self.loss {
            Err(SubmitError::DeviceLost(loss.clone()))
        } else if self.closed.is_some() {
            Err(SubmitError::ShutDown)
        } else if deadline.is_some_and(|deadline| deadline <= now) {
            Err(SubmitError::DeadlinePassed)
        } else if self.queue.tasks() >= options.capacity {
            Err(SubmitError::Full { capacity: options.capacity })
        } else {
            Ok(())
        }
    }

    /// Notes that there is news, and returns the bell to ring once the lock is released.
    pub(crate) fn ring(&mut self) -> Option<Doorbell> {
        let bell = if self.rung { None } else { self.doorbell.clone() };
        self.rung |= bell.is_some();
        bell
    }

    /// Makes the runtime ask for expired tasks at `at`.
    pub(crate) fn arm(&mut self, at: Instant) {
        if let Some(doorbell) = &self.doorbell
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            doorbell.expire_at(at);
        }
    }
}
