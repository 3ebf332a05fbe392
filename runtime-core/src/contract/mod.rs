//! The contracts: what callers, pools, backends and observers may rely on. Nothing here knows of the runtime.

pub(crate) mod answer;
pub(crate) mod backend;
pub(crate) mod batch;
pub(crate) mod clock;
pub(crate) mod device;
pub(crate) mod dims;
pub(crate) mod doorbell;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod flow;
pub(crate) mod front;
pub(crate) mod id;
pub(crate) mod meter;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod price;
pub(crate) mod priority;
pub(crate) mod rank;
pub(crate) mod request;
pub(crate) mod schema;
pub(crate) mod submit;
pub(crate) mod task;
pub(crate) mod tensor;
pub(crate) mod tensor_ops;
pub(crate) mod thread_mark;
pub(crate) mod verify;
