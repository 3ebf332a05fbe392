//! Requests: tasks as their callers hand them in.

use crate::contract::flow::Flow;
use crate::contract::priority::Priority;
use std::time::{Duration, Instant};

/// The tensors of a task.
#[derive(Debug)]
pub enum Inputs<T> {
    /// In the schema's order.
    Positional(Vec<T>),
    /// By the schema's names, in any order.
    Named(Vec<(String, T)>),
}

impl<T> Inputs<T> {
    /// Returns the tensors without their names, in the order in which they were given.
    pub fn tensors(&self) -> impl Iterator<Item = &T> {
        let (positional, named) = match self {
            Self::Positional(tensors) => (&tensors[..], &[][..]),
            Self::Named(named) => (&[][..], &named[..]),
        };
        positional.iter().chain(named.iter().map(|(_, tensor)| tensor))
    }

    /// Returns the tensors without their names, in the order in which they were given.
    pub fn into_tensors(self) -> Vec<T> {
        match self {
            Self::Positional(tensors) => tensors,
            Self::Named(named) => named.into_iter().map(|(_, tensor)| tensor).collect(),
        }
    }
}

/// The time until which a task may wait before it starts to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// So long after it is handed in.
    In(Duration),
    /// Then, by the clock of the pool's runtime: for a task that is one stage of several, which share one deadline.
    At(Instant),
}

impl Deadline {
    /// Returns the time of a task that is handed in at `now`. A time past all time is none.
    pub fn after(self, now: Instant) -> Option<Instant> {
        match self {
            Self::In(from_now) => now.checked_add(from_now),
            Self::At(at) => Some(at),
        }
    }
}

/// A task as its caller hands it in: tensors, and how it should be treated.
///
/// ```
/// use skep_runtime_core::{Priority, Request};
/// use std::time::Duration;
///
/// let plain: Request<f32> = vec![1.0].into();
/// let urgent = Request::named([("x", 1.0), ("mask", 0.0)])
///     .priority(Priority::URGENT)
///     .deadline(Duration::from_millis(50));
/// # let _ = (plain, urgent);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Request<T> {
    /// The tensors.
    pub inputs: Inputs<T>,
    /// The priority; `None` for the pool's default.
    pub priority: Option<Priority>,
    /// The account on which it runs; `None` for the pool's.
    pub flow: Option<Flow>,
    /// The time until which the task may wait before it starts to run; `None` for the pool's default.
    pub deadline: Option<Deadline>,
}

impl<T> Request<T> {
    /// Creates a task of tensors in the schema's order.
    pub fn new(inputs: Vec<T>) -> Self {
        Self { inputs: Inputs::Positional(inputs), priority: None, flow: None, deadline: None }
    }

    /// Creates a task of tensors by name.
    pub fn named<N: Into<String>>(inputs: impl IntoIterator<Item = (N, T)>) -> Self {
        let inputs = inputs.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        Self { inputs: Inputs::Named(inputs), priority: None, flow: None, deadline: None }
    }

    /// Sets the priority.
    pub fn priority(mut self, priority: impl Into<Option<Priority>>) -> Self {
        self.priority = priority.into();
        self
    }

    /// Sets the account on which the task runs. [`Fair`](crate::Fair) shares the device among accounts.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = Some(flow);
        self
    }

    /// Sets the time that the task may wait before it starts to run. When it is up, the ticket resolves
    /// to [`TaskError::Expired`](crate::TaskError::Expired), also while the device is busy, and the task
    /// never runs. A task that has started is not interrupted. A pool may have a deadline for tasks that name none, and a
    /// latest one.
    pub fn deadline(mut self, from_now: impl Into<Option<Duration>>) -> Self {
        self.deadline = from_now.into().map(Deadline::In);
        self
    }

    /// Sets the time, by the clock of the pool's runtime, at which the task's waiting is over, as
    /// [`deadline`](Self::deadline) does. Of a request in several stages, each stage can be given the same.
    pub fn deadline_at(mut self, at: impl Into<Option<Instant>>) -> Self {
        self.deadline = at.into().map(Deadline::At);
        self
    }

    /// Returns the inputs, and the same request with others in their place.
    pub fn replace_inputs<U>(self, inputs: Inputs<U>) -> (Inputs<T>, Request<U>) {
        (self.inputs, Request { inputs, priority: self.priority, flow: self.flow, deadline: self.deadline })
    }
}

impl<T> From<Vec<T>> for Request<T> {
    fn from(inputs: Vec<T>) -> Self {
        Self::new(inputs)
    }
}
