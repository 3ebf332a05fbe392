//! A task's way into the queue.

use crate::admission::{Part, check, in_order, join_parts, naming_error, restored, split};
use crate::queue::item::PartOf;
use crate::shared::Inner;
use crate::task::Task;
use skep_runtime_core::pool::{Cancel, Doorbell, JoinParts, Reply, Unqueued};
use skep_runtime_core::sync::atomic::Ordering;
use skep_runtime_core::sync::event_listener::EventListener;
use skep_runtime_core::sync::guarded;
use skep_runtime_core::{
    BatchError, DeviceError, Dims, Inputs, Refused, Request, Schema, Shape, SubmitError, TaskError,
    TaskHeader, TensorOps,
};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// A checked task on its way into the queue.
pub(crate) struct Candidate<T> {
    pub(crate) header: TaskHeader,
    pub(crate) ticket: Unqueued<T>,
    inputs: Vec<T>,
    free: Dims,
    /// The same tensors cut to fit a batch each, if they are too large for one; else empty.
    parts: Vec<Part<T>>,
    /// `None` once the task is in the queue.
    reply: Option<Reply<T>>,
    asked: Asked,
}

/// The caller's own words, to give a request back as it was.
struct Asked {
    /// In the caller's order; empty if it gave no names.
    names: Vec<String>,
    /// All but the tensors.
    request: Request<()>,
}

impl Asked {
    fn request<T>(self, schema: &Schema, inputs: Vec<T>) -> Request<T> {
        self.request.replace_inputs(restored(schema, self.names, inputs)).1
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
        let (inputs, request) = request.replace_inputs(Inputs::Positional(Vec::new()));
        let (inputs, names) = match inputs {
            Inputs::Positional(tensors) => (tensors, Vec::new()),
            Inputs::Named(named) => match naming_error(&self.schema, &named) {
                None => in_order(&self.schema, named),
                Some(error) => {
                    let (_, request) = request.replace_inputs(Inputs::Named(named));
                    return Err(self.count_refused(error, request));
                }
            },
        };
        let asked = Asked { names, request };
        let (mut shape, mut parts) = (Shape { rows: 0, free: Dims::new() }, Vec::new());
        // What comes out of a call that may panic is copied, so only what is wrong does, and that boxed.
        let checked = guarded(|| {
            shape = check(&*self.ops, &self.schema, &inputs)?;
            let (rows, max) = (shape.rows, self.options.max_rows);
            if rows > max {
                if !self.options.split_large_tasks {
                    return Err(Box::new(SubmitError::TooManyRows { rows, max }));
                }
                parts = split(&*self.ops, &inputs, rows, max)?;
            }
            Ok(())
        });
        let error = match checked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(*error),
            Err(message) => {
                let panic = DeviceError::operation(format!("panic: {message}"));
                Some(SubmitError::Unreadable(Arc::new(panic)))
            }
        };
        if let Some(error) = error {
            return Err(self.count_refused(error, asked.request(&self.schema, inputs)));
        }
        let Shape { rows, free } = shape;
        let submitted = self.clock.now();
        let deadline = asked.request.deadline.and_then(|deadline| deadline.after(submitted));
        let priority = asked.request.priority.unwrap_or(self.options.priority);
        let header = TaskHeader::new(rows, submitted).priority(priority).deadline(deadline);
        let (ticket, reply) = Reply::pair_in(Arc::downgrade(self) as Weak<dyn Cancel>, priority);
        Ok(Candidate { header, ticket, inputs, free, parts, reply: Some(reply), asked })
    }

    fn count_refused(&self, error: SubmitError, request: Request<O::Tensor>) -> Refused<O::Tensor> {
        let counts = &mut self.state.lock().counts;
        counts.submitted += 1;
        counts.refused += 1;
        Refused::new(error, request)
    }

    /// Gives a task back. Nobody has its ticket, so the reply's answer reaches nobody.
    pub(crate) fn refuse(&self, error: SubmitError, candidate: Candidate<O::Tensor>) -> Refused<O::Tensor> {
        self.count_refused(error, candidate.asked.request(&self.schema, candidate.inputs))
    }

    /// Gets into the queue, and takes the tensors out of the candidate then.
    pub(crate) fn enqueue(
        &self,
        candidate: &mut Candidate<O::Tensor>,
        now: Instant,
    ) -> Result<(), SubmitError> {
        let mut state = self.state.lock();
        let header = candidate.header;
        state.admits(header.deadline, now, &self.options)?;
        let Some(reply) = candidate.reply.take() else { return Ok(()) };
        let alone = state.queue.tasks() == 0;
        let spin = if alone { state.doorbell.as_ref().map(Doorbell::spin) } else { None };
        let seq = state.queue.next_seq();
        let mut news = false;
        if candidate.parts.is_empty() {
            let inputs = std::mem::take(&mut candidate.inputs);
            let task = Task { header, inputs, reply, part: PartOf::WHOLE };
            news = state.queue.push(&candidate.free, task, &self.options);
        } else {
            let parts = std::mem::take(&mut candidate.parts);
            let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
            let replies = reply.split(parts.len(), self.join());
            for ((at, Part { inputs, rows }), reply) in (0..).zip(parts).zip(replies) {
                let mut header = header;
                header.rows = rows;
                let task = Task { header, inputs, reply, part: PartOf { at, of } };
                news |= state.queue.push(&candidate.free, task, &self.options);
            }
        }
        state.counts.submitted += 1;
        if let Some(deadline) = header.deadline {
            state.arm(deadline);
        }
        let bell = if news { state.ring() } else { None };
        drop(state);
        candidate.ticket.queued(seq, spin.unwrap_or_default());
        if let Some(bell) = bell {
            bell.ring();
        }
        Ok(())
    }

    /// Gets into the queue, or returns the event to wait for before the next attempt.
    #[inline(always)]
    #[expect(
        clippy::inline_always,
        reason = "a call copies the task, which costs more than the rest: measured"
    )]
    pub(crate) fn enqueue_or_listen(
        &self,
        candidate: &mut Candidate<O::Tensor>,
    ) -> Result<Option<EventListener>, SubmitError> {
        match self.enqueue(candidate, candidate.header.submitted) {
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
        if let Some(deadline) = candidate.header.deadline {
            self.state.lock().arm(deadline);
        }
        Ok(Some(listener))
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
