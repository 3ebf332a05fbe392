//! Tensors on the host, as ONNX Runtime reads them: typed, contiguous, and shared by views.

use bytemuck::Pod;
use skep_runtime_core::{DType, Dims, HostTensor, Span, pad_spans};
use std::sync::Arc;

/// A tensor on the host: row major, contiguous, and cheap to clone. Rows that were cut out of it share its memory.
#[derive(Clone, Debug)]
pub struct OrtTensor {
    dtype: DType,
    dims: Dims,
    /// Words of the largest element, so that every element type may stand here.
    words: Arc<Vec<u64>>,
    /// The first byte.
    start: usize,
}

impl OrtTensor {
    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the dims, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Returns the elements as bytes.
    pub fn bytes(&self) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.words);
        &bytes[self.start..self.start + self.size()]
    }

    /// Makes a tensor whose bytes are those of `parts`, one after the other; they fill the dims.
    pub(super) fn joined<'a>(dtype: DType, dims: Dims, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let size = dims.iter().product::<usize>() * dtype.size();
        let mut words = vec![0; size.div_ceil(size_of::<u64>())];
        let mut to: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        for part in parts {
            let (here, rest) = to.split_at_mut(part.len());
            here.copy_from_slice(part);
            to = rest;
        }
        Self { dtype, dims, words: Arc::new(words), start: 0 }
    }

    /// Makes a tensor of `parts` one after the other, each filled up with the bytes of an element along its dims but the
    /// first; they fill the dims then.
    pub(super) fn padded(dtype: DType, dims: Dims, parts: &[Self], element: &[u8]) -> Self {
        let size = dims.iter().product::<usize>() * dtype.size();
        let mut words = vec![0; size.div_ceil(size_of::<u64>())];
        let mut to: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        let mut put = |bytes: &[u8]| {
            let (here, rest) = std::mem::take(&mut to).split_at_mut(bytes.len());
            here.copy_from_slice(bytes);
            to = rest;
        };
        for part in parts {
            let mut whole = dims.clone();
            if let (Some(rows), Some(own)) = (whole.first_mut(), part.dims.first()) {
                *rows = *own;
            }
            pad_spans(part.bytes(), &part.dims, &whole, dtype.size(), &mut |span| match span {
                Span::Own(own) => put(own),
                Span::Padding(count) => (0..count).for_each(|_| put(element)),
            });
        }
        Self { dtype, dims, words: Arc::new(words), start: 0 }
    }

    /// The same memory in other dims, if they have as many elements.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        let all = dims.iter().try_fold(1, |all: usize, dim| all.checked_mul(*dim))?;
        let (words, start) = (Arc::clone(&self.words), self.start);
        let fits = all == self.dims.iter().product::<usize>();
        fits.then(|| Self { dtype: self.dtype, dims: Dims::from_slice(dims), words, start })
    }

    /// The first `size` along a dim, in memory of their own.
    pub(super) fn narrowed(&self, dim: usize, size: usize) -> Self {
        let inner = self.dims.iter().skip(dim + 1).product::<usize>() * self.dtype.size();
        let block = self.dims.get(dim).map_or(1, |all| all * inner).max(1);
        let mut dims = self.dims.clone();
        if let Some(all) = dims.get_mut(dim) {
            *all = size;
        }
        let parts = self.bytes().chunks_exact(block).map(|bytes| &bytes[..size * inner]);
        Self::joined(self.dtype, dims, parts)
    }

    /// Makes a tensor of these elements, which fill the dims.
    pub(crate) fn of<T: Pod>(dtype: DType, dims: &[usize], elements: &[T]) -> Self {
        Self::joined(dtype, Dims::from_slice(dims), [bytemuck::cast_slice(elements)])
    }

    /// Copies a tensor of plain bytes.
    pub fn from_host(tensor: &HostTensor) -> Self {
        Self::joined(tensor.dtype(), Dims::from_slice(tensor.dims()), [tensor.bytes()])
    }

    /// The elements, if they are of this size.
    pub(crate) fn elements<T: Pod>(&self) -> Option<&[T]> {
        bytemuck::try_cast_slice(self.bytes()).ok()
    }

    /// `count` rows from row `first`, which are there.
    pub(super) fn rows(&self, first: usize, count: usize) -> Self {
        let row = self.dims.iter().skip(1).product::<usize>() * self.dtype.size();
        let mut dims = self.dims.clone();
        if let Some(rows) = dims.first_mut() {
            *rows = count;
        }
        Self { dtype: self.dtype, dims, words: Arc::clone(&self.words), start: self.start + first * row }
    }

    /// The same elements in memory of their own.
    pub(super) fn own(&self) -> Self {
        Self::joined(self.dtype, self.dims.clone(), [self.bytes()])
    }

    fn size(&self) -> usize {
        self.dims.iter().product::<usize>() * self.dtype.size()
    }
}

impl PartialEq for OrtTensor {
    fn eq(&self, other: &Self) -> bool {
        (self.dtype, &self.dims, self.bytes()) == (other.dtype, &other.dims, other.bytes())
    }
}
