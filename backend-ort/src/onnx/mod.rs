//! ONNX files: read before they are loaded, and written where a graph is made here.

pub(crate) mod read;
mod wire;
pub(crate) mod write;
