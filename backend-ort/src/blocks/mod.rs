//! Blocks by name, as ONNX Runtime computes them, and ONNX files. The `toolkit` says what the former are.

mod det_dropout;
mod ffn;
mod nop;
mod onnx;
mod parameters;
mod transformer;

#[cfg(feature = "models")]
pub use crate::encoder::TextModel;
pub use crate::onnx::read::OnnxError;
pub use onnx::Onnx;
pub use skep_toolkit::blocks::{
    Activation, DetDropout, Ffn, Nop, NopDelay, Signature, Spec, Transformer, UnknownActivation,
};
