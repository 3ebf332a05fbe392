//! Everybody who takes part.

pub(crate) mod amate;
pub(crate) mod batch_aint_one;
pub(crate) mod batched_fn;
pub(crate) mod floor;
pub(crate) mod skep;

/// The most rows of a batch, for every system.
pub(crate) const MAX_ROWS: usize = 64;

/// The most tasks that may wait, for every system that has such a bound.
pub(crate) const CAPACITY: usize = 4096;
