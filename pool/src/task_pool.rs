//! The pool that applications submit to.

use crate::options::PoolOptions;
use crate::shared::Inner;
use crate::view::View;
use async_trait::async_trait;
use skep_runtime_core::pool::Pool;
use skep_runtime_core::{
    Clock, Counts, DeviceLoss, Front, HostFront, Meter, Padding, Pass, Refused, Request, Schema, StartError,
    Submit, SubmitError, TensorOps, Ticket,
};
use std::fmt;
use std::sync::Arc;

/// Takes tasks for one pass of one block, and cuts them into batches. Cheap to clone.
///
/// Three ways in: [`try_submit`](Self::try_submit) gives the task back when the queue is full,
/// [`submit`](Self::submit) blocks until there is room, [`submit_async`](Self::submit_async) awaits it.
pub struct TaskPool<O: TensorOps> {
    inner: Arc<Inner<O>>,
    /// As the first runtime sees it.
    home: Arc<View<O>>,
}

impl<O: TensorOps> fmt::Debug for TaskPool<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskPool")
            .field("name", &self.name())
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl<O: TensorOps> Clone for TaskPool<O> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), home: Arc::clone(&self.home) }
    }
}

impl<O: TensorOps> TaskPool<O> {
    /// Creates a pool of its own for one pass of a block, to be registered with
    /// [`RuntimeBuilder::pool`](skep_runtime_core::RuntimeBuilder::pool). [`Serve`](crate::Serve) does both.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Setting`] with the option that is out of range.
    pub fn new(
        name: String,
        pass: Pass,
        ops: Arc<O>,
        schema: Schema,
        options: PoolOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        options.check(&name)?;
        let schema = match options.padding.as_ref().and_then(Padding::mask) {
            Some(mask) => schema.without(mask).map_err(|_| StartError::Setting {
                of: format!("pool `{name}`"),
                setting: "padding",
                got: format!("a mask `{mask}`"),
                expected: "an input beside others",
            })?,
            None => schema,
        };
        let schema = if options.finite_inputs == Some(true) { schema.with_finite() } else { schema };
        let inner = Arc::new(Inner::new(name, pass, ops, schema, options, clock));
        let home = Arc::new(View::new(&inner, false));
        Ok(Self { inner, home })
    }

    /// Returns this pool as the runtime sees it.
    pub fn as_pool(&self) -> Arc<dyn Pool<O::Tensor>> {
        if self.home.has_left() { self.as_successor_pool() } else { Arc::clone(&self.home) as Arc<_> }
    }

    /// Returns this pool as the runtime sees it that takes it over.
    pub(crate) fn as_successor_pool(&self) -> Arc<dyn Pool<O::Tensor>> {
        Arc::new(View::new(&self.inner, false))
    }

    /// Returns this pool as a further runtime sees it, which feeds from it beside others: each has a copy of the block, on
    /// a device of its own. [`Serve::join`](crate::Serve::join) does this.
    pub fn as_shared_pool(&self) -> Arc<dyn Pool<O::Tensor>> {
        Arc::new(View::new(&self.inner, true))
    }

    /// Returns a door to this pool that takes and gives plain host tensors. `outputs` is the schema of its answers.
    pub fn front(&self, outputs: Schema) -> Arc<dyn Front> {
        Arc::new(HostFront::new(Arc::clone(&self.inner.ops), Arc::new(self.clone()), outputs))
    }

    /// Returns the pool's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the schema that tasks must fit.
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// Returns the options.
    pub fn options(&self) -> &PoolOptions {
        &self.inner.options
    }

    /// Returns the pool's counts.
    pub fn counts(&self) -> Counts {
        self.inner.counts()
    }

    /// Returns the loss of the runtime's device, since which the pool takes no tasks until another runtime
    /// [takes it over](crate::Serve::take_over).
    pub fn loss(&self) -> Option<DeviceLoss> {
        self.inner.state.lock().loss.clone()
    }

    /// Hands a task in, or gives it back at once.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`], with the reason and the whole request, if the task does not fit the schema, the queue is
    /// full, the device is lost, or the runtime is shut down.
    pub fn try_submit(
        &self,
        request: impl Into<Request<O::Tensor>>,
    ) -> Result<Ticket<O::Tensor>, Refused<O::Tensor>> {
        let mut candidate = self.inner.admit(request.into())?;
        let now = candidate.header.submitted;
        match self.inner.enqueue(&mut candidate, now) {
            Ok(()) => Ok(candidate.ticket),
            Err(error) => Err(self.inner.refuse(error, candidate)),
        }
    }

    /// Hands a task in. Blocks while the queue is full.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`] as [`try_submit`](Self::try_submit) does, but for a full queue only if the task's deadline
    /// passes first. On a thread of the runtime itself, which would wait for itself, a full queue is
    /// [`SubmitError::WouldDeadlock`].
    pub fn submit(
        &self,
        request: impl Into<Request<O::Tensor>>,
    ) -> Result<Ticket<O::Tensor>, Refused<O::Tensor>> {
        let mut candidate = self.inner.admit(request.into())?;
        let refuse = |inner: &Inner<O>| inner.is_own_thread().then_some(SubmitError::WouldDeadlock);
        let entered = match self.inner.enqueue_or_wait(&mut candidate, refuse) {
            Ok(None) => Ok(()),
            Ok(Some(waiter)) => waiter.wait(&mut candidate),
            Err(error) => Err(error),
        };
        match entered {
            Ok(()) => Ok(candidate.ticket),
            Err(error) => Err(self.inner.refuse(error, candidate)),
        }
    }

    /// Hands a task in. Awaits room while the queue is full. Dropping the future gives the task up.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`] as [`try_submit`](Self::try_submit) does, but for a full queue only if the task's deadline
    /// passes first.
    pub async fn submit_async(
        &self,
        request: impl Into<Request<O::Tensor>> + Send,
    ) -> Result<Ticket<O::Tensor>, Refused<O::Tensor>> {
        let mut candidate = self.inner.admit(request.into())?;
        let entered = match self.inner.enqueue_or_wait(&mut candidate, |_| None) {
            Ok(None) => Ok(()),
            Ok(Some(waiter)) => waiter.hear(&mut candidate).await,
            Err(error) => Err(error),
        };
        match entered {
            Ok(()) => Ok(candidate.ticket),
            Err(error) => Err(self.inner.refuse(error, candidate)),
        }
    }
}

#[async_trait]
impl<O: TensorOps> Submit<O::Tensor> for TaskPool<O> {
    fn name(&self) -> &str {
        self.name()
    }

    fn schema(&self) -> &Schema {
        self.schema()
    }

    fn try_submit(&self, request: Request<O::Tensor>) -> Result<Ticket<O::Tensor>, Refused<O::Tensor>> {
        self.try_submit(request)
    }

    async fn submit_async(
        &self,
        request: Request<O::Tensor>,
    ) -> Result<Ticket<O::Tensor>, Refused<O::Tensor>> {
        self.submit_async(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_runtime_core::testing::{FakeDevice, FakeTensor, ManualClock};
    use skep_runtime_core::{DType, RuntimeId, Shutdown, TaskError, TensorSpec};
    use std::time::Duration;

    /// A runtime whose device was lost may be late with what it had begun: another one's pool does not heed it.
    #[test]
    fn a_former_owner_is_not_heeded() {
        let schema = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
        let (device, clock) = (Arc::new(FakeDevice::new()), ManualClock::new());
        let options = PoolOptions::default();
        let pool = TaskPool::new("p".to_owned(), Pass::Forward, device, schema, options, clock).unwrap();
        let [former, owner] = [(); 2].map(|()| RuntimeId::next());
        let inner = pool.as_pool();
        assert!(inner.claim(former));
        assert!(!inner.claim(owner));
        assert!(inner.claim(former), "its own");
        let loss = DeviceLoss::Stuck { work: "a batch".into(), limit: Duration::from_secs(1) };
        inner.lose(former, &loss);
        assert!(!inner.claim(owner), "its counts are the former's for good");
        let [next, last] = [(); 2].map(|()| pool.as_pool());
        assert!(next.claim(owner));
        inner.lose(former, &loss);
        inner.close(former, Shutdown::Abort);
        assert!(!last.claim(former));
        // Gives up before it starts: the pool is lost as before.
        next.close(owner, Shutdown::Abort);
        assert!(last.claim(former));
    }

    #[test]
    fn a_pool_that_is_dropped_answers_what_waits() {
        let schema = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
        let (device, clock) = (Arc::new(FakeDevice::new()), ManualClock::new());
        let pool =
            TaskPool::new("p".to_owned(), Pass::Forward, device, schema, PoolOptions::default(), clock)
                .unwrap();
        let ticket = pool.submit(vec![FakeTensor::rows(&[[1.0]])]).unwrap();
        drop(pool);
        assert!(matches!(ticket.wait(), Err(TaskError::ShutDown)));
    }
}
