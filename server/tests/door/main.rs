//! The doors of a live server, in this process and on a port of the system's choice.

mod drain;
mod kit;
mod limits;
mod program;
mod texts;
mod v2;
