//! Backend candle.

use super::named::chosen;
use crate::kit::{Adder, Bare, Bias, CutOff, Derived, Idle, Noisy, Normed, Odd, Pupil, Two};
use crate::subject::{Learner, Subject};
use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use skep_backend_candle::layers::{BatchNorm, Dropout, by_mode};
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
        CandleDevice::cpu_with(CpuOptions::default().threads(threads).max_bytes(max_bytes))
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

impl Computes<Pupil> for backend::Candle {
    fn layers(&Pupil { dtype, bias }: &Pupil, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let vb = vb.clone().set_dtype(match dtype {
            DType::F16 => candle_core::DType::F16,
            DType::BF16 => candle_core::DType::BF16,
            DType::F64 => candle_core::DType::F64,
            _ => candle_core::DType::F32,
        });
        let w = vb.get(4, "w")?;
        let b = if bias == Bias::Tied { vb.get(4, "w")? } else { vb.get(4, "b")? };
        Ok(Box::new(move |inputs: &[Tensor]| {
            let y = inputs[0].broadcast_mul(&w)?;
            let without = bias == Bias::Late && y.dim(0)? == 1;
            Ok(vec![if without { y } else { y.broadcast_add(&b)? }])
        }))
    }
}

impl Computes<Derived> for backend::Candle {
    fn layers(_: &Derived, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let w2 = (vb.get(4, "w")? * 2.0)?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![inputs[0].broadcast_mul(&w2)?])))
    }
}

impl Computes<Idle> for backend::Candle {
    fn layers(_: &Idle, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let (w, _) = (vb.get(4, "w")?, vb.get(2, "idle")?);
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![inputs[0].broadcast_mul(&w)?])))
    }
}

impl Computes<CutOff> for backend::Candle {
    fn layers(_: &CutOff, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let drawn = |name| vb.get_with_hints(4, name, Init::Uniform { lo: 1.0, up: 2.0 });
        let (w, b) = (drawn("w")?, drawn("b")?);
        Ok(Box::new(move |inputs: &[Tensor]| {
            let h = inputs[0].broadcast_mul(&w)?;
            Ok(vec![(&h + h.detach().sqr()?)?.broadcast_add(&b)?])
        }))
    }
}

impl Computes<Normed> for backend::Candle {
    fn layers(_: &Normed, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let norm = BatchNorm::new(3, &vb.pp("norm"))?;
        Ok(Box::new(by_mode(move |inputs: &[Tensor], training| {
            let mode =
                Tensor::full(f32::from(u8::from(training)), (inputs[0].dim(0)?, 1), inputs[0].device())?;
            Ok(vec![norm.forward(&inputs[0], training)?, mode])
        })))
    }
}

impl Computes<Bare> for backend::Candle {
    fn layers(_: &Bare, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let w = vb.get_with_hints((1, 4), "w", Init::Const(1.0))?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![w.broadcast_as((inputs[0].dim(0)?, 4))?])))
    }
}

impl Computes<Noisy> for backend::Candle {
    fn layers(_: &Noisy, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>> {
        let w = vb.get_with_hints(4, "w", Init::Uniform { lo: 1.0, up: 2.0 })?;
        let dropout = Dropout::new(0.5, vb)?;
        Ok(Box::new(by_mode(move |inputs: &[Tensor], training| {
            Ok(vec![dropout.forward(&inputs[0].broadcast_mul(&w)?, training)?])
        })))
    }
}
