//! One layer of an encoder.

use super::attention::{Attention, Seen};
use super::parts::{Norm, Parts, activate};
use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module};
use skep_models::description::{self as described, Activation, Wide};

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
