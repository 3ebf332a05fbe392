//! The pool that applications submit to.

use crate::admission::{Part, check, in_order, join_parts, split};
use crate::lanes::Places;
use crate::options::PoolOptions;
use crate::queue::Queue;
use crate::queued::{PartOf, Queued};
use async_trait::async_trait;
use skep_runtime_core::sync::atomic::{AtomicBool, Ordering};
use skep_runtime_core::sync::event_listener::{Event, EventListener, Listener};
use skep_runtime_core::sync::{Mutex, guarded};
use skep_runtime_core::{
    BatchError, Cancel, Clock, Counts, Device, DeviceError, DeviceLoss, Dims, Doorbell, Inputs, JoinParts,
    Meter, Pool, Priority, Refused, Reply, Request, Schema, Shape, Shutdown, StartError, Submit, SubmitError,
    TaskError, TaskKey, Ticket,
};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// Takes tasks for one pass of one block, and cuts them into batches. Cheap to clone.
///
/// Three ways in: [`try_submit`](Self::try_submit) gives the task back when the queue is full,
/// [`submit`](Self::submit) blocks until there is room, [`submit_async`](Self::submit_async) awaits it.
pub struct TaskPool<D: Device> {
    inner: Arc<Inner<D>>,
}

impl<D: Device> Clone for TaskPool<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

pub(crate) struct Inner<D: Device> {
    pub(crate) name: String,
    device: Arc<D>,
    schema: Schema,
    pub(crate) options: PoolOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Mutex<State<D::Tensor>>,
    /// The buffer that the tasks of the last batch were in, for tasks to come.
    pub(crate) spare: Mutex<Places<Queued<D::Tensor>>>,
    /// Some caller has found the queue full, so that there may be callers who wait for room. Set before the
    /// caller tries again, so who makes room after that sees it.
    pub(crate) crowded: AtomicBool,
    /// Told when there is room in the queue, when time has passed for those who wait for room, and when
    /// the pool is closed.
    pub(crate) room: Event,
}

pub(crate) struct State<T> {
    pub(crate) queue: Queue<T>,
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

impl<T> State<T> {
    fn admits(
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

    /// Notes that there is news, and says whom to tell once the lock is released.
    pub(crate) fn ring(&mut self) -> Option<Doorbell> {
        let bell = if self.rung { None } else { self.doorbell.clone() };
        self.rung |= bell.is_some();
        bell
    }

    /// Sees to it that the runtime asks for expired tasks at `at`.
    pub(crate) fn arm(&mut self, at: Instant) {
        if let Some(doorbell) = &self.doorbell
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            doorbell.expire_at(at);
        }
    }
}

/// A checked task on its way into the queue.
struct Candidate<T> {
    inputs: Vec<T>,
    rows: usize,
    free: Dims,
    /// The same tensors cut to fit a batch each, where they are too large for one; else empty.
    parts: Vec<Part<T>>,
    priority: Priority,
    submitted: Instant,
    deadline: Option<Instant>,
    ticket: Ticket<T>,
    /// `None` once the task is in the queue.
    reply: Option<Reply<T>>,
}

impl<D: Device> TaskPool<D> {
    /// A pool of its own, to be registered with
    /// [`RuntimeBuilder::pool`](skep_runtime_core::RuntimeBuilder::pool). [`Serve`](crate::Serve) does both.
    ///
    /// # Errors
    ///
    /// Names the option that is out of range.
    pub fn new(
        name: String,
        device: Arc<D>,
        schema: Schema,
        options: PoolOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        options.check()?;
        let state = State {
            queue: Queue::new(),
            counts: Counts::default(),
            closed: None,
            loss: None,
            doorbell: None,
            rung: false,
            armed: None,
            freed: 0,
        };
        let inner = Inner {
            name,
            device,
            schema,
            options,
            clock,
            state: Mutex::new(state),
            spare: Mutex::new(Places::new()),
            crowded: AtomicBool::new(false),
            room: Event::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// This pool as the runtime sees it.
    pub fn as_pool(&self) -> Arc<dyn Pool<D>> {
        Arc::clone(&self.inner) as Arc<dyn Pool<D>>
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What a task must look like.
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// How tasks are gathered into batches.
    pub fn options(&self) -> &PoolOptions {
        &self.inner.options
    }

    /// What the pool has counted.
    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }

    /// Why the pool takes no tasks until another runtime [takes it over](crate::Serve::take_over): its own has
    /// lost the device.
    pub fn loss(&self) -> Option<DeviceLoss> {
        self.inner.state.lock().loss.clone()
    }

    /// Hands a task in, or gives it back at once.
    ///
    /// # Errors
    ///
    /// The task does not fit the schema, the queue is full, the device is lost, or the runtime is shut down. The
    /// inputs come back with the error.
    pub fn try_submit(
        &self,
        request: impl Into<Request<D::Tensor>>,
    ) -> Result<Ticket<D::Tensor>, Refused<D::Tensor>> {
        let mut candidate = self.inner.admit(request.into())?;
        let now = candidate.submitted;
        match self.inner.enqueue(&mut candidate, now) {
            Ok(()) => Ok(candidate.ticket),
            Err(error) => Err(self.inner.refuse(error, candidate)),
        }
    }

    /// Hands a task in. Blocks while the queue is full.
    ///
    /// # Errors
    ///
    /// As [`try_submit`](Self::try_submit), but for a full queue only when the task's deadline passes
    /// first. On a thread of the runtime itself, which would wait for itself, a full queue is
    /// [`SubmitError::WouldDeadlock`].
    pub fn submit(
        &self,
        request: impl Into<Request<D::Tensor>>,
    ) -> Result<Ticket<D::Tensor>, Refused<D::Tensor>> {
        let mut candidate = self.inner.admit(request.into())?;
        loop {
            match self.inner.enqueue_or_listen(&mut candidate) {
                Ok(None) => return Ok(candidate.ticket),
                Ok(Some(listener)) if !self.inner.is_own_thread() => listener.wait(),
                Ok(Some(_)) => return Err(self.inner.refuse(SubmitError::WouldDeadlock, candidate)),
                Err(error) => return Err(self.inner.refuse(error, candidate)),
            }
        }
    }

    /// Hands a task in. Awaits room while the queue is full. Dropping the future gives the task up.
    ///
    /// # Errors
    ///
    /// As [`try_submit`](Self::try_submit), but for a full queue only when the task's deadline passes
    /// first.
    pub async fn submit_async(
        &self,
        request: impl Into<Request<D::Tensor>> + Send,
    ) -> Result<Ticket<D::Tensor>, Refused<D::Tensor>> {
        let mut candidate = self.inner.admit(request.into())?;
        loop {
            match self.inner.enqueue_or_listen(&mut candidate) {
                Ok(None) => return Ok(candidate.ticket),
                Ok(Some(listener)) => listener.await,
                Err(error) => return Err(self.inner.refuse(error, candidate)),
            }
        }
    }
}

#[async_trait]
impl<D: Device> Submit<D::Tensor> for TaskPool<D> {
    fn name(&self) -> &str {
        self.name()
    }

    fn schema(&self) -> &Schema {
        self.schema()
    }

    fn try_submit(&self, request: Request<D::Tensor>) -> Result<Ticket<D::Tensor>, Refused<D::Tensor>> {
        self.try_submit(request)
    }

    async fn submit(&self, request: Request<D::Tensor>) -> Result<Ticket<D::Tensor>, Refused<D::Tensor>> {
        self.submit_async(request).await
    }
}

impl<D: Device> Inner<D> {
    /// Checks a task. Needs no lock, so that a large check of one caller is no wait for another.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a call copies the task, which costs more than the rest: measured"
    )]
    fn admit(
        self: &Arc<Self>,
        request: Request<D::Tensor>,
    ) -> Result<Candidate<D::Tensor>, Refused<D::Tensor>> {
        let Request { inputs, priority, deadline } = request;
        let refused = |(error, inputs)| self.count_refused(error, inputs);
        let inputs = match inputs {
            Inputs::Positional(tensors) => tensors,
            Inputs::Named(named) => in_order(&self.schema, named).map_err(refused)?,
        };
        let (mut shape, mut parts) = (Shape { rows: 0, free: Dims::new() }, Vec::new());
        // What comes out of a call that may panic is copied, so only what is wrong does, and that boxed.
        let checked = guarded(|| {
            shape = check(&*self.device, &self.schema, &inputs)?;
            let (rows, max) = (shape.rows, self.options.max_rows);
            if rows > max {
                if !self.options.split_large_tasks {
                    return Err(Box::new(SubmitError::TooManyRows { rows, max }));
                }
                parts = split(&*self.device, &inputs, rows, max)?;
            }
            Ok(())
        });
        match checked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refused((*error, inputs))),
            Err(message) => {
                let panic = DeviceError::operation(format!("panic: {message}"));
                return Err(refused((SubmitError::Unreadable(Arc::new(panic)), inputs)));
            }
        }
        let Shape { rows, free } = shape;
        let submitted = self.clock.now();
        // A deadline past all time is none.
        let deadline = deadline.and_then(|from_now| submitted.checked_add(from_now));
        let priority = priority.unwrap_or(self.options.priority);
        let (ticket, reply) = Reply::pair_in(Arc::downgrade(self) as Weak<dyn Cancel>, priority);
        let reply = Some(reply);
        Ok(Candidate { inputs, rows, free, parts, priority, submitted, deadline, ticket, reply })
    }

    fn count_refused(&self, error: SubmitError, inputs: Vec<D::Tensor>) -> Refused<D::Tensor> {
        let counts = &mut self.state.lock().counts;
        counts.submitted += 1;
        counts.refused += 1;
        Refused { error, inputs }
    }

    fn refuse(&self, error: SubmitError, candidate: Candidate<D::Tensor>) -> Refused<D::Tensor> {
        // Nobody has the ticket, so the reply's answer reaches nobody.
        self.count_refused(error, candidate.inputs)
    }

    fn is_own_thread(&self) -> bool {
        self.state.lock().doorbell.as_ref().is_some_and(Doorbell::is_own_thread)
    }

    /// Gets into the queue, and takes the tensors out of the candidate then.
    fn enqueue(&self, candidate: &mut Candidate<D::Tensor>, now: Instant) -> Result<(), SubmitError> {
        let mut state = self.state.lock();
        state.admits(candidate.deadline, now, &self.options)?;
        let Candidate { rows, priority, submitted, deadline, .. } = *candidate;
        let Some(reply) = candidate.reply.take() else { return Ok(()) };
        let alone = state.queue.tasks() == 0;
        let spin = if alone { state.doorbell.as_ref().map(Doorbell::spin) } else { None };
        let key = TaskKey { priority, seq: state.queue.next_seq() };
        let mut news = false;
        if candidate.parts.is_empty() {
            let inputs = std::mem::take(&mut candidate.inputs);
            let item = Queued { inputs, rows, submitted, deadline, reply, part: PartOf::WHOLE };
            news = state.queue.push(&candidate.free, key, item, &self.options);
        } else {
            let count = candidate.parts.len();
            let replies = reply.split(count, self.join());
            let afters = (0..).take(count).collect::<Vec<u32>>().into_iter().rev();
            let parts = std::mem::take(&mut candidate.parts).into_iter().zip(replies);
            for ((before, after), (Part { inputs, rows }, reply)) in (0..).zip(afters).zip(parts) {
                let part = PartOf { before, after };
                let item = Queued { inputs, rows, submitted, deadline, reply, part };
                let key = TaskKey { seq: state.queue.next_seq(), ..key };
                news |= state.queue.push(&candidate.free, key, item, &self.options);
            }
        }
        state.counts.submitted += 1;
        if let Some(deadline) = deadline {
            state.arm(deadline);
        }
        let bell = if news { state.ring() } else { None };
        drop(state);
        candidate.ticket.queued(key.seq, spin.unwrap_or_default());
        if let Some(bell) = bell {
            bell.ring();
        }
        Ok(())
    }

    /// Gets into the queue, or says what to wait for before the next attempt.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a call copies the task, which costs more than the rest: measured"
    )]
    fn enqueue_or_listen(
        &self,
        candidate: &mut Candidate<D::Tensor>,
    ) -> Result<Option<EventListener>, SubmitError> {
        match self.enqueue(candidate, candidate.submitted) {
            Err(SubmitError::Full { .. }) => {}
            other => return other.map(|()| None),
        }
        self.crowded.store(true, Ordering::SeqCst);
        // Listening first: room that is made after a failed attempt is heard of.
        let listener = self.room.listen();
        match self.enqueue(candidate, self.clock.now()) {
            Err(SubmitError::Full { .. }) => {}
            other => return other.map(|()| None),
        }
        if let Some(deadline) = candidate.deadline {
            self.state.lock().arm(deadline);
        }
        Ok(Some(listener))
    }

    /// Joins the outputs of a large task's parts.
    fn join(&self) -> JoinParts<D::Tensor> {
        let device = Arc::clone(&self.device);
        Box::new(move |parts| {
            guarded(|| join_parts(&*device, parts))
                .map_err(|message| BatchError::Panic { place: "join".to_owned(), message })
                .and_then(|joined| joined.map_err(|source| BatchError::Device { operation: "join", source }))
                .map_err(|error| TaskError::Failed(Arc::new(error)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime_core::testing::{FakeDevice, FakeTensor, ManualClock};
    use skep_runtime_core::{DType, TensorSpec};

    #[test]
    fn a_pool_that_is_dropped_answers_what_waits() {
        let schema = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
        let (device, clock) = (Arc::new(FakeDevice::new()), ManualClock::new());
        let pool = TaskPool::new("p".to_owned(), device, schema, PoolOptions::default(), clock).unwrap();
        let ticket = pool.submit(vec![FakeTensor::rows(&[[1.0]])]).unwrap();
        drop(pool);
        assert!(matches!(ticket.wait(), Err(TaskError::ShutDown)));
    }
}
