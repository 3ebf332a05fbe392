//! Backend tch.

use super::named::chosen;
use crate::kit::{Adder, Odd, Two};
use crate::subject::{Learner, Subject};
use skep_backend_tch::tch::Tensor;
use skep_backend_tch::{self as backend, CpuOptions, Init, Layers, TchDevice, VarBuilder};
use skep_runtime_core::{BoxError, DType};
use skep_toolkit::Computes;

/// Backend tch.
#[derive(Debug)]
pub struct Tch;

impl Subject for Tch {
    type Device = TchDevice;

    fn device() -> TchDevice {
        chosen(true, &[("cpu", || Ok(TchDevice::cpu())), ("cuda", || TchDevice::cuda(0))])
    }
}

impl Learner for Tch {
    type Library = backend::Tch;

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

    fn cpu(threads: Option<usize>, max_bytes: Option<usize>) -> TchDevice {
        TchDevice::cpu_with(CpuOptions { threads, max_bytes })
    }

    fn transposed(matrix: &Tensor) -> Tensor {
        matrix.f_transpose(0, 1).unwrap()
    }
}

impl Computes<Adder> for backend::Tch {
    fn layers(_: &Adder, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let w = vb.get(&[4], "w", Init::Uniform { lo: -1.0, up: 1.0 })?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![inputs[0].f_add(&w)?])))
    }
}

impl Computes<Two> for backend::Tch {
    fn layers(_: &Two, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let zero = |name| vb.get(&[1], name, Init::Const(0.0));
        let (a, b) = (zero("a")?, zero("b")?);
        Ok(Box::new(move |inputs: &[Tensor]| {
            let a = inputs[0].f_add(&a.f_mul_scalar(3.0)?)?;
            Ok(vec![a.f_add(&b.f_mul_scalar(4.0)?)?])
        }))
    }
}

impl Computes<Odd> for backend::Tch {
    fn layers(_: &Odd, _: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        Ok(Box::new(|inputs: &[Tensor]| Ok(vec![inputs[0].f_mul_scalar(2.0)?, inputs[2].shallow_clone()])))
    }
}
