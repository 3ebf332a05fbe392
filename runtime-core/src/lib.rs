//! The contracts and the runtime of Skep, which runs many model blocks on one shared device.
//!
//! Concurrent callers hand small tasks to pools; the runtime joins them into batches, always runs the most
//! urgent batch next, gathers the one after meanwhile, and gives every caller exactly one answer. This
//! crate knows no tensor library: a backend crate brings the [`Device`] and the blocks, and `skep-pool`
//! brings the queue. An application depends on a backend crate and gets all of this with it.
//!
//! # The life of a task
//!
//! The modules stand in the order in which a task meets them:
//!
//! 1. **submit**: a caller hands a [`Request`] to a pool ([`Submit`]). It is checked against the block's
//!    [`Schema`]; a bad one comes back as [`Refused`], a good one is answered through its [`Ticket`].
//! 2. **queue**: it waits in its [`Pool`] by [`Priority`]. A pool with news rings its [`Doorbell`].
//! 3. **choose**: when there is room, the most urgent pool is found, and only then is its batch cut.
//! 4. **gather**: [`Device::gather`] joins the inputs and places them on the device.
//! 5. **run**: the device thread calls [`Backend::forward`] or [`Backend::backward`], and does nothing else.
//! 6. **scatter**: senders bring the outputs back ([`Device::scatter`]) and complete the tickets.
//! 7. **account**: an [`Observer`] is told, once per batch.
//!
//! ```
//! use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
//! use skep_runtime_core::{RuntimeBuilder, Shutdown};
//! use std::time::Duration;
//!
//! let mut builder = RuntimeBuilder::new(FakeDevice::new()).prefetch(1).senders(1);
//! builder.block(FnBlock::rows("double", 1, |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 2.0 * v)])))?;
//! // With skep-pool, `builder.serve(block, options)` also makes the block's pools.
//! let runtime = builder.start()?;
//! assert!(runtime.is_running());
//! runtime.shutdown(Shutdown::Drain, Duration::from_secs(1))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `testing` adds [`testing`]: a fake device, blocks made of closures, and a clock that a test moves.
#![forbid(unsafe_code)]

mod priority;
mod schema;
mod submit;
mod tensor;
mod ticket;

mod pool;

mod backend;
mod device;

mod runtime;

mod event;

mod clock;
mod error;
pub mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use backend::{Backend, BlockInfo, BlockState};
pub use clock::{Clock, SystemClock};
pub use device::{Device, MemoryInfo, Pass};
pub use error::{
    BatchError, BoxError, ControlError, DeviceError, DeviceLoss, Refused, SchemaError, ShutdownError,
    StartError, SubmitError, TaskError,
};
pub use event::{BatchEvent, Observer, Unrun};
pub use pool::{Batch, BatchTask, Counts, FailureRules, Look, Meter, Pool, PoolId, Shutdown};
pub use priority::{Priority, Urgency};
pub use runtime::{
    BlockId, Doorbell, Handle, Health, Ready, RunningRuntime, Runtime, RuntimeBuilder, RuntimeId,
};
pub use schema::{Dim, Schema, Shape, TensorSpec};
pub use submit::{Inputs, Request, Submit};
pub use tensor::{DType, Dims, HostTensor, TensorInfo, WrongByteCount};
pub use ticket::{Cancel, JoinParts, Reply, Settled, TaskKey, TaskResult, Ticket};
