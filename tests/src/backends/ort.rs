//! Backend ort.

use super::named::chosen;
use crate::kit::{Adder, Bare, CutOff, Derived, Idle, Noisy, Normed, Odd, Pupil, Two};
use crate::subject::{Learner, Subject};
use skep_backend_ort::{self as backend, CpuOptions, Layers, OrtDevice, OrtTensor, Parameters};
use skep_runtime_core::{BoxError, DType, HostTensor};
use skep_toolkit::{Computes, Init};

/// Backend ort.
#[derive(Debug)]
pub struct Ort;

impl Subject for Ort {
    type Device = OrtDevice;

    fn device() -> OrtDevice {
        chosen(cfg!(not(feature = "tch")), &[("cpu", OrtDevice::cpu), ("cuda", || OrtDevice::cuda(0))])
    }
}

/// The same with each number changed.
fn map(tensor: &OrtTensor, f: impl Fn(usize, f32) -> f32) -> Result<OrtTensor, BoxError> {
    let host = HostTensor::new(tensor.dtype(), tensor.dims(), tensor.bytes().to_vec())?;
    let values = host.to_f32().ok_or("not f32")?;
    let mapped: Vec<f32> = values.into_iter().enumerate().map(|(i, x)| f(i, x)).collect();
    Ok(OrtTensor::from_host(&HostTensor::from_f32(tensor.dims(), &mapped)?))
}

impl Learner for Ort {
    type Library = backend::Ort;

    const DTYPES: &'static [DType] = &[
        DType::Bool,
        DType::U8,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    fn cpu(threads: Option<usize>, max_bytes: Option<usize>) -> OrtDevice {
        OrtDevice::cpu_with(CpuOptions::default().threads(threads).max_bytes(max_bytes)).unwrap()
    }

    /// Its tensors are contiguous, so this is a copy.
    fn transposed(matrix: &OrtTensor) -> OrtTensor {
        let &[rows, columns] = matrix.dims() else { panic!("{:?} is no matrix", matrix.dims()) };
        let size = matrix.dtype().size();
        let element = |row: usize, column: usize| &matrix.bytes()[(row * columns + column) * size..][..size];
        let bytes =
            (0..columns).flat_map(|column| (0..rows).flat_map(move |row| element(row, column).to_vec()));
        OrtTensor::from_host(&HostTensor::new(matrix.dtype(), &[columns, rows], bytes.collect()).unwrap())
    }
}

impl Computes<Adder> for backend::Ort {
    fn layers(_: &Adder, parameters: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        let w = parameters.get("w", &[4], Init::Uniform { lo: -1.0, up: 1.0 })?.to_f32().ok_or("not f32")?;
        Ok(Box::new(move |inputs: &[OrtTensor]| Ok(vec![map(&inputs[0], |i, x| x + w[i % 4])?])))
    }
}

impl Computes<Two> for backend::Ort {
    fn layers(_: &Two, parameters: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        let zero =
            |name| parameters.get(name, &[1], Init::Const(0.0))?.to_f32().ok_or(BoxError::from("not f32"));
        let (a, b) = (zero("a")?[0], zero("b")?[0]);
        Ok(Box::new(move |inputs: &[OrtTensor]| Ok(vec![map(&inputs[0], |_, x| x + 3.0 * a + 4.0 * b)?])))
    }
}

impl Computes<Odd> for backend::Ort {
    fn layers(_: &Odd, _: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(|inputs: &[OrtTensor]| Ok(vec![map(&inputs[0], |_, x| 2.0 * x)?, inputs[2].clone()])))
    }
}

/// Blocks that are there to be trained, which no case of inference makes.
macro_rules! only_trained {
    ($($spec:ty),*) => {$(
        impl Computes<$spec> for backend::Ort {
            fn layers(_: &$spec, _: &Parameters) -> Result<Box<dyn Layers>, BoxError> {
                Err("ONNX Runtime has no backward pass".into())
            }
        }
    )*};
}

only_trained!(Pupil, CutOff, Derived, Idle, Normed, Noisy, Bare);
