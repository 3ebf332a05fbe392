//! The door for front ends that know no tensor type: plain host tensors, by name.

use crate::contract::error::device::DeviceError;
use crate::contract::error::kind::ErrorKind;
use crate::contract::error::submit::{Refused, SubmitError};
use crate::contract::error::task::TaskError;
use crate::contract::request::{Inputs, Request};
use crate::contract::schema::Schema;
use crate::contract::submit::Submit;
use crate::contract::tensor::HostTensor;
use crate::contract::tensor_ops::TensorOps;
use crate::sync::guarded;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// Host tensors by name, in a schema's order.
pub type NamedTensors = Vec<(String, HostTensor)>;

/// The reason why a [`Front`] has no outputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// The task was refused; the request comes back.
    #[error(transparent)]
    Refused(Refused<HostTensor>),
    /// The task was accepted and has no outputs.
    #[error(transparent)]
    Task(TaskError),
    /// An output cannot be read into plain bytes.
    #[error("output `{name}` cannot be read")]
    Output {
        /// The output's name.
        name: String,
        /// The device's error.
        source: DeviceError,
    },
}

impl FrontError {
    /// Returns the kind of this error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refused) => refused.error.kind(),
            Self::Task(error) => error.kind(),
            Self::Output { .. } => ErrorKind::Failed,
        }
    }
}

/// One pass of one block as a network server needs it: object-safe, over plain host tensors, by name.
///
/// Dropping a future gives the task up: it is cancelled if it has not been cut into a batch.
#[async_trait]
pub trait Front: Send + Sync {
    /// Returns the name of the pool behind it.
    fn name(&self) -> &str;

    /// Returns the schema of the inputs.
    fn inputs(&self) -> &Schema;

    /// Returns the schema of the outputs.
    fn outputs(&self) -> &Schema;

    /// Runs a task, waiting for room in the queue. Returns its outputs in the schema's order.
    ///
    /// # Errors
    ///
    /// Returns [`FrontError::Refused`] if the task does not fit the schema, its deadline passes before there is room,
    /// or no tasks are taken any more; [`FrontError::Task`] if it was accepted and has no outputs; and
    /// [`FrontError::Output`] if an output has no representation in plain bytes.
    async fn call(&self, request: Request<HostTensor>) -> Result<NamedTensors, FrontError>;

    /// Runs a task, which is refused if the queue is full.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`call`](Self::call), and [`FrontError::Refused`] if the queue is full.
    async fn try_call(&self, request: Request<HostTensor>) -> Result<NamedTensors, FrontError>;
}

/// A [`Front`] onto a pool whose tensors are another type, which `ops` converts.
pub struct HostFront<O: TensorOps> {
    ops: Arc<O>,
    pool: Arc<dyn Submit<O::Tensor>>,
    outputs: Schema,
}

impl<O: TensorOps> fmt::Debug for HostFront<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFront").field("pool", &self.pool.name()).finish_non_exhaustive()
    }
}

impl<O: TensorOps> HostFront<O> {
    /// Creates the front of a pool that answers with tensors of the schema `outputs`.
    pub fn new(ops: Arc<O>, pool: Arc<dyn Submit<O::Tensor>>, outputs: Schema) -> Self {
        Self { ops, pool, outputs }
    }

    fn convert(&self, tensor: &HostTensor) -> Result<O::Tensor, SubmitError> {
        guarded(|| self.ops.from_host(tensor))
            .unwrap_or_else(|message| Err(DeviceError::operation(message)))
            .map_err(|error| SubmitError::Unreadable(Arc::new(error)))
    }

    fn convert_all(&self, inputs: &Inputs<HostTensor>) -> Result<Inputs<O::Tensor>, SubmitError> {
        Ok(match inputs {
            Inputs::Positional(tensors) => Inputs::Positional(
                tensors.iter().map(|tensor| self.convert(tensor)).collect::<Result<_, _>>()?,
            ),
            Inputs::Named(named) => {
                let convert = |(name, tensor): &(String, _)| Ok((name.clone(), self.convert(tensor)?));
                Inputs::Named(named.iter().map(convert).collect::<Result<_, SubmitError>>()?)
            }
        })
    }

    fn read(&self, outputs: Vec<O::Tensor>) -> Result<NamedTensors, FrontError> {
        let names = self.outputs.tensors().iter().map(|spec| spec.name().to_owned());
        let read = |(name, tensor): (String, O::Tensor)| match guarded(|| self.ops.to_host(&tensor)) {
            Ok(Ok(tensor)) => Ok((name, tensor)),
            Ok(Err(source)) => Err(FrontError::Output { name, source }),
            Err(message) => Err(FrontError::Output { name, source: DeviceError::operation(message) }),
        };
        names.zip(outputs).map(read).collect()
    }
}

#[async_trait]
impl<O: TensorOps> Front for HostFront<O> {
    fn name(&self) -> &str {
        self.pool.name()
    }

    fn inputs(&self) -> &Schema {
        self.pool.schema()
    }

    fn outputs(&self) -> &Schema {
        &self.outputs
    }

    async fn call(&self, request: Request<HostTensor>) -> Result<NamedTensors, FrontError> {
        let converted = match self.convert_all(&request.inputs) {
            Ok(converted) => converted,
            Err(error) => return Err(FrontError::Refused(Refused::new(error, request))),
        };
        let (given, request) = request.replace_inputs(converted);
        match self.pool.submit_async(request).await {
            Ok(ticket) => self.read(ticket.await.map_err(FrontError::Task)?),
            Err(refused) => Err(given_back(given, refused)),
        }
    }

    async fn try_call(&self, request: Request<HostTensor>) -> Result<NamedTensors, FrontError> {
        let converted = match self.convert_all(&request.inputs) {
            Ok(converted) => converted,
            Err(error) => return Err(FrontError::Refused(Refused::new(error, request))),
        };
        let (given, request) = request.replace_inputs(converted);
        match self.pool.try_submit(request) {
            Ok(ticket) => self.read(ticket.await.map_err(FrontError::Task)?),
            Err(refused) => Err(given_back(given, refused)),
        }
    }
}

/// The refusal of a request with the inputs as they were given.
fn given_back<T>(given: Inputs<HostTensor>, refused: Refused<T>) -> FrontError {
    let (error, request) = refused.into_parts();
    FrontError::Refused(Refused::new(error, request.replace_inputs(given).1))
}
