//! Backend candle.

use super::named::chosen;
use crate::kit::{Adder, Odd, Two};
use crate::subject::{Learner, Subject};
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use skep_backend_candle::{self as backend, CandleDevice, CpuOptions, Layers, candle_core, candle_nn};
use skep_runtime_core::DType;
use skep_toolkit::Computes;

/// Backend candle.
#[derive(Debug)]
pub struct Candle;

impl Subject for Candle {
    type Device = CandleDevice;

    fn device() -> CandleDevice {
        chosen(
            cfg!(not(any(feature = "tch", feature = "ort"))),
            &[
                ("cpu", || Ok(CandleDevice::cpu())),
                ("cuda", || CandleDevice::cuda(0)),
                ("metal", || CandleDevice::metal(0)),
            ],
        )
    }
}

impl Learner for Candle {
    type Library = backend::Candle;

    const DTYPES: &'static [DType] = &[
        DType::U8,
        DType::I16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::F16,
        DType::BF16,
        DType::F32,
        DType::F64,
    ];

    fn cpu(threads: Option<usize>, max_bytes: Option<usize>) -> CandleDevice {
        CandleDevice::cpu_with(CpuOptions { threads, max_bytes })
    }

    fn transposed(matrix: &Tensor) -> Tensor {
        matrix.t().unwrap()
    }
}

impl Computes<Adder> for backend::Candle {
    fn layers(_: &Adder, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let w = vb.get_with_hints(4, "w", Init::Uniform { lo: -1.0, up: 1.0 })?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![inputs[0].broadcast_add(&w)?])))
    }
}

impl Computes<Two> for backend::Candle {
    fn layers(_: &Two, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let (a, b) = (vb.get(1, "a")?, vb.get(1, "b")?);
        Ok(Box::new(move |inputs: &[Tensor]| {
            let a = inputs[0].broadcast_add(&a.affine(3.0, 0.0)?)?;
            Ok(vec![a.broadcast_add(&b.affine(4.0, 0.0)?)?])
        }))
    }
}

impl Computes<Odd> for backend::Candle {
    fn layers(_: &Odd, _: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        Ok(Box::new(|inputs: &[Tensor]| Ok(vec![inputs[0].affine(2.0, 0.0)?, inputs[2].clone()])))
    }
}
