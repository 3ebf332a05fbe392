//! Parameters from a safetensors file.

use crate::dtype::FILES;
use safetensors::SafeTensors;
use skep_runtime_core::{BoxError, HostTensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The reason why a weights file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file is missing or cannot be read.
    #[error("weights file {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not a whole safetensors file: torn, or something else.
    #[error("weights file {} is not a whole safetensors file", .path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// The error in it.
        source: BoxError,
    },
}

/// The reason why a layer does not get a parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// The weights file lacks it.
    #[error("weights file has no tensor `{name}`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// It has other dims than its layer needs.
    #[error("tensor `{name}` has dims {got:?}, expected {expected:?}")]
    WrongDims {
        /// Its name.
        name: String,
        /// The dims that the layer asks for.
        expected: Vec<usize>,
        /// The dims that it has.
        got: Vec<usize>,
    },
    /// It has an element type in the weights file that cannot be read.
    #[error("tensor `{name}` of the weights file has a dtype that is not supported")]
    WrongDType {
        /// Its name.
        name: String,
    },
    /// A layer asks for whatever the weights file holds, and there is no file.
    #[error("tensor `{name}` is asked for without dims, which needs a weights file")]
    NoDims {
        /// Its name.
        name: String,
    },
}

/// The tensors of a weights file by name.
#[derive(Debug)]
pub struct Weights {
    /// `None` for one of an element type that no parameter can have.
    tensors: BTreeMap<String, Option<HostTensor>>,
}

impl Weights {
    /// Reads a file whole. Mapping it would need `unsafe`, and a file that shrinks would end the process.
    ///
    /// # Errors
    ///
    /// Returns a [`WeightsError`] if the file cannot be read, or is not a whole safetensors file.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let bytes =
            std::fs::read(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|error| WeightsError::Torn { path: path.to_owned(), source: error.into() })?;
        let host = |view: &safetensors::tensor::TensorView<'_>| {
            HostTensor::new(FILES.ours(view.dtype(), String::new).ok()?, view.shape(), view.data().to_vec())
                .ok()
        };
        Ok(Self { tensors: file.iter().map(|(name, view)| (name.to_owned(), host(&view))).collect() })
    }

    /// Returns true if there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the tensor of this name.
    ///
    /// # Errors
    ///
    /// Returns a [`ParameterError`] if the file lacks it or has it in an unknown element type.
    pub fn get(&self, name: &str) -> Result<&HostTensor, ParameterError> {
        match self.tensors.get(name) {
            Some(Some(tensor)) => Ok(tensor),
            Some(None) => Err(ParameterError::WrongDType { name: name.to_owned() }),
            None => Err(ParameterError::Missing { name: name.to_owned() }),
        }
    }
}
