//! Optimizers as numbers; the arithmetic on tensors is the backend's.

pub(crate) mod optimizer;
pub(crate) mod schedule;
pub(crate) mod stepper;
