//! The door for front ends that know the tensor type.

use crate::contract::answer::ticket::Ticket;
use crate::contract::error::submit::Refused;
use crate::contract::request::Request;
use crate::contract::schema::Schema;
use async_trait::async_trait;

/// The door for front ends that hold `Arc<dyn Submit<T>>` and need not know the pool behind it.
#[async_trait]
pub trait Submit<T: Send + 'static>: Send + Sync {
    /// Returns the name of the pool.
    fn name(&self) -> &str;

    /// Returns the schema that tasks must fit.
    fn schema(&self) -> &Schema;

    /// Hands a task in, or gives it back at once.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`], with the reason and the whole request, if the task does not fit the schema, the queue is
    /// full, or no tasks are taken any more.
    fn try_submit(&self, request: Request<T>) -> Result<Ticket<T>, Refused<T>>;

    /// Hands a task in, waiting for room in the queue without blocking the thread.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`] as [`try_submit`](Self::try_submit) does, but for a full queue only if the task's deadline
    /// passes first.
    async fn submit_async(&self, request: Request<T>) -> Result<Ticket<T>, Refused<T>>;
}
