//! Tensors on the wire: their types by name, their elements as JSON and as bytes, and what becomes of them.

pub(crate) mod classify;
pub(crate) mod coerce;
pub(crate) mod datatype;
pub(crate) mod json;
