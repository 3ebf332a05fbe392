//! A graph that ONNX Runtime has loaded.

use crate::device::{OrtDevice, OrtTensor};
use bytemuck::Pod;
use half::{bf16, f16};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, PrimitiveTensorElementType, TensorElementType, TensorRef};
use skep_runtime_core::{BoxError, DType};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Debug;
use std::path::Path;

/// How much ONNX Runtime rewrites a graph when it is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimization {
    /// Not at all.
    Off,
    /// What changes no bit: constants are folded, nodes that do nothing are left out.
    Basic,
    /// Operators are fused as well.
    Extended,
    /// Layouts are changed as well.
    #[default]
    All,
}

/// A tensor that does not fit the graph, or a graph whose outputs are nothing that can be served.
#[derive(Debug, thiserror::Error)]
#[error("{what} is {got}, expected {expected}")]
pub(crate) struct Unfit {
    what: String,
    got: String,
    expected: String,
}

/// A session, and what goes in and comes out.
pub(crate) struct Running {
    device: OrtDevice,
    session: RefCell<Session>,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Running {
    /// Loads the graph in a file.
    pub(crate) fn of_file(device: &OrtDevice, file: &Path, level: Optimization) -> Result<Self, ort::Error> {
        Self::new(device, level, |builder| builder.commit_from_file(file))
    }

    /// Loads a graph that was made here.
    pub(crate) fn of_bytes(device: &OrtDevice, graph: &[u8]) -> Result<Self, ort::Error> {
        Self::new(device, Optimization::All, |builder| builder.commit_from_memory(graph))
    }

    fn new(
        device: &OrtDevice,
        level: Optimization,
        commit: impl FnOnce(&mut SessionBuilder) -> Result<Session, ort::Error>,
    ) -> Result<Self, ort::Error> {
        let level = match level {
            Optimization::Off => GraphOptimizationLevel::Disable,
            Optimization::Basic => GraphOptimizationLevel::Level1,
            Optimization::Extended => GraphOptimizationLevel::Level2,
            Optimization::All => GraphOptimizationLevel::All,
        };
        let mut builder = Session::builder(device.environment())?.with_optimization_level(level)?;
        if let Some(threads) = device.threads() {
            builder = builder.with_intra_threads(threads)?;
        }
        // Small numbers near 0 cost a hundred times as much as others, and are none to the answer.
        builder = builder.with_flush_to_zero()?;
        #[cfg(feature = "cuda")]
        if let Some(ordinal) = device.cuda_ordinal() {
            let cuda = ort::ep::CUDA::default().with_device_id(i32::try_from(ordinal).unwrap_or(i32::MAX));
            builder = builder.with_execution_providers([cuda.build().error_on_failure()])?;
        }
        let session = commit(&mut builder)?;
        let names = |outlets: &[ort::value::Outlet]| {
            outlets.iter().map(|outlet| outlet.name().to_owned()).collect::<Vec<_>>()
        };
        let (inputs, outputs) = (names(session.inputs()), names(session.outputs()));
        Ok(Self { device: device.clone(), session: RefCell::new(session), inputs, outputs })
    }

    /// Runs the graph.
    pub(crate) fn run(&self, inputs: &[OrtTensor]) -> Result<Vec<OrtTensor>, BoxError> {
        let unfit = |what: &str, got: String, expected: String| {
            BoxError::from(Unfit { what: what.to_owned(), got, expected })
        };
        if inputs.len() != self.inputs.len() {
            let (got, expected) = (inputs.len(), self.inputs.len());
            return Err(unfit("the number of inputs", got.to_string(), expected.to_string()));
        }
        let rows = inputs.first().and_then(|input| input.dims().first()).copied();
        let values = self.inputs.iter().zip(inputs);
        let values = values
            .map(|(name, input)| Ok((Cow::Borrowed(&**name), value_of(input)?)))
            .collect::<Result<Vec<(Cow<'_, str>, SessionInputValue<'_>)>, BoxError>>()?;
        let mut session = self.session.borrow_mut();
        let given = session.run(values).map_err(|error| BoxError::from(self.device.failure(error)))?;
        self.outputs
            .iter()
            .map(|name| {
                let what = || format!("output `{name}`");
                let value =
                    given.get(name).ok_or_else(|| unfit(&what(), "missing".into(), "a tensor".into()))?;
                let tensor = self.tensor_of(value, &what())?;
                if tensor.dims().first().copied() != rows {
                    let got = format!("of dims {:?}", tensor.dims());
                    let expected =
                        format!("a tensor of {} rows, as the inputs are", rows.unwrap_or_default());
                    return Err(unfit(&what(), got, expected));
                }
                Ok(tensor)
            })
            .collect()
    }

    /// A copy of what came out.
    fn tensor_of(&self, value: &DynValue, what: &str) -> Result<OrtTensor, BoxError> {
        fn copy<T: Pod + PrimitiveTensorElementType + Debug>(
            value: &DynValue,
            dtype: DType,
            device: &OrtDevice,
        ) -> Result<OrtTensor, BoxError> {
            let (shape, elements) = value.try_extract_tensor::<T>().map_err(|error| device.failure(error))?;
            device.admit(size_of_val(elements))?;
            let dims: Vec<usize> = shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
            Ok(OrtTensor::of(dtype, &dims, elements))
        }
        let device = &self.device;
        match value.dtype().tensor_type() {
            Some(TensorElementType::Bool) => {
                let (shape, elements) =
                    value.try_extract_tensor::<bool>().map_err(|error| device.failure(error))?;
                let dims: Vec<usize> = shape.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
                let bytes: Vec<u8> = elements.iter().map(|&element| u8::from(element)).collect();
                Ok(OrtTensor::of(DType::Bool, &dims, &bytes))
            }
            Some(TensorElementType::Uint8) => copy::<u8>(value, DType::U8, device),
            Some(TensorElementType::Int8) => copy::<i8>(value, DType::I8, device),
            Some(TensorElementType::Int16) => copy::<i16>(value, DType::I16, device),
            Some(TensorElementType::Int32) => copy::<i32>(value, DType::I32, device),
            Some(TensorElementType::Uint32) => copy::<u32>(value, DType::U32, device),
            Some(TensorElementType::Int64) => copy::<i64>(value, DType::I64, device),
            Some(TensorElementType::Float16) => copy::<f16>(value, DType::F16, device),
            Some(TensorElementType::Bfloat16) => copy::<bf16>(value, DType::BF16, device),
            Some(TensorElementType::Float32) => copy::<f32>(value, DType::F32, device),
            Some(TensorElementType::Float64) => copy::<f64>(value, DType::F64, device),
            other => {
                let got = other.map_or("no tensor".to_owned(), |other| format!("of type {other}"));
                let expected = "a tensor of a type that the runtime has".to_owned();
                Err(Unfit { what: what.to_owned(), got, expected }.into())
            }
        }
    }
}

/// A tensor as ONNX Runtime takes it, on the same memory.
fn value_of(tensor: &OrtTensor) -> Result<SessionInputValue<'_>, BoxError> {
    fn view<T: Pod + PrimitiveTensorElementType + Debug>(
        tensor: &OrtTensor,
    ) -> Result<SessionInputValue<'_>, BoxError> {
        let elements: &[T] = tensor.elements().ok_or("elements that do not lie as they should")?;
        let dims: Vec<i64> = tensor.dims().iter().map(|&dim| i64::try_from(dim)).collect::<Result<_, _>>()?;
        Ok(TensorRef::from_array_view((dims, elements))?.into())
    }
    match tensor.dtype() {
        DType::Bool => {
            let elements: Vec<bool> = tensor.bytes().iter().map(|&byte| byte != 0).collect();
            let dims: Vec<i64> =
                tensor.dims().iter().map(|&dim| i64::try_from(dim)).collect::<Result<_, _>>()?;
            Ok(ort::value::Tensor::from_array((dims, elements))?.into())
        }
        DType::U8 => view::<u8>(tensor),
        DType::I8 => view::<i8>(tensor),
        DType::I16 => view::<i16>(tensor),
        DType::I32 => view::<i32>(tensor),
        DType::U32 => view::<u32>(tensor),
        DType::I64 => view::<i64>(tensor),
        DType::F16 => view::<f16>(tensor),
        DType::BF16 => view::<bf16>(tensor),
        DType::F32 => view::<f32>(tensor),
        DType::F64 => view::<f64>(tensor),
        other => Err(format!("{other} is not known to backend ort").into()),
    }
}
