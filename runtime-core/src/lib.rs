//! The contracts and the runtime of Skep.
#![forbid(unsafe_code)]

mod priority;
mod tensor;
mod schema;
mod submit;
mod ticket;
mod pool;
mod device;
mod backend;
mod event;
mod error;
mod clock;
mod runtime;
pub mod sync;

pub use backend::{Backend, BlockInfo, BlockState};
pub use clock::{Clock, SystemClock};
pub use device::{Device, MemoryInfo, Pass};
pub use error::{
    BatchError, BoxError, ControlError, DeviceError, Refused, SchemaError, ShutdownError, StartError,
    SubmitError, TaskError,
};
pub use event::{BatchEvent, Observer, Unrun};
pub use pool::{Batch, BatchTask, Close, Counts, Look, Meter, Pool, PoolId};
pub use priority::{Priority, Urgency};
pub use runtime::{Doorbell, RuntimeId};
pub use schema::{Dim, Schema, Shape, TensorSpec};
pub use submit::{Inputs, Request, Submit};
pub use tensor::{DType, Dims, HostTensor, TensorInfo, WrongByteCount};
pub use ticket::{Cancel, JoinParts, Reply, Settled, TaskKey, TaskResult, Ticket};
