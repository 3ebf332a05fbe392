//! Blocks by name, apart from their arithmetic.

use crate::config::{Config, ConfigError};
use skep_runtime_core::{Schema, TensorSpec};
use std::path::PathBuf;

/// A block by name, apart from its arithmetic: its settings, and what goes in and comes out.
pub trait Spec: Sized + Send + 'static {
    /// The name of the kind in a [`Registry`](crate::Registry).
    const KIND: &'static str;

    /// Reads the settings, which have the names of the fields.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if a setting is missing, unknown or of another type.
    fn from_config(config: &Config) -> Result<Self, ConfigError>;

    /// Checks the settings, and says what goes in and comes out.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] that names the first setting that cannot be used.
    fn signature(&self) -> Result<Signature, ConfigError>;
}

/// The tensors that go into a block and come out of it, and all else that follows from its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The inputs of the forward pass.
    pub inputs: Schema,
    /// The outputs of the forward pass; `None` to have them found by a dummy run.
    pub outputs: Option<Schema>,
    /// The safetensors file that all parameters come from; `None` to have them drawn.
    pub weights: Option<PathBuf>,
    /// True if the block can be called backward.
    pub backward: bool,
}

impl Signature {
    /// Makes the signature of a block that can be trained, with parameters that are drawn.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the tensors make no valid schema.
    pub fn new(inputs: Vec<TensorSpec>, outputs: Vec<TensorSpec>) -> Result<Self, ConfigError> {
        let outputs = Some(schema(outputs)?);
        Ok(Self { inputs: schema(inputs)?, outputs, weights: None, backward: true })
    }
}

/// Makes a schema of tensors whose names and dims come from a block's settings.
///
/// # Errors
///
/// Returns a [`ConfigError`] if they make no valid schema.
pub fn schema(tensors: Vec<TensorSpec>) -> Result<Schema, ConfigError> {
    Ok(Schema::new(tensors)?)
}

/// Refuses the first size that is 0.
pub(super) fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), ConfigError> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((key, size)) => Err(ConfigError::invalid(key, size, "at least 1")),
        None => Ok(()),
    }
}
