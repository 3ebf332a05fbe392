//! A server under attack: it panics at nothing, takes no more memory than before, and others are served meanwhile.
//!
//! The server is the program itself, in a process of its own: what it logs, its memory and its descriptors can be looked at,
//! and it has as many of the latter as those who attack it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod connections;
mod fuzz;
mod http2;
mod slow;
mod target;
mod tensors;
