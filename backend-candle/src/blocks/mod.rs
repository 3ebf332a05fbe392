//! Blocks that come with Skep. Each is a plain type with its sizes, made into a block by its method `block`.

#[cfg(feature = "bert")]
mod bert;
mod det_dropout;
mod ffn;
mod nop;
mod transformer;

use candle_core::{Result, Tensor};

#[cfg(feature = "bert")]
pub use bert::Bert;
pub use det_dropout::DetDropout;
pub use ffn::Ffn;
pub use nop::{Nop, NopDelay};
pub use skep_toolkit::{Activation, UnknownActivation};
pub use transformer::Transformer;

/// What comes out between two linear layers.
fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::Relu => x.relu(),
    }
}
