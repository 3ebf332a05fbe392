//! One layer of an encoder, and what layers are made of.

use super::attention::{Attention, Seen};
use candle_core::{DType, Error, Result, Tensor};
use candle_nn::{Init, Linear, Module, VarBuilder};
use skep_models::description::{self as described, Activation, NormKind, Wide};

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

    fn get(&self, dims: &[usize], name: &str) -> Result<Tensor> {
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

/// One layer.
pub(super) struct EncoderLayer {
    attention_before: Option<Norm>,
    attention: Attention,
    attention_after: Option<Norm>,
    feed_before: Option<Norm>,
    wide: BuiltWide,
    activation: Activation,
    narrow: Linear,
    feed_after: Option<Norm>,
}

enum BuiltWide {
    Plain(Linear),
    Gated { gate: Linear, up: Linear },
    Joined { linear: Linear, half: usize },
}

impl EncoderLayer {
    pub(super) fn new(layer: &described::Layer, parts: &Parts<'_>) -> Result<Self> {
        let feed = &layer.feed_forward;
        let wide = match &feed.wide {
            Wide::Plain(linear) => BuiltWide::Plain(parts.linear(linear)?),
            Wide::Gated { gate, up } => BuiltWide::Gated { gate: parts.linear(gate)?, up: parts.linear(up)? },
            Wide::Joined(linear) => {
                BuiltWide::Joined { half: linear.output / 2, linear: parts.linear(linear)? }
            }
        };
        Ok(Self {
            attention_before: parts.optional_norm(layer.attention_before.as_ref())?,
            attention: Attention::new(&layer.attention, parts)?,
            attention_after: parts.optional_norm(layer.attention_after.as_ref())?,
            feed_before: parts.optional_norm(layer.feed_before.as_ref())?,
            wide,
            activation: feed.activation,
            narrow: parts.linear(&feed.narrow)?,
            feed_after: parts.optional_norm(layer.feed_after.as_ref())?,
        })
    }

    /// `[batch, tokens, hidden]` to the same.
    pub(super) fn forward(&self, x: &Tensor, seen: &Seen) -> Result<Tensor> {
        let before = normed(self.attention_before.as_ref(), x)?;
        let h = (x + self.attention.forward(&before, seen)?)?;
        let h = normed(self.attention_after.as_ref(), &h)?;
        let before = normed(self.feed_before.as_ref(), &h)?;
        let y = (&h + self.narrow.forward(&self.wide(&before)?)?)?;
        normed(self.feed_after.as_ref(), &y)
    }

    fn wide(&self, x: &Tensor) -> Result<Tensor> {
        match &self.wide {
            BuiltWide::Plain(linear) => activate(self.activation, &linear.forward(x)?),
            BuiltWide::Gated { gate, up } => activate(self.activation, &gate.forward(x)?)? * up.forward(x)?,
            BuiltWide::Joined { linear, half } => {
                let both = linear.forward(x)?;
                let last = candle_core::D::Minus1;
                let gate = both.narrow(last, 0, *half)?.contiguous()?;
                activate(self.activation, &gate)? * both.narrow(last, *half, *half)?
            }
        }
    }
}

fn normed(norm: Option<&Norm>, x: &Tensor) -> Result<Tensor> {
    norm.map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))
}
