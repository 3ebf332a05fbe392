//! One layer of an encoder.

use super::attention::{Attention, Seen};
use super::parts::{BuiltLinear, Norm, Parts, activate};
use crate::device::torch_dims;
use skep_models::description::{self as described, Activation, Wide};
use skep_runtime_core::BoxError;
use tch::{TchError, Tensor};

/// One layer.
pub(super) struct EncoderLayer {
    attention_before: Option<Norm>,
    attention: Attention,
    attention_after: Option<Norm>,
    feed_before: Option<Norm>,
    wide: BuiltWide,
    activation: Activation,
    narrow: BuiltLinear,
    feed_after: Option<Norm>,
}

enum BuiltWide {
    Plain(BuiltLinear),
    Gated { gate: BuiltLinear, up: BuiltLinear },
    Joined { linear: BuiltLinear, half: i64 },
}

impl EncoderLayer {
    pub(super) fn new(layer: &described::Layer, parts: &Parts<'_>) -> Result<Self, BoxError> {
        let feed = &layer.feed_forward;
        let wide = match &feed.wide {
            Wide::Plain(linear) => BuiltWide::Plain(parts.linear(linear)?),
            Wide::Gated { gate, up } => BuiltWide::Gated { gate: parts.linear(gate)?, up: parts.linear(up)? },
            Wide::Joined(linear) => {
                let half = torch_dims(&[linear.output / 2])?[0];
                BuiltWide::Joined { half, linear: parts.linear(linear)? }
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

    /// Lays weights out for inference, if they are `steady`.
    pub(super) fn prepare(&self, steady: bool) -> Result<(), TchError> {
        self.attention.prepare(steady)?;
        match &self.wide {
            BuiltWide::Plain(linear) | BuiltWide::Joined { linear, .. } => linear.prepare(steady)?,
            BuiltWide::Gated { gate, up } => {
                gate.prepare(steady)?;
                up.prepare(steady)?;
            }
        }
        self.narrow.prepare(steady)
    }

    /// `[batch, tokens, hidden]` to the same.
    pub(super) fn forward(&self, x: &Tensor, seen: &Seen) -> Result<Tensor, TchError> {
        let before = normed(self.attention_before.as_ref(), x)?;
        let h = x.f_add(&self.attention.forward(&before, seen)?)?;
        let h = normed(self.attention_after.as_ref(), &h)?;
        let before = normed(self.feed_before.as_ref(), &h)?;
        let y = h.f_add(&self.narrow.forward(&self.wide(&before)?)?)?;
        normed(self.feed_after.as_ref(), &y)
    }

    fn wide(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.wide {
            BuiltWide::Plain(linear) => linear.forward_then(self.activation, x),
            BuiltWide::Gated { gate, up } => gate.forward_then(self.activation, x)?.f_mul(&up.forward(x)?),
            BuiltWide::Joined { linear, half } => {
                let both = linear.forward(x)?;
                let gate = activate(self.activation, &both.f_narrow(-1, 0, *half)?)?;
                gate.f_mul(&both.f_narrow(-1, *half, *half)?)
            }
        }
    }
}

fn normed(norm: Option<&Norm>, x: &Tensor) -> Result<Tensor, TchError> {
    norm.map_or_else(|| Ok(x.shallow_clone()), |norm| norm.forward(x))
}
