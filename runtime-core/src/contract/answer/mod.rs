//! Both ends of one answer: the caller's ticket and the runtime's reply.

pub(crate) mod cell;
pub(crate) mod parts;
pub(crate) mod reply;
pub(crate) mod ticket;
