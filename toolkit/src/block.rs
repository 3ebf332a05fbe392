//! What blocks check before they compute.

use super::config::ConfigError;
use skep_runtime_core::BoxError;
use skep_runtime_core::Device;
use skep_runtime_core::{Schema, TensorSpec};

/// Why a block could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// `load` comes first.
    #[error("block is not loaded onto a device")]
    NotLoaded,
    /// The block was made for inference only.
    #[error("block has no backward pass")]
    InferenceOnly,
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

/// Whether there is one gradient for each output, with its dims.
///
/// # Errors
///
/// [`BlockError::WrongGradients`], [`BlockError::WrongGradientDims`], or the device's error where a tensor cannot
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

/// Refuses the first size that is 0.
///
/// # Errors
///
/// Names it.
pub fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((key, size)) => Err(ConfigError::invalid(key, size, "at least 1")),
        None => Ok(()),
    }
}

/// A schema of tensors whose names and dims come from a block's settings.
///
/// # Errors
///
/// When they make no valid schema.
pub fn schema(tensors: Vec<TensorSpec>) -> Result<Schema, ConfigError> {
    Schema::new(tensors).map_err(|error| ConfigError::invalid("schema", error, "a valid schema"))
}
