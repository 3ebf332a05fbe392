//! The contracts and the runtime of Skep.
#![forbid(unsafe_code)]

mod backend;
mod clock;
mod device;
mod error;
mod event;
mod pool;
mod priority;
mod runtime;
mod schema;
mod submit;
pub mod sync;
mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod ticket;

pub use backend::{Backend, BlockInfo, BlockState};
pub use clock::{Clock, SystemClock};
pub use device::{Device, MemoryInfo, Pass};
pub use error::{
    BatchError, BoxError, ControlError, DeviceError, Refused, SchemaError, ShutdownError, StartError,
    SubmitError, TaskError,
};
pub use event::{BatchEvent, Observer, Unrun};
pub use pool::{Batch, BatchTask, Counts, Look, Meter, Pool, PoolId, Shutdown};
pub use priority::{Priority, Urgency};
pub use runtime::{BlockId, Doorbell, Handle, Ready, RunningRuntime, Runtime, RuntimeBuilder, RuntimeId};
pub use schema::{Dim, Schema, Shape, TensorSpec};
pub use submit::{Inputs, Request, Submit};
pub use tensor::{DType, Dims, HostTensor, TensorInfo, WrongByteCount};
pub use ticket::{Cancel, JoinParts, Reply, Settled, TaskKey, TaskResult, Ticket};
