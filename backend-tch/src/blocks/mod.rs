//! Blocks by name, as libtorch computes them. The `toolkit` says what those are that every backend has.

mod det_dropout;
mod ffn;
mod inputs_text;
mod nested;
mod nop;
mod package;
mod torch_script;
mod transformer;

use tch::{TchError, Tensor};

#[cfg(feature = "models")]
pub use crate::encoder::TextModel;
pub use crate::shim::Value;
pub use package::{Package, PackageError};
pub use skep_toolkit::blocks::{
    Activation, DetDropout, Ffn, Nop, NopDelay, Signature, Spec, Transformer, UnknownActivation,
};
pub use torch_script::{ScriptError, State, TorchScript};

/// Applies the function between two linear layers.
fn activate(activation: Activation, x: &Tensor) -> Result<Tensor, TchError> {
    match activation {
        Activation::Gelu => x.f_gelu("none"),
        Activation::Relu => x.f_relu(),
    }
}
