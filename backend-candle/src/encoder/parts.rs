//! What layers are made of: linear layers, norms and activations, from a model's parameters.

use candle_core::{DType, Device as Place, Error, Result, Tensor};
use candle_nn::{Init, Linear, VarBuilder};
use skep_models::description::{self as described, Activation, NormKind};

/// A part of a description that was added to it after this was written.
pub(super) fn unknown(part: &dyn std::fmt::Debug) -> Error {
    Error::Msg(format!("{part:?} is not known to backend candle"))
}

/// Makes layers' parts of a model's parameters.
pub(super) struct Parts<'a> {
    vb: VarBuilder<'a>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(vb: &VarBuilder<'a>) -> Self {
        Self { vb: vb.clone() }
    }

    /// Whether the parameters are of this type and at this place.
    pub(super) fn are(&self, dtype: DType, place: &Place) -> bool {
        self.vb.dtype() == dtype && self.vb.device().same_device(place)
    }

    pub(super) fn get(&self, dims: &[usize], name: &str) -> Result<Tensor> {
        // Never drawn: the model's weights are read by name.
        self.vb.get_with_hints(dims, name, Init::Const(0.0))
    }

    pub(super) fn table(&self, table: &described::Table) -> Result<Tensor> {
        self.get(&[table.rows, table.size], &table.name)
    }

    pub(super) fn linear(&self, linear: &described::Linear) -> Result<Linear> {
        let weight = self.get(&[linear.output, linear.input], &linear.weight)?;
        let bias = linear.bias.as_ref().map(|bias| self.get(&[linear.output], bias)).transpose()?;
        Ok(Linear::new(weight, bias))
    }

    #[expect(clippy::cast_possible_truncation, reason = "candle takes an f32")]
    pub(super) fn norm(&self, norm: &described::Norm) -> Result<Norm> {
        let weight = self.get(&[norm.size], &norm.weight)?;
        let bias = match &norm.bias {
            Some(bias) => self.get(&[norm.size], bias)?,
            None => weight.detach().zeros_like()?,
        };
        Ok(Norm { kind: norm.kind, weight, bias, eps: norm.eps as f32 })
    }

    pub(super) fn optional_norm(&self, norm: Option<&described::Norm>) -> Result<Option<Norm>> {
        norm.map(|norm| self.norm(norm)).transpose()
    }
}

/// Normalisation over the last dim.
pub(super) struct Norm {
    kind: NormKind,
    weight: Tensor,
    /// Zeros where the model has none.
    bias: Tensor,
    eps: f32,
}

impl Norm {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // candle's fused operations have no backward pass, and sum in the elements' own precision.
        let fused = x.dtype() == DType::F32 && !self.weight.track_op() && !x.track_op();
        match (self.kind, fused) {
            (NormKind::Layer, true) => {
                candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.eps)
            }
            (NormKind::Layer, false) => {
                candle_nn::ops::layer_norm_slow(x, &self.weight, &self.bias, self.eps)
            }
            (NormKind::RootMeanSquare, true) => {
                candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.eps)
            }
            (NormKind::RootMeanSquare, false) => candle_nn::ops::rms_norm_slow(x, &self.weight, self.eps),
            (other, _) => Err(unknown(&other)),
        }
    }
}

/// A function of one number.
pub(super) fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Identity => Ok(x.clone()),
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::QuickGelu => x * sigmoid(&(x * 1.702)?)?,
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        other => Err(unknown(&other)),
    }
}

/// As a hyperbolic tangent, which has a backward pass and cannot overflow.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? + 1.0)? * 0.5
}
