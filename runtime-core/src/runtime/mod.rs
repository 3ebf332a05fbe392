//! The runtime: from a ring at the door to an answered ticket, in the order of the files below.

// A batch on its way.
mod batch;
mod flight;
mod halves;
mod trial;

// Tables and places.
mod blocks;
mod directory;
mod goods;
mod slots;
mod stage;

// The steps of a batch.
mod choose;
mod culprits;
mod expire;
mod failure;
mod gather;
mod learn;
pub(crate) mod lengths;
mod padded;
mod piece;
pub(crate) mod plan;
mod ragged;
mod sharing;
mod spares;
mod verify;
mod verifying;

// Orders of work that remember what has run.
pub(crate) mod classes;
pub(crate) mod fair;

// The threads, and what they share.
mod bells;
mod crew;
mod device_thread;
mod loader;
mod outside;
mod park;
mod porter;
mod sender;
mod shared;
mod teller;
mod timer;
mod watch;
mod work;

// Start, control and end.
mod arrive;
pub(crate) mod builder;
mod close;
pub(crate) mod handle;
mod leave;
pub(crate) mod loaded;
mod loss;
mod probe;
pub(crate) mod reloadable;
mod residence;
pub(crate) mod running;
mod settings;
#[cfg(any(test, feature = "testing"))]
mod settle;
pub(crate) mod status;
mod warm;
