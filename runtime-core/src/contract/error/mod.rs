//! Errors, by who meets them.

pub(crate) mod batch;
pub(crate) mod cause;
pub(crate) mod control;
pub(crate) mod device;
pub(crate) mod device_loss;
pub(crate) mod kind;
pub(crate) mod of_rows;
pub(crate) mod submit;
pub(crate) mod task;
