//! Blocks by name, as candle computes them. The `toolkit` says what they are.

mod det_dropout;
mod ffn;
mod nop;
mod transformer;

use candle_core::{Result, Tensor};

#[cfg(feature = "models")]
pub use crate::encoder::TextModel;
pub use skep_toolkit::blocks::{
    Activation, DetDropout, Ffn, Nop, NopDelay, Signature, Spec, Transformer, UnknownActivation,
};

/// Applies the function between two linear layers.
fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::Relu => x.relu(),
    }
}
