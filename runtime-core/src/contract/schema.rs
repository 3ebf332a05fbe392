//! Schemas: the tensors that a block takes and gives. A bad task is refused before it can harm the tasks around it.
//!
//! ```
//! use skep_runtime_core::{DType, Dim, Dims, Schema, TensorInfo, TensorSpec};
//!
//! let schema = Schema::new(vec![
//!     TensorSpec::new("ids", DType::U32, [Dim::Batch, Dim::free("tokens", 512)]).with_index_below(30_522),
//!     TensorSpec::rows("weights", DType::F32, &[8]),
//! ])?;
//! let ids = TensorInfo { dtype: DType::U32, dims: Dims::from_slice(&[2, 17]) };
//! let weights = TensorInfo { dtype: DType::F32, dims: Dims::from_slice(&[2, 8]) };
//! let shape = schema.check(&[ids.clone(), weights])?;
//! assert_eq!((shape.rows, &shape.free[..]), (2, &[17][..]));
//!
//! let narrow = TensorInfo { dtype: DType::F32, dims: Dims::from_slice(&[2, 7]) };
//! let error = schema.check(&[ids, narrow]).unwrap_err();
//! assert_eq!(error.to_string(), "input `weights` has dims [2, 7], expected [batch, 8]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::contract::dims::{Dim, Dims};
use crate::contract::error::submit::{SchemaError, SubmitError};
use crate::contract::tensor::{DType, TensorInfo};
use std::fmt;
use std::sync::Arc;

/// Name, element type and dims of one tensor that a block takes or gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    name: String,
    dtype: DType,
    dims: Vec<Dim>,
    index_below: Option<u64>,
    finite: bool,
}

impl TensorSpec {
    /// Creates a spec from dims. Dim 0 must be [`Dim::Batch`].
    pub fn new(name: impl Into<String>, dtype: DType, dims: impl Into<Vec<Dim>>) -> Self {
        Self { name: name.into(), dtype, dims: dims.into(), index_below: None, finite: false }
    }

    /// Creates the spec of a tensor of any number of rows, each of the fixed dims `row`.
    pub fn rows(name: impl Into<String>, dtype: DType, row: &[usize]) -> Self {
        let dims = std::iter::once(Dim::Batch).chain(row.iter().map(|&d| Dim::Fixed(d)));
        Self::new(name, dtype, dims.collect::<Vec<_>>())
    }

    /// Requires every element to be an index in `0..limit` (a token id, say). Checked at submit, because an
    /// index out of range is a device assert on CUDA, after which the whole device is lost.
    pub fn with_index_below(mut self, limit: u64) -> Self {
        self.index_below = Some(limit);
        self
    }

    /// Requires every element of a tensor of floating-point numbers to be finite. Checked at submit, because one task's
    /// gradient that is not a number would fail the training step of all tasks in its batch.
    pub fn with_finite(mut self) -> Self {
        self.finite = self.dtype.is_float();
        self
    }

    /// Returns the name by which a caller may pass this tensor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the dims, outermost first.
    pub fn dims(&self) -> &[Dim] {
        &self.dims
    }

    /// Returns the bound on the elements if they are indices.
    pub fn index_below(&self) -> Option<u64> {
        self.index_below
    }

    /// Returns true if the elements must be finite.
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// Creates the spec of the same tensor under another name, without an index bound: of its gradient, say.
    pub fn renamed(&self, name: impl Into<String>) -> Self {
        Self { name: name.into(), index_below: None, ..self.clone() }
    }

    /// Returns true if a tensor that a block gave is what this promises: element type, number of dims, and each
    /// [fixed](Dim::Fixed) dim. How large a [free](Dim::Free) dim comes out is the block's to decide.
    #[inline]
    pub(crate) fn is_kept_by(&self, info: &TensorInfo) -> bool {
        info.dtype == self.dtype && are_kept_by(&self.dims, &info.dims)
    }

    /// The same of one that is laid end to end: without the free dim behind the rows.
    pub(crate) fn is_kept_end_to_end_by(&self, info: &TensorInfo) -> bool {
        let rest = info.dims.get(1..).unwrap_or_default();
        info.dtype == self.dtype
            && !info.dims.is_empty()
            && are_kept_by(self.dims.get(2..).unwrap_or_default(), rest)
    }

    #[inline]
    fn admits(&self, info: &TensorInfo) -> bool {
        info.dims.len() == self.dims.len()
            && self.dims.iter().zip(&info.dims).all(|(dim, &size)| match *dim {
                Dim::Batch => true,
                Dim::Fixed(fixed) => size == fixed,
                Dim::Free { max, .. } => (1..=max).contains(&size),
            })
    }
}

fn are_kept_by(dims: &[Dim], sizes: &[usize]) -> bool {
    sizes.len() == dims.len()
        && dims.iter().zip(sizes).all(|(dim, size)| !matches!(dim, Dim::Fixed(fixed) if fixed != size))
}

/// The element type and the dims: `f32 [batch, 8]`.
impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.dtype)?;
        for (i, dim) in self.dims.iter().enumerate() {
            write!(f, "{}{dim}", if i > 0 { ", " } else { "" })?;
        }
        f.write_str("]")
    }
}

/// The shape of one task: its rows, and the sizes of its free dims.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// Rows, the same in every input.
    pub rows: usize,
    /// Sizes of the free dims, each name once, in the order of [`Schema::free`].
    pub free: Dims,
}

/// A free dim of a schema, whatever the number of tensors that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreeDim {
    /// The name.
    pub name: Arc<str>,
    /// The largest size that all of these tensors allow.
    pub max: usize,
}

/// The tensors of a task, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub(crate) tensors: Vec<TensorSpec>,
    free: Vec<FreeDim>,
    /// What the offsets are called, if tasks are laid end to end.
    pub(crate) offsets: Option<String>,
}

impl Schema {
    /// Creates a schema of the given tensors.
    ///
    /// # Errors
    ///
    /// Returns [`SchemaError::Empty`] if there is no tensor, [`SchemaError::NameTwice`] if two have one name, and
    /// [`SchemaError::BatchDim`] if [`Dim::Batch`] is not dim 0, and only dim 0, of each tensor.
    pub fn new(tensors: Vec<TensorSpec>) -> Result<Self, SchemaError> {
        if tensors.is_empty() {
            return Err(SchemaError::Empty);
        }
        for (i, tensor) in tensors.iter().enumerate() {
            let batch_dims = tensor.dims.iter().filter(|d| **d == Dim::Batch).count();
            if tensor.dims.first() != Some(&Dim::Batch) || batch_dims != 1 {
                return Err(SchemaError::BatchDim { name: tensor.name.clone() });
            }
            if tensors[..i].iter().any(|t| t.name == tensor.name) {
                return Err(SchemaError::NameTwice { name: tensor.name.clone() });
            }
        }
        let mut free: Vec<FreeDim> = Vec::new();
        for dim in tensors.iter().flat_map(|tensor| &tensor.dims) {
            let Dim::Free { name, max } = dim else { continue };
            match free.iter_mut().find(|known| known.name == *name) {
                Some(known) => known.max = known.max.min(*max),
                None => free.push(FreeDim { name: Arc::clone(name), max: *max }),
            }
        }
        Ok(Self { tensors, free, offsets: None })
    }

    /// Returns the free dims of all tensors, each name once, in the order in which they first come.
    pub fn free(&self) -> &[FreeDim] {
        &self.free
    }

    /// Creates the schema without the tensor of this name.
    ///
    /// # Errors
    ///
    /// Returns [`SchemaError::Empty`] if nothing is left, and the errors of [`ragged`](Self::ragged) if the schema is.
    pub fn without(&self, name: &str) -> Result<Self, SchemaError> {
        self.with(self.tensors.iter().filter(|spec| spec.name != name).cloned().collect())
    }

    /// The schema of other tensors, ragged if this one is.
    pub(crate) fn with(&self, tensors: Vec<TensorSpec>) -> Result<Self, SchemaError> {
        let schema = Self::new(tensors)?;
        match &self.offsets {
            Some(offsets) => schema.ragged(offsets.clone()),
            None => Ok(schema),
        }
    }

    /// The free dims of a tensor: which dim, and which of [`free`](Self::free).
    pub(crate) fn free_of<'a>(&'a self, spec: &'a TensorSpec) -> impl Iterator<Item = (usize, usize)> + 'a {
        let place = |name: &Arc<str>| self.free.iter().position(|known| known.name == *name);
        spec.dims.iter().enumerate().filter_map(move |(at, dim)| match dim {
            Dim::Free { name, .. } => Some((at, place(name)?)),
            Dim::Batch | Dim::Fixed(_) => None,
        })
    }

    /// Requires every element of each tensor of floating-point numbers to be finite ([`TensorSpec::with_finite`]).
    pub fn with_finite(mut self) -> Self {
        self.tensors = self.tensors.into_iter().map(TensorSpec::with_finite).collect();
        self
    }

    /// Returns the tensors, in order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Returns the position of the tensor of this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.tensors.iter().position(|t| t.name == name)
    }

    /// Checks a task's tensors against this schema and returns the shape of the task.
    ///
    /// # Errors
    ///
    /// Returns a [`SubmitError`] that names the first thing that is wrong: `WrongArity`, `WrongDType`, `WrongDims`,
    /// `RowsDiffer` or `NoRows`.
    pub fn check(&self, inputs: &[TensorInfo]) -> Result<Shape, SubmitError> {
        self.check_each(inputs, |info| Ok(info.clone()))
    }

    /// Checks tensors like [`check`](Self::check), describing them one after the other.
    ///
    /// # Errors
    ///
    /// Returns the errors of `check` and of `describe`.
    #[inline]
    pub fn check_each<T>(
        &self,
        inputs: &[T],
        describe: impl Fn(&T) -> Result<TensorInfo, SubmitError>,
    ) -> Result<Shape, SubmitError> {
        if inputs.len() != self.tensors.len() {
            let expected = self.tensors.iter().map(|spec| spec.name.clone()).collect();
            return Err(SubmitError::WrongArity { expected, got: inputs.len() });
        }
        let mut shape = Shape { rows: 0, free: Dims::new() };
        for (i, (spec, input)) in self.tensors.iter().zip(inputs).enumerate() {
            let info = describe(input)?;
            if info.dtype != spec.dtype {
                return Err(SubmitError::WrongDType {
                    input: spec.name.clone(),
                    expected: spec.dtype,
                    got: info.dtype,
                });
            }
            if !spec.admits(&info) {
                return Err(SubmitError::WrongDims {
                    input: spec.name.clone(),
                    expected: spec.dims.clone(),
                    got: info.dims.to_vec(),
                });
            }
            let rows = info.dims[0];
            if i == 0 {
                shape.rows = rows;
            } else if rows != shape.rows {
                return Err(SubmitError::RowsDiffer {
                    input: spec.name.clone(),
                    expected: shape.rows,
                    got: rows,
                });
            }
            if !self.free.is_empty() {
                self.check_free(spec, &info, &mut shape.free)?;
            }
        }
        if shape.rows == 0 { Err(SubmitError::NoRows) } else { Ok(shape) }
    }

    /// Notes the sizes of the free dims, which have one size wherever they come again. They come in the order of
    /// [`free`](Self::free).
    fn check_free(&self, spec: &TensorSpec, info: &TensorInfo, sizes: &mut Dims) -> Result<(), SubmitError> {
        for (at, name) in self.free_of(spec) {
            let got = info.dims[at];
            match sizes.get(name) {
                None => sizes.extend([got]),
                Some(&size) if size == got => {}
                Some(&expected) => {
                    let (input, dim) = (spec.name.clone(), self.free[name].name.to_string());
                    return Err(SubmitError::FreeDimsDiffer { input, dim, expected, got });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
