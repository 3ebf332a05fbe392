//! Decisions over plain values: no lock, no clock, no thread.

pub(crate) mod aging;
pub(crate) mod back;
pub(crate) mod ceiling;
pub(crate) mod company;
pub(crate) mod cost;
pub(crate) mod curve;
pub(crate) mod earliest_deadline;
pub(crate) mod index;
pub(crate) mod likeness;
pub(crate) mod oldest_first;
pub(crate) mod overlap;
pub(crate) mod prices;
pub(crate) mod residents;
pub(crate) mod selector;
pub(crate) mod tags;
pub(crate) mod timing;
