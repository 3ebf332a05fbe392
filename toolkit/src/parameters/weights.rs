//! Parameters from safetensors files.
//!
//! Only the heads are read at first. A tensor's bytes are read when a layer asks for it, straight into the tensor, so
//! blocks that share a file read their own parts of it, and need no more memory than their parameters. Mapping the file
//! would need `unsafe`, and a file that shrinks would end the process.

use super::head::{self, HeadError};
use crate::dtype::FILES;
use safetensors::Dtype;
use skep_runtime_core::sync::Mutex;
use skep_runtime_core::{BoxError, DType, HostTensor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// The end of the name of a file that lists shards.
const INDEX: &str = ".index.json";

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
        source: io::Error,
    },
    /// The file is not a whole safetensors file: torn, or something else.
    #[error("weights file {} is not a whole safetensors file", .path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// The error in it.
        source: BoxError,
    },
    /// A list of shards is not one, or does not fit the shards.
    #[error("list of shards {} has `{key}` {got}, expected {expected}", .path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// The part of it.
        key: String,
        /// The value there.
        got: String,
        /// The value that would be right.
        expected: String,
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
    #[error("tensor `{name}` of the weights file is {got}, expected f32, f16, bf16 or f64: convert the file")]
    WrongDType {
        /// Its name.
        name: String,
        /// The element type, as safetensors calls it.
        got: String,
    },
    /// It is of whole numbers and its layer computes with others, or the other way round.
    #[error("tensor `{name}` is {got}, expected {expected}: no conversion would keep its values")]
    OtherDType {
        /// Its name.
        name: String,
        /// The element type that the layer asks for.
        expected: DType,
        /// The element type that it has.
        got: DType,
    },
    /// It has numbers that its layer's element type cannot hold.
    #[error("tensor `{name}` has numbers that are too large for {dtype}, which its layer asks for")]
    Overflow {
        /// Its name.
        name: String,
        /// The element type that the layer asks for.
        dtype: DType,
    },
    /// A layer asks for whatever the weights file holds, and there is no file.
    #[error("tensor `{name}` is asked for without dims, which needs a weights file")]
    NoDims {
        /// Its name.
        name: String,
    },
    /// The file has changed since its head was read.
    #[error("tensor `{name}` cannot be read any more from {}: {error}", .path.display())]
    Gone {
        /// Its name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: String,
    },
}

/// The tensors of weights files by name.
#[derive(Debug)]
pub struct Weights {
    tensors: Arc<BTreeMap<String, Stored>>,
    /// What blocks that share the files have read of them, while one of these blocks is still to be loaded.
    kept: Weak<Kept>,
    /// Whether a layer has asked for a tensor.
    asked: Arc<AtomicBool>,
}

/// A weights file that several blocks take their parameters from.
///
/// Each tensor is read from the disk once, when the first block asks for it, and kept in the host's memory until all clones
/// of this are dropped and all blocks that were given one are loaded.
///
/// ```no_run
/// use skep_toolkit::SharedWeights;
///
/// let weights = SharedWeights::read("experts.safetensors")?;
/// // In a backend: `for expert in experts { block(expert)?.with_shared_weights(&weights) }`.
/// # Ok::<(), skep_toolkit::WeightsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SharedWeights {
    path: PathBuf,
    tensors: Arc<BTreeMap<String, Stored>>,
    kept: Arc<Kept>,
}

/// Tensors by name.
#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<String, HostTensor>>);

impl SharedWeights {
    /// Reads the head of a safetensors file, or those of all files that a list of shards (`*.index.json`) names.
    ///
    /// # Errors
    ///
    /// Returns a [`WeightsError`] if a file cannot be read, or is not a whole safetensors file.
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, WeightsError> {
        let path = path.into();
        let tensors = Weights::read(&path)?.tensors;
        Ok(Self { path, tensors, kept: Arc::default() })
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn weights(&self) -> Weights {
        let kept = Arc::downgrade(&self.kept);
        Weights { tensors: Arc::clone(&self.tensors), kept, asked: Arc::default() }
    }
}

/// Where one tensor stands.
#[derive(Debug)]
struct Stored {
    file: Arc<PathBuf>,
    dtype: Dtype,
    dims: Vec<usize>,
    start: u64,
    bytes: usize,
}

impl Weights {
    /// Reads the head of a safetensors file, or those of all files that a list of shards (`*.index.json`) names.
    ///
    /// # Errors
    ///
    /// Returns a [`WeightsError`] if a file cannot be read, or is not a whole safetensors file.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let mut found = Found::default();
        if path.to_str().is_some_and(|name| name.ends_with(INDEX)) {
            found.add_shards(path)?;
        } else {
            found.add(path)?;
        }
        Ok(Self { tensors: Arc::new(found.tensors), kept: Weak::new(), asked: Arc::default() })
    }

    /// Returns true if there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Becomes true when a layer asks for a tensor.
    pub(crate) fn asked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }

    /// Reads the tensor of this name, unless a block that shares the files has.
    ///
    /// # Errors
    ///
    /// Returns a [`ParameterError`] if the file lacks it, has it in an unknown element type, or has changed since its
    /// head was read.
    pub fn get(&self, name: &str) -> Result<HostTensor, ParameterError> {
        self.asked.store(true, Ordering::Relaxed);
        let missing = || ParameterError::Missing { name: name.to_owned() };
        let stored = self.tensors.get(name).ok_or_else(missing)?;
        let Some(kept) = self.kept.upgrade() else { return stored.read(name) };
        // Held while it is read: another block waits for the same tensor rather than read it too.
        let mut kept = kept.0.lock();
        if let Some(known) = kept.get(name) {
            return Ok(known.clone());
        }
        let tensor = stored.read(name)?;
        kept.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }
}

/// The heads of files that have been read so far.
#[derive(Default)]
struct Found {
    tensors: BTreeMap<String, Stored>,
}

impl Found {
    fn add(&mut self, path: &Path) -> Result<(), WeightsError> {
        let unreadable = |source| WeightsError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let head = head::read(&mut file).map_err(|error| match error {
            HeadError::Io(source) => unreadable(source),
            other => WeightsError::Torn { path: path.to_owned(), source: other.into() },
        })?;
        let file = Arc::new(path.to_owned());
        for (name, info) in head.tensors.tensors() {
            let (start, end) = info.data_offsets;
            let stored = Stored {
                file: Arc::clone(&file),
                dtype: info.dtype,
                dims: info.shape.clone(),
                start: head.data + start as u64,
                bytes: end - start,
            };
            self.tensors.insert(name, stored);
        }
        Ok(())
    }

    fn add_shards(&mut self, index: &Path) -> Result<(), WeightsError> {
        let bytes =
            std::fs::read(index).map_err(|source| WeightsError::Read { path: index.to_owned(), source })?;
        let wrong = |key: &str, got: String, expected: &str| WeightsError::Index {
            path: index.to_owned(),
            key: key.to_owned(),
            got,
            expected: expected.to_owned(),
        };
        let list: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|error| WeightsError::Torn { path: index.to_owned(), source: error.into() })?;
        let map = list["weight_map"].as_object().ok_or_else(|| {
            wrong("weight_map", list["weight_map"].to_string(), "an object of tensors and their files")
        })?;
        let mut shards: BTreeMap<&str, PathBuf> = BTreeMap::new();
        for (name, shard) in map {
            let plain = |shard: &&str| Path::new(shard).file_name().is_some_and(|file| file == *shard);
            let shard = shard.as_str().filter(plain).ok_or_else(|| {
                wrong(&format!("weight_map.{name}"), shard.to_string(), "the name of a file beside it")
            })?;
            shards.entry(shard).or_insert_with(|| index.with_file_name(shard));
        }
        for path in shards.values() {
            self.add(path)?;
        }
        for (name, shard) in map {
            let holds =
                |stored: &Stored| stored.file.file_name().and_then(|file| file.to_str()) == shard.as_str();
            if !self.tensors.get(name).is_some_and(holds) {
                let expected = "a file that holds this tensor";
                return Err(wrong(&format!("weight_map.{name}"), shard.to_string(), expected));
            }
        }
        Ok(())
    }
}

impl Stored {
    fn read(&self, name: &str) -> Result<HostTensor, ParameterError> {
        let dtype = FILES
            .ours(self.dtype, || format!("{:?}", self.dtype))
            .map_err(|error| ParameterError::WrongDType { name: name.to_owned(), got: error.got })?;
        let gone = |error: String| ParameterError::Gone {
            name: name.to_owned(),
            path: self.file.to_path_buf(),
            error,
        };
        let read = || {
            let mut file = File::open(&*self.file)?;
            file.seek(SeekFrom::Start(self.start))?;
            let mut bytes = Vec::with_capacity(self.bytes);
            file.take(self.bytes as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error: io::Error| gone(error.to_string()))?;
        HostTensor::new(dtype, &self.dims, bytes).map_err(|error| gone(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
