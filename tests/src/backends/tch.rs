//! Backend tch.

use super::named::chosen;
use crate::kit::{Adder, Bare, Bias, CutOff, Derived, Idle, Noisy, Normed, Odd, Pupil, Two};
use crate::subject::{Learner, Subject};
use skep_backend_tch::layers::{BatchNorm, Dropout, by_mode, number};
use skep_backend_tch::tch::{Kind, Tensor};
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
        TchDevice::cpu_with(CpuOptions::default().threads(threads).max_bytes(max_bytes))
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

impl Computes<Pupil> for backend::Tch {
    fn layers(&Pupil { dtype, bias }: &Pupil, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let kind = match dtype {
            DType::F16 => Kind::Half,
            DType::BF16 => Kind::BFloat16,
            DType::F64 => Kind::Double,
            _ => Kind::Float,
        };
        let get = |name| vb.get_as(&[4], name, Init::Const(0.0), kind);
        let w = get("w")?;
        let b = if bias == Bias::Tied { get("w")? } else { get("b")? };
        Ok(Box::new(move |inputs: &[Tensor]| {
            let y = inputs[0].f_mul(&w)?;
            let without = bias == Bias::Late && y.size()[0] == 1;
            Ok(vec![if without { y } else { y.f_add(&b)? }])
        }))
    }
}

impl Computes<Derived> for backend::Tch {
    fn layers(_: &Derived, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let w2 = vb.get(&[4], "w", Init::Const(0.0))?.f_mul(&number(2.0)?)?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![inputs[0].f_mul(&w2)?])))
    }
}

impl Computes<Idle> for backend::Tch {
    fn layers(_: &Idle, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let zero = |dims: &[usize], name| vb.get(dims, name, Init::Const(0.0));
        let (w, _) = (zero(&[4], "w")?, zero(&[2], "idle")?);
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![inputs[0].f_mul(&w)?])))
    }
}

impl Computes<CutOff> for backend::Tch {
    fn layers(_: &CutOff, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let drawn = |name| vb.get(&[4], name, Init::Uniform { lo: 1.0, up: 2.0 });
        let (w, b) = (drawn("w")?, drawn("b")?);
        Ok(Box::new(move |inputs: &[Tensor]| {
            let h = inputs[0].f_mul(&w)?;
            Ok(vec![h.f_add(&h.f_detach()?.f_square()?)?.f_add(&b)?])
        }))
    }
}

impl Computes<Normed> for backend::Tch {
    fn layers(_: &Normed, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let norm = BatchNorm::new(3, &vb.pp("norm"))?;
        Ok(Box::new(by_mode(move |inputs: &[Tensor], training| {
            let options = (Kind::Float, inputs[0].device());
            let rows = [inputs[0].size()[0], 1];
            let mode =
                if training { Tensor::f_ones(rows, options)? } else { Tensor::f_zeros(rows, options)? };
            Ok(vec![norm.forward(&inputs[0], training)?, mode])
        })))
    }
}

impl Computes<Bare> for backend::Tch {
    fn layers(_: &Bare, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let w = vb.get(&[1, 4], "w", Init::Const(1.0))?;
        Ok(Box::new(move |inputs: &[Tensor]| Ok(vec![w.f_expand([inputs[0].size()[0], 4], false)?])))
    }
}

impl Computes<Noisy> for backend::Tch {
    fn layers(_: &Noisy, vb: &VarBuilder<'_>) -> Result<Box<dyn Layers>, BoxError> {
        let (w, dropout) = (vb.get(&[4], "w", Init::Uniform { lo: 1.0, up: 2.0 })?, Dropout::new(0.5, vb)?);
        Ok(Box::new(by_mode(move |inputs: &[Tensor], training| {
            Ok(vec![dropout.forward(&inputs[0].f_mul(&w)?, training)?])
        })))
    }
}
