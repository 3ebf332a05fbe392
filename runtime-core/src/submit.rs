//! What a caller hands in, and the door for front ends.

use crate::error::Refused;
use crate::priority::Priority;
use crate::schema::Schema;
use crate::ticket::Ticket;
use async_trait::async_trait;
use std::time::Duration;

/// The tensors of a task.
#[derive(Debug)]
pub enum Inputs<T> {
    /// In the schema's order.
    Positional(Vec<T>),
    /// By the schema's names, in any order.
    Named(Vec<(String, T)>),
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
    /// How urgent the task is; `None` for the pool's default.
    pub priority: Option<Priority>,
    /// How long the task may wait, from now, before it starts to run; `None` for as long as it takes.
    pub deadline: Option<Duration>,
}

impl<T> Request<T> {
    /// A task of tensors in the schema's order.
    pub fn new(inputs: Vec<T>) -> Self {
        Self { inputs: Inputs::Positional(inputs), priority: None, deadline: None }
    }

    /// A task of tensors by name.
    pub fn named<N: Into<String>>(inputs: impl IntoIterator<Item = (N, T)>) -> Self {
        let inputs = inputs.into_iter().map(|(name, tensor)| (name.into(), tensor)).collect();
        Self { inputs: Inputs::Named(inputs), priority: None, deadline: None }
    }

    /// Sets how urgent the task is.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets how long the task may wait before it starts to run. When the time is up, its ticket resolves
    /// to [`TaskError::Expired`](crate::TaskError::Expired), also while the device is busy, and the task
    /// never runs. A task that has started is not interrupted.
    pub fn deadline(mut self, from_now: impl Into<Option<Duration>>) -> Self {
        self.deadline = from_now.into();
        self
    }
}

impl<T> From<Vec<T>> for Request<T> {
    fn from(inputs: Vec<T>) -> Self {
        Self::new(inputs)
    }
}

/// The door for front ends that hold `Arc<dyn Submit<T>>` and need not know the pool behind it.
#[async_trait]
pub trait Submit<T: Send + 'static>: Send + Sync {
    /// The name of what answers.
    fn name(&self) -> &str;

    /// What a task must look like.
    fn schema(&self) -> &Schema;

    /// Hands a task in, or gives it back at once.
    ///
    /// # Errors
    ///
    /// The task was refused: its error and its inputs.
    fn try_submit(&self, request: Request<T>) -> Result<Ticket<T>, Refused<T>>;

    /// Hands a task in, waiting for room in the queue without blocking the thread.
    ///
    /// # Errors
    ///
    /// The task was refused for another reason than a full queue, or the wait for room outlasted the task's
    /// deadline.
    async fn submit(&self, request: Request<T>) -> Result<Ticket<T>, Refused<T>>;
}
