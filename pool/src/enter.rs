//! A task's way into the queue.

use crate::admission::{check, in_order, join_parts, naming_error, restored};
use crate::line::{Entrant, Entry};
use crate::options::elements;
use crate::queue::item::Place;
use crate::seats::{Bells, ring};
use crate::shared::{Inner, State};
use crate::task::{Split, Task};
use skep_runtime_core::pool::{Cancel, Doorbell, JoinParts, Reply, Returned, Settled, SliceRows, TaskKey};
use skep_runtime_core::sync::{Mutex, discard_all, guarded};
use skep_runtime_core::{
    BatchError, DeviceError, Dims, Inputs, Pass, Priority, Refused, Request, Schema, Shape, SubmitError,
    TaskError, TaskHeader, TensorOps, Ticket,
};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A checked task on its way into the queue.
pub(crate) struct Candidate<T> {
    pub(crate) header: TaskHeader,
    pub(crate) ticket: Ticket<T>,
    free: Dims,
    /// `None` once the task is in the queue, or in the line.
    reply: Option<Reply<T>>,
    asked: Asked<T>,
}

/// What the caller asked for.
struct Asked<T> {
    /// With tensors in the schema's order, and without those once the task is in the queue, or in the line.
    request: Request<T>,
    /// Their names in the caller's order, if it gave any.
    names: Vec<String>,
}

impl<T> Asked<T> {
    /// Brings tensors that come by name into the schema's order.
    #[inline]
    fn new(request: Request<T>, schema: &Schema) -> Result<Self, Refused<T>> {
        match request.inputs {
            Inputs::Positional(_) => Ok(Self { request, names: Vec::new() }),
            Inputs::Named(_) => Self::by_name(request, schema),
        }
    }

    #[cold]
    fn by_name(mut request: Request<T>, schema: &Schema) -> Result<Self, Refused<T>> {
        let mut names = Vec::new();
        if let Inputs::Named(named) = &mut request.inputs {
            if let Some(error) = naming_error(schema, named) {
                return Err(Refused::new(error, request));
            }
            let (tensors, given) = in_order(schema, std::mem::take(named));
            (request.inputs, names) = (Inputs::Positional(tensors), given);
        }
        Ok(Self { request, names })
    }

    #[inline]
    fn tensors(&self) -> &[T] {
        match &self.request.inputs {
            Inputs::Positional(tensors) => tensors,
            Inputs::Named(_) => &[],
        }
    }

    #[inline]
    fn take_tensors(&mut self) -> Vec<T> {
        match &mut self.request.inputs {
            Inputs::Positional(tensors) => std::mem::take(tensors),
            Inputs::Named(_) => Vec::new(),
        }
    }

    /// The request as it was.
    fn given_back(mut self, schema: &Schema) -> Request<T> {
        if !self.names.is_empty() {
            self.request.inputs = restored(schema, std::mem::take(&mut self.names), self.take_tensors());
        }
        self.request
    }
}

impl<T> Candidate<T> {
    /// Takes out what waits in the line.
    pub(crate) fn entrant(&mut self, news: Reply<Entry<T>>) -> Option<Entrant<T>> {
        let (header, reply) = (self.header, self.reply.take()?);
        let (free, inputs) = (std::mem::take(&mut self.free), self.asked.take_tensors());
        Some(Entrant { header, free, inputs, reply, news })
    }

    /// Takes tensors back that were in the line.
    pub(crate) fn take_back(&mut self, tensors: Vec<T>) {
        self.asked.request.inputs = Inputs::Positional(tensors);
    }
}

impl<O: TensorOps> Inner<O> {
    /// Checks a task. Needs no lock, so that a large check of one caller is no wait for another.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a call copies the task, which costs more than the rest: measured"
    )]
    pub(crate) fn admit(
        self: &Arc<Self>,
        request: Request<O::Tensor>,
    ) -> Result<Candidate<O::Tensor>, Refused<O::Tensor>> {
        let asked =
            Asked::new(request, &self.schema).inspect_err(|refused| self.count_refused(&refused.error))?;
        let priority = asked.request.priority.unwrap_or(self.options.priority);
        let most_rows = self.most_rows(priority);
        let mut shape = Shape { rows: 0, free: Dims::new() };
        // What comes out of a call that may panic is copied, so only what is wrong does, and that boxed.
        let checked = guarded(|| {
            shape = check(&*self.ops, &self.schema, asked.tensors(), most_rows)?;
            Ok(())
        });
        let error: Option<Box<SubmitError>> = match checked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(message) => {
                let panic = DeviceError::operation(format!("panic: {message}"));
                Some(Box::new(SubmitError::Unreadable(Arc::new(panic))))
            }
        };
        if let Some(error) = error {
            return Err(self.give_back(*error, asked));
        }
        let Shape { rows, free } = shape;
        let (free, elements) = self.class(free);
        if let Err(error) = self.options.check_elements(rows, elements, self.splits()) {
            return Err(self.give_back(error, asked));
        }
        let elements = u32::try_from(elements).unwrap_or(u32::MAX);
        let submitted = self.now();
        let deadline = self.options.deadline_of(asked.request.deadline, submitted);
        let flow = asked.request.flow.unwrap_or_default();
        let header = TaskHeader::new(rows, submitted).priority(priority).flow(flow).deadline(deadline);
        let header = header.elements(elements);
        let (ticket, reply) = Reply::pair_in(Arc::downgrade(self) as Weak<dyn Cancel>);
        Ok(Candidate { header, ticket, free, reply: Some(reply), asked })
    }

    /// The sizes by which tasks share batches, of a task of these, and the elements of each of its rows.
    #[inline]
    pub(crate) fn class(&self, free: Dims) -> (Dims, usize) {
        if free.is_empty() {
            return (free, 1);
        }
        if self.schema.offsets().is_some() {
            return (Dims::new(), elements(&free));
        }
        let class = match &self.options.padding {
            Some(padding) => {
                let dims = free.iter().zip(self.schema.free());
                dims.map(|(&size, free)| padding.class(size, free.max)).collect()
            }
            None => free,
        };
        let elements = elements(&class);
        (class, elements)
    }

    /// Whether tasks that are too large for one batch are split.
    #[inline]
    fn splits(&self) -> bool {
        let options = &self.options;
        options.split_large_tasks && (self.pass != Pass::Backward || options.split_backward)
    }

    /// The most rows that a task of this priority may have.
    #[inline]
    fn most_rows(&self, priority: Priority) -> usize {
        let options = &self.options;
        if !self.splits() {
            return options.max_rows;
        }
        // Parts are counted in 32 bits.
        options.room(priority).rows.min(u32::MAX as usize).max(options.max_rows)
    }

    fn count_refused(&self, error: &SubmitError) {
        let counts = &mut self.state.lock().counts;
        counts.submitted += 1;
        counts.refused += 1;
        counts.refusals.note(error);
    }

    /// Counts a task that is refused, and gives it back.
    fn give_back(&self, error: SubmitError, asked: Asked<O::Tensor>) -> Refused<O::Tensor> {
        self.count_refused(&error);
        Refused::new(error, asked.given_back(&self.schema))
    }

    /// Gives a task back. Nobody has its ticket, so the reply's answer reaches nobody.
    pub(crate) fn refuse(&self, error: SubmitError, candidate: Candidate<O::Tensor>) -> Refused<O::Tensor> {
        self.give_back(error, candidate.asked)
    }

    /// Gets into the queue, and takes the tensors out of the candidate then.
    #[inline]
    pub(crate) fn enqueue(
        &self,
        candidate: &mut Candidate<O::Tensor>,
        now: Instant,
    ) -> Result<(), SubmitError> {
        let mut state = self.state.lock();
        let header = candidate.header;
        state.admits(header.deadline, now)?;
        if self.options.answer_in_time {
            state.is_in_time(&header, now)?;
        }
        let mut evicted = None;
        if !state.has_room(&header, &self.options) {
            evicted = Some(self.evict(&mut state, &header, now)?);
        }
        let Some(reply) = candidate.reply.take() else { return Ok(()) };
        let inputs = candidate.asked.take_tensors();
        let bell = self.put(&mut state, header, &candidate.free, inputs, reply);
        drop(state);
        ring(bell);
        if let Some((mut settled, leftovers)) = evicted {
            Settled::deliver_all(&mut settled);
            discard_all(leftovers);
        }
        Ok(())
    }

    /// Puts a task into the queue. Returns the bell to ring once the lock is released.
    #[inline]
    pub(crate) fn put(
        &self,
        state: &mut State<O::Tensor>,
        header: TaskHeader,
        free: &Dims,
        inputs: Vec<O::Tensor>,
        reply: Reply<O::Tensor>,
    ) -> Option<Bells> {
        let alone = state.queue.tasks() == 0;
        let spin = if alone { state.seats.bell().map(Doorbell::spin) } else { None };
        let shape = state.queue.shape(free, &self.options);
        let rank = state.rank(&header);
        let number = state.queue.next_seq();
        let key = TaskKey { rank, seq: number, shape: u32::try_from(shape).unwrap_or(u32::MAX) };
        reply.queued(key, spin.unwrap_or_default());
        let mut news = if header.rows <= self.options.most_rows(header.elements as usize) {
            let task = Task { header, inputs, reply, split: None };
            state.with_queue(&self.options, header.submitted, |queue, moment| {
                queue.push(shape, Place::first(rank), task, moment)
            })
        } else {
            self.put_large(state, key, Task { header, inputs, reply, split: None })
        };
        // What waits for company need not wait any more if there is no room for any, or if it has come.
        news |= state.is_full_below(&self.options) || state.seats.have_company(state.queue.rows());
        state.counts.submitted += 1;
        if let Some(deadline) = header.deadline {
            state.arm(deadline);
        }
        if news { state.ring() } else { None }
    }

    /// Puts a task that is too large for one batch into the queue. Returns true if an earlier look may be out of date.
    #[cold]
    fn put_large(&self, state: &mut State<O::Tensor>, key: TaskKey, task: Task<O::Tensor>) -> bool {
        let Task { header, inputs, reply, .. } = task;
        let split = Some(Box::new(Split::new(self.slice(inputs), key.seq, header.submitted)));
        let task = Task { header, inputs: Vec::new(), reply: reply.in_parts(self.join()), split };
        state.with_queue(&self.options, header.submitted, |queue, moment| {
            queue.push(key.shape as usize, Place::first(key.rank), task, moment)
        })
    }

    /// Puts a task into the queue again, among those of its age.
    pub(crate) fn put_back(
        &self,
        state: &mut State<O::Tensor>,
        task: Returned<O::Tensor>,
        free: &Dims,
        now: Instant,
    ) {
        let Returned { mut header, reply, inputs, .. } = task;
        header.is_again = true;
        let shape = state.queue.shape(free, &self.options);
        let (rank, number) = (state.rank(&header), state.queue.next_seq());
        let key = TaskKey { rank, seq: number, shape: u32::try_from(shape).unwrap_or(u32::MAX) };
        reply.queued(key, Duration::ZERO);
        let task = Task { header, inputs, reply, split: None };
        state.with_queue(&self.options, now, |queue, moment| {
            queue.push_again(shape, Place::first(rank), task, moment);
        });
        if let Some(deadline) = header.deadline {
            state.arm(deadline);
        }
    }

    /// Cuts rows out of the tensors of a large task.
    fn slice(&self, inputs: Vec<O::Tensor>) -> SliceRows<O::Tensor> {
        let (ops, tensors) = (Arc::clone(&self.ops), Tensors(Mutex::new(inputs)));
        Arc::new(move |rows: Range<usize>| {
            tensors.0.lock().iter().map(|tensor| ops.slice(tensor, rows.clone())).collect()
        })
    }

    /// Joins the outputs of a large task's parts.
    fn join(&self) -> JoinParts<O::Tensor> {
        let ops = Arc::clone(&self.ops);
        Box::new(move |parts| {
            guarded(|| join_parts(&*ops, parts))
                .map_err(|message| BatchError::Panic { during: "join".to_owned(), message })
                .and_then(|joined| joined.map_err(|source| BatchError::Device { operation: "join", source }))
                .map_err(|error| TaskError::Failed(Arc::new(error)))
        })
    }
}

/// The tensors of a large task, which its parts share: they are not `Sync`.
struct Tensors<T>(Mutex<Vec<T>>);

impl<T> Drop for Tensors<T> {
    fn drop(&mut self) {
        discard_all(std::mem::take(&mut *self.0.lock()));
    }
}
