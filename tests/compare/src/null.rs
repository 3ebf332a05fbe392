//! A device that costs next to nothing, so that what is left is the cost of the system around it.
//!
//! Its tensors are one column of numbers, kept without an allocation up to four rows. Joining and cutting them
//! copies each number once, as a real device does.

use crate::Result;
use crate::work::{Work, block_of};
use skep_runtime_core::{
    Backend, BlockInfo, BlockState, BoxError, DType, Device, DeviceError, Dims, Fit, HostTensor, Schema,
    TensorInfo, TensorOps, TensorSpec, Unmatched,
};
use smallvec::SmallVec;
use std::time::Duration;

/// One column of numbers.
#[derive(Debug)]
pub(crate) struct Column(SmallVec<[f32; 4]>);

#[derive(Clone, Copy)]
pub(crate) struct NullDevice;

impl TensorOps for NullDevice {
    type Tensor = Column;

    fn describe(&self, tensor: &Column) -> std::result::Result<TensorInfo, DeviceError> {
        Ok(TensorInfo { dtype: DType::F32, dims: Dims::from_slice(&[tensor.0.len(), 1]) })
    }

    fn join(&self, parts: Vec<Column>) -> std::result::Result<Column, DeviceError> {
        self.gather(&parts)
    }

    fn split(&self, tensor: &Column, rows: &[usize]) -> std::result::Result<Vec<Column>, DeviceError> {
        let mut rest = &*tensor.0;
        let mut parts = Vec::with_capacity(rows.len());
        for &rows in rows {
            let (part, after) =
                rest.split_at_checked(rows).ok_or_else(|| DeviceError::operation("too few rows"))?;
            parts.push(Column(SmallVec::from_slice(part)));
            rest = after;
        }
        Ok(parts)
    }

    fn index_outside(&self, _: &Column, _: u64) -> std::result::Result<Option<i64>, DeviceError> {
        Err(DeviceError::operation("a column of f32 holds no indices"))
    }

    fn from_host(&self, tensor: &HostTensor) -> std::result::Result<Column, DeviceError> {
        let values = tensor.to_f32().ok_or_else(|| DeviceError::operation("expected f32"))?;
        Ok(Column(values.into()))
    }

    fn to_host(&self, tensor: &Column) -> std::result::Result<HostTensor, DeviceError> {
        HostTensor::from_f32(&[tensor.0.len(), 1], &tensor.0).map_err(DeviceError::operation)
    }
}

impl Device for NullDevice {
    fn name(&self) -> String {
        "null".to_owned()
    }

    fn gather(&self, parts: &[Column]) -> std::result::Result<Column, DeviceError> {
        let mut joined = SmallVec::with_capacity(parts.iter().map(|part| part.0.len()).sum());
        for part in parts {
            joined.extend_from_slice(&part.0);
        }
        Ok(Column(joined))
    }

    fn scatter(&self, tensor: Column, rows: &[usize]) -> std::result::Result<Vec<Column>, DeviceError> {
        if rows.len() == 1 {
            return Ok(vec![tensor]);
        }
        self.split(&tensor, rows)
    }

    fn is_host(&self) -> bool {
        true
    }

    fn synchronize(&self) -> std::result::Result<(), DeviceError> {
        Ok(())
    }
}

/// Answers with its input, after a while.
struct Null {
    info: BlockInfo,
    fixed: Duration,
    per_row: Duration,
}

impl Backend<NullDevice> for Null {
    fn info(&self) -> BlockInfo {
        self.info.clone()
    }

    fn load(&mut self, _: &NullDevice) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn forward(&mut self, inputs: &[Column]) -> std::result::Result<Vec<Column>, BoxError> {
        let rows = inputs.first().map_or(0, |input| u32::try_from(input.0.len()).unwrap_or(u32::MAX));
        let takes = self.fixed + self.per_row * rows;
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        Ok(inputs.iter().map(|input| Column(input.0.clone())).collect())
    }

    fn backward(&mut self, _: &[Column], _: &[Column]) -> std::result::Result<Vec<Column>, BoxError> {
        Err("the null block has no backward pass".into())
    }

    fn state(&self) -> std::result::Result<BlockState, BoxError> {
        Ok(BlockState::default())
    }

    fn restore(&mut self, _: &BlockState, _: Fit) -> std::result::Result<Unmatched, BoxError> {
        Ok(Unmatched::default())
    }
}

/// Tasks of one row that come back as they are.
pub(crate) fn work() -> Result<Work<NullDevice>> {
    taking(Duration::ZERO, Duration::ZERO)
}

/// The same on a device that is busy for a fixed time and a time per row, in which it costs no processor.
pub(crate) fn taking(fixed: Duration, per_row: Duration) -> Result<Work<NullDevice>> {
    let schema = |name| Schema::new(vec![TensorSpec::rows(name, DType::F32, &[1])]);
    let (inputs, outputs) = (schema("x")?, schema("y")?);
    let block = move |name: &str| {
        let (inputs, outputs) = (inputs.clone(), Some(outputs.clone()));
        let info = BlockInfo::new(name, inputs).outputs(outputs);
        Ok(block_of(Null { info, fixed, per_row }))
    };
    let tasks = || Box::new(|| vec![Column(SmallVec::from_slice(&[1.0]))]) as Box<_>;
    Ok(Work::new(NullDevice, block, tasks))
}
