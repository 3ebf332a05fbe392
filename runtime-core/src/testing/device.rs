//! A device whose tensors are plain vectors.

use crate::contract::device::Device;
use crate::contract::dims::Dims;
use crate::contract::error::device::DeviceError;
use crate::contract::padding::pad_into;
use crate::contract::tensor::{DType, HostTensor, TensorInfo};
use crate::contract::tensor_ops::TensorOps;
use std::fmt;
use std::ops::Range;

/// A tensor of `f32` values, or of integers that are kept as such.
#[derive(Clone, Debug, PartialEq)]
pub struct FakeTensor {
    dtype: DType,
    dims: Dims,
    values: Vec<f32>,
}

impl FakeTensor {
    /// Creates a tensor of any dims; `values` are cut or filled up with zeros.
    pub fn new(dtype: DType, dims: &[usize], mut values: Vec<f32>) -> Self {
        values.resize(dims.iter().product(), 0.0);
        Self { dtype, dims: Dims::from_slice(dims), values }
    }

    /// Creates an `f32` tensor of these rows.
    pub fn rows<const W: usize>(rows: &[[f32; W]]) -> Self {
        Self::new(DType::F32, &[rows.len(), W], rows.concat())
    }

    /// Returns the dims.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Returns the elements, row major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the same tensor with `change` applied to each element.
    pub fn map(&self, change: impl FnMut(f32) -> f32) -> Self {
        let values = self.values.iter().copied().map(change).collect();
        Self { dtype: self.dtype, dims: self.dims.clone(), values }
    }

    fn with_rows(&self, rows: usize, values: Vec<f32>) -> Self {
        let mut dims = Dims::from_slice(&self.dims);
        if let Some(first) = dims.first_mut() {
            *first = rows;
        }
        Self { dtype: self.dtype, dims, values }
    }
}

type Hook = Box<dyn Fn(&[FakeTensor]) -> Result<(), DeviceError> + Send + Sync>;

/// A device that joins and cuts vectors, and fails where a test wants it to.
pub struct FakeDevice {
    is_host: bool,
    on_gather: Option<Hook>,
    on_scatter: Option<Hook>,
    on_join: Option<Hook>,
    on_split: Option<Hook>,
}

impl fmt::Debug for FakeDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeDevice").field("is_host", &self.is_host).finish_non_exhaustive()
    }
}

impl FakeDevice {
    /// Creates a device whose tensors are on the host.
    pub fn new() -> Self {
        Self { is_host: true, on_gather: None, on_scatter: None, on_join: None, on_split: None }
    }

    /// Makes outputs need a copy back, so that they always go through a sender.
    pub fn remote(mut self) -> Self {
        self.is_host = false;
        self
    }

    /// Calls `hook` with the column of each gather; it may wait, fail or panic.
    pub fn on_gather(
        mut self,
        hook: impl Fn(&[FakeTensor]) -> Result<(), DeviceError> + Send + Sync + 'static,
    ) -> Self {
        self.on_gather = Some(Box::new(hook));
        self
    }

    /// Calls `hook` with the tensor of each scatter; it may wait, fail or panic.
    pub fn on_scatter(
        mut self,
        hook: impl Fn(&[FakeTensor]) -> Result<(), DeviceError> + Send + Sync + 'static,
    ) -> Self {
        self.on_scatter = Some(Box::new(hook));
        self
    }

    /// Calls `hook` with the tensors of each [`join`](TensorOps::join) beside those of a gather: when the outputs of a
    /// split task's parts are joined. It may wait, fail or panic.
    pub fn on_join(
        mut self,
        hook: impl Fn(&[FakeTensor]) -> Result<(), DeviceError> + Send + Sync + 'static,
    ) -> Self {
        self.on_join = Some(Box::new(hook));
        self
    }

    /// Calls `hook` with the tensor of each [`split`](TensorOps::split) and [`slice`](TensorOps::slice) beside those of a
    /// scatter: when a part is cut out of a task's inputs. It may wait, fail or panic.
    pub fn on_split(
        mut self,
        hook: impl Fn(&[FakeTensor]) -> Result<(), DeviceError> + Send + Sync + 'static,
    ) -> Self {
        self.on_split = Some(Box::new(hook));
        self
    }
}

impl Default for FakeDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl TensorOps for FakeDevice {
    type Tensor = FakeTensor;

    fn describe(&self, tensor: &FakeTensor) -> Result<TensorInfo, DeviceError> {
        Ok(TensorInfo { dtype: tensor.dtype, dims: Dims::from_slice(&tensor.dims) })
    }

    fn join(&self, parts: Vec<FakeTensor>) -> Result<FakeTensor, DeviceError> {
        call(self.on_join.as_ref(), &parts)?;
        joined(parts)
    }

    fn split(&self, tensor: &FakeTensor, rows: &[usize]) -> Result<Vec<FakeTensor>, DeviceError> {
        call(self.on_split.as_ref(), std::slice::from_ref(tensor))?;
        split(tensor, rows)
    }

    fn slice(&self, tensor: &FakeTensor, rows: Range<usize>) -> Result<FakeTensor, DeviceError> {
        call(self.on_split.as_ref(), std::slice::from_ref(tensor))?;
        let width: usize = tensor.dims.iter().skip(1).product();
        let values = tensor.values.get(rows.start * width..rows.end * width);
        let values = values.ok_or_else(|| DeviceError::operation("more rows asked for than there are"))?;
        Ok(tensor.with_rows(rows.len(), values.to_vec()))
    }

    fn reshape(&self, tensor: &FakeTensor, dims: &[usize]) -> Result<FakeTensor, DeviceError> {
        if dims.iter().product::<usize>() != tensor.values.len() {
            let wrong = format!("tensor of dims {:?} has not as many elements as {dims:?}", tensor.dims);
            return Err(DeviceError::operation(wrong));
        }
        Ok(FakeTensor { dims: Dims::from_slice(dims), ..tensor.clone() })
    }

    fn index_outside(&self, tensor: &FakeTensor, below: u64) -> Result<Option<i64>, DeviceError> {
        #[expect(clippy::cast_possible_truncation, reason = "test values are small integers")]
        let outside = tensor.values.iter().find(|&&v| v < 0.0 || v >= below as f32).map(|&v| v as i64);
        Ok(outside)
    }

    fn from_host(&self, tensor: &HostTensor) -> Result<FakeTensor, DeviceError> {
        let chunks = tensor.bytes().chunks_exact(tensor.dtype().size());
        let values = chunks.map(|bytes| read(tensor.dtype(), bytes)).collect::<Result<_, _>>()?;
        Ok(FakeTensor::new(tensor.dtype(), tensor.dims(), values))
    }

    fn to_host(&self, tensor: &FakeTensor) -> Result<HostTensor, DeviceError> {
        let mut bytes = Vec::with_capacity(tensor.values.len() * tensor.dtype.size());
        for &value in &tensor.values {
            write(tensor.dtype, value, &mut bytes)?;
        }
        HostTensor::new(tensor.dtype, &tensor.dims, bytes).map_err(DeviceError::operation)
    }
}

impl Device for FakeDevice {
    fn name(&self) -> String {
        "fake".to_owned()
    }

    fn gather(&self, column: &[FakeTensor]) -> Result<FakeTensor, DeviceError> {
        call(self.on_gather.as_ref(), column)?;
        joined(column.to_vec())
    }

    fn gather_padded(
        &self,
        column: &[FakeTensor],
        dims: &[usize],
        element: &[u8],
    ) -> Result<FakeTensor, DeviceError> {
        call(self.on_gather.as_ref(), column)?;
        let Some(first) = column.first() else { return Err(DeviceError::operation("nothing to join")) };
        let value = read(first.dtype, element)?;
        let rows = column.iter().filter_map(|part| part.dims.first()).sum();
        let whole: Vec<usize> = std::iter::once(rows).chain(dims.iter().copied()).collect();
        let mut values = Vec::with_capacity(whole.iter().product());
        for part in column {
            let to: Vec<usize> = part.dims.first().copied().into_iter().chain(dims.iter().copied()).collect();
            pad_into(&mut values, &part.values, &part.dims, &to, &[value]);
        }
        Ok(FakeTensor::new(first.dtype, &whole, values))
    }

    fn scatter(&self, tensor: FakeTensor, rows: &[usize]) -> Result<Vec<FakeTensor>, DeviceError> {
        call(self.on_scatter.as_ref(), std::slice::from_ref(&tensor))?;
        if rows.len() == 1 { Ok(vec![tensor]) } else { split(&tensor, rows) }
    }

    fn is_host(&self) -> bool {
        self.is_host
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[inline]
fn call(hook: Option<&Hook>, tensors: &[FakeTensor]) -> Result<(), DeviceError> {
    hook.map_or(Ok(()), |hook| hook(tensors))
}

fn joined(mut parts: Vec<FakeTensor>) -> Result<FakeTensor, DeviceError> {
    let Some(first) = parts.first_mut() else {
        return Err(DeviceError::operation("nothing to join"));
    };
    let mut values = std::mem::take(&mut first.values);
    values.reserve(parts[1..].iter().map(|part| part.values.len()).sum());
    parts[1..].iter().for_each(|part| values.extend_from_slice(&part.values));
    let rows = parts.iter().filter_map(|part| part.dims.first()).sum();
    Ok(parts[0].with_rows(rows, values))
}

fn split(tensor: &FakeTensor, rows: &[usize]) -> Result<Vec<FakeTensor>, DeviceError> {
    let width: usize = tensor.dims.iter().skip(1).product();
    let mut rest = tensor.values.as_slice();
    rows.iter()
        .map(|&rows| {
            let (part, after) = rest
                .split_at_checked(rows * width)
                .ok_or_else(|| DeviceError::operation("more rows asked for than there are"))?;
            rest = after;
            Ok(tensor.with_rows(rows, part.to_vec()))
        })
        .collect()
}

fn unknown(dtype: DType) -> DeviceError {
    DeviceError::operation(format!("fake device has no {dtype} tensors, expected u8, u32, i64, f32 or f64"))
}

/// One element of a host tensor.
#[expect(clippy::cast_possible_truncation, reason = "test values are small")]
fn read(dtype: DType, bytes: &[u8]) -> Result<f32, DeviceError> {
    let value = match (dtype, bytes) {
        (DType::U8, &[v]) => Some(f32::from(v)),
        (DType::U32, bytes) => bytes.try_into().ok().map(|b| u32::from_le_bytes(b) as f32),
        (DType::I64, bytes) => bytes.try_into().ok().map(|b| i64::from_le_bytes(b) as f32),
        (DType::F32, bytes) => bytes.try_into().ok().map(f32::from_le_bytes),
        (DType::F64, bytes) => bytes.try_into().ok().map(|b| f64::from_le_bytes(b) as f32),
        _ => None,
    };
    value.ok_or_else(|| unknown(dtype))
}

/// The bytes of one element, as [`read`] takes them.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "test values are small")]
fn write(dtype: DType, value: f32, bytes: &mut Vec<u8>) -> Result<(), DeviceError> {
    match dtype {
        DType::U8 => bytes.push(value as u8),
        DType::U32 => bytes.extend_from_slice(&(value as u32).to_le_bytes()),
        DType::I64 => bytes.extend_from_slice(&(value as i64).to_le_bytes()),
        DType::F32 => bytes.extend_from_slice(&value.to_le_bytes()),
        DType::F64 => bytes.extend_from_slice(&f64::from(value).to_le_bytes()),
        _ => return Err(unknown(dtype)),
    }
    Ok(())
}
