//! Decisions over plain values: no lock, no clock, no thread.

pub(crate) mod ceiling;
pub(crate) mod cost;
pub(crate) mod index;
pub(crate) mod oldest_first;
pub(crate) mod overlap;
pub(crate) mod rank;
