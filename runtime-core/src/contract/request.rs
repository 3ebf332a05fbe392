//! Requests: tasks as their callers hand them in.

use crate::contract::priority::Priority;
use std::time::Duration;

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
pub struct Request<T> {
    /// The tensors.
    pub inputs: Inputs<T>,
    /// The priority; `None` for the pool's default.
    pub priority: Option<Priority>,
    /// The time that the task may wait, from now, before it starts to run; `None` for as long as it takes.
    pub deadline: Option<Duration>,
}

impl<T> Request<T> {
    /// Creates a task of tensors in the schema's order.
    pub fn new(inputs: Vec<T>) -> Self {
        Self { inputs: Inputs::Positional(inputs), priority: None, deadline: None }
    }

    /// Creates a task of tensors by name.
    pub fn named<N: Into<String>>(inputs: impl IntoIterator<Item = (N, T)>) -> Self {
        let inputs = inputs.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        Self { inputs: Inputs::Named(inputs), priority: None, deadline: None }
    }

    /// Sets the priority.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the time that the task may wait before it starts to run. When it is up, the ticket resolves
    /// to [`TaskError::Expired`](crate::TaskError::Expired), also while the device is busy, and the task
    /// never runs. A task that has started is not interrupted.
    pub fn deadline(mut self, from_now: impl Into<Option<Duration>>) -> Self {
        self.deadline = from_now.into();
        self
    }
}

/// Lets a request that was refused be handed in again.
impl<T> From<Box<Request<T>>> for Request<T> {
    fn from(request: Box<Self>) -> Self {
        *request
    }
}

impl<T> From<Vec<T>> for Request<T> {
    fn from(inputs: Vec<T>) -> Self {
        Self::new(inputs)
    }
}
