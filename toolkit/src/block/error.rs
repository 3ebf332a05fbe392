//! What blocks check before they compute.

use super::names::Names;
use skep_runtime_core::{BoxError, DType, Device};
use std::path::PathBuf;

/// The reason why a block could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// `load` comes first.
    #[error("block is not loaded onto a device")]
    NotLoaded,
    /// The block was made for inference only.
    #[error("block has no backward pass")]
    InferenceOnly,
    /// A parameter has an element type that no step can change.
    #[error("parameter `{parameter}` is {dtype}, expected f32, f64, f16 or bf16 to be trained")]
    NotTrainable {
        /// The parameter.
        parameter: String,
        /// Its element type.
        dtype: DType,
    },
    /// A weights file is named for a block that takes its parameters from elsewhere, or has none.
    #[error("no parameter of the block is taken from the weights file {}: leave it out", .file.display())]
    UnusedWeights {
        /// The file.
        file: PathBuf,
    },
    /// The block has an optimizer, and no parameter that it could step.
    #[error(
        "block has an optimizer and no parameter to train: parameters that are to stay as they are need none, those of a \
         TorchScript file must require a gradient there"
    )]
    NothingToTrain,
    /// When layers were made anew, they asked for a parameter that they had not asked for at first.
    #[error("layers ask for `{parameter}`, which they did not ask for when the block was loaded")]
    OtherParameter {
        /// The parameter.
        parameter: String,
    },
    /// Outputs change by something else than gradients say.
    #[error(
        "gradients of {} are not those of the outputs: along one direction the first changes them by {differences:e}, and its \
         gradient says {gradient:e}. An operation on the way has no backward pass, or another one; nothing was stepped",
        Names(.tensors)
    )]
    OtherGradients {
        /// The parameters, and the inputs with that word before their name.
        tensors: Vec<String>,
        /// What the outputs, weighted with their gradients, change by when the first is moved a little.
        differences: f64,
        /// What the gradient says that they change by.
        gradient: f64,
    },
    /// Gradients are to be compared with differences, and a tensor is too coarse for small ones.
    #[error("`{tensor}` is {dtype}, expected f32 or f64 for a gradient that is compared with differences")]
    NotComparable {
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: DType,
    },
    /// As many gradients as outputs are needed.
    #[error("block got {got} gradients, expected {expected}")]
    WrongGradients {
        /// The block's outputs.
        expected: usize,
        /// The gradients that came.
        got: usize,
    },
    /// A gradient has other dims than its output.
    #[error("gradient {output} has dims {got:?}, expected {expected:?}")]
    WrongGradientDims {
        /// The position of the output.
        output: usize,
        /// The output's dims.
        expected: Vec<usize>,
        /// The gradient's dims.
        got: Vec<usize>,
    },
}

/// Checks that there is one gradient for each output, with its dims.
///
/// # Errors
///
/// Returns [`BlockError::WrongGradients`], [`BlockError::WrongGradientDims`], or the device's error if a tensor cannot
/// be described.
pub fn check_gradients<D: Device>(
    device: &D,
    outputs: &[D::Tensor],
    gradients: &[D::Tensor],
) -> Result<(), BoxError> {
    if outputs.len() != gradients.len() {
        return Err(BlockError::WrongGradients { expected: outputs.len(), got: gradients.len() }.into());
    }
    for (i, (output, gradient)) in outputs.iter().zip(gradients).enumerate() {
        let (expected, got) = (device.describe(output)?.dims, device.describe(gradient)?.dims);
        if expected != got {
            let (expected, got) = (expected.to_vec(), got.to_vec());
            return Err(BlockError::WrongGradientDims { output: i, expected, got }.into());
        }
    }
    Ok(())
}
