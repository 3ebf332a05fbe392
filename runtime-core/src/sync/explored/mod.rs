//! What stands in for flume and event-listener where interleavings are explored, because neither can be put
//! under that scheduler. Only what this project uses, with the meaning that it relies on.
//!
//! There is no time here: a wait with a limit ends when what it waits for comes, or at once where the limit
//! has passed already.

pub mod event_listener;
pub mod flume;
