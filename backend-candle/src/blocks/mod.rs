//! Blocks by name, as candle computes them. The `toolkit` says what they are.

mod det_dropout;
mod ffn;
mod nop;
mod transformer;

#[cfg(feature = "models")]
pub use crate::encoder::TextModel;
pub use skep_toolkit::blocks::{
    Activation, DetDropout, Ffn, Nop, NopDelay, Signature, Spec, Transformer, UnknownActivation,
};
