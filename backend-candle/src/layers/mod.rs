//! Layers that can be trained, with the names and first values that `PyTorch` gives them.

mod linear;

pub use linear::{Linear, linear};

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// Layer norm over the last dim: Ba, Kiros and Hinton, "Layer normalization", 2016.
///
/// Gradients flow through it, unlike `candle_nn::LayerNorm`, whose fused operation it uses for inference only.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

/// `PyTorch`'s default, which keeps the division finite.
const EPS: f32 = 1e-5;

impl LayerNorm {
    /// Creates the layer with the parameters `weight` (ones at first) and `bias` (zeros at first), both `[size]`.
    ///
    /// # Errors
    ///
    /// Returns an error if the parameters cannot be had.
    pub fn new(size: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get_with_hints(size, "weight", Init::Const(1.0))?;
        let bias = vb.get_with_hints(size, "bias", Init::Const(0.0))?;
        Ok(Self { weight, bias })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.weight.track_op() || x.track_op() {
            candle_nn::ops::layer_norm_slow(x, &self.weight, &self.bias, EPS)
        } else {
            candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, EPS)
        }
    }
}

/// Scaled dot-product attention of several heads: Vaswani et al., "Attention is all you need", 2017.
///
/// Every position attends to every other of its row.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    heads: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl SelfAttention {
    /// Creates the layer with parameters under `q_proj`, `k_proj`, `v_proj` and `out_proj`. `heads` divides `size`.
    ///
    /// # Errors
    ///
    /// Returns an error if the parameters cannot be had.
    pub fn new(size: usize, heads: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            heads,
            query: linear(size, size, &vb.pp("q_proj"))?,
            key: linear(size, size, &vb.pp("k_proj"))?,
            value: linear(size, size, &vb.pp("v_proj"))?,
            output: linear(size, size, &vb.pp("out_proj"))?,
        })
    }

    /// `[batch, positions, size]` to `[batch, heads, positions, size / heads]`.
    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, positions, size) = x.dims3()?;
        x.reshape((batch, positions, self.heads, size / self.heads))?.transpose(1, 2)?.contiguous()
    }
}

impl Module for SelfAttention {
    /// Maps `[batch, positions, size]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let query = self.split(&self.query.forward(x)?)?;
        let key = self.split(&self.key.forward(x)?)?;
        let value = self.split(&self.value.forward(x)?)?;
        let scale = 1.0 / (query.dim(D::Minus1)? as f64).sqrt();
        let scores = (query.matmul(&key.transpose(2, 3)?.contiguous()?)? * scale)?;
        // The fused one has no backward pass.
        let weights = if scores.track_op() {
            candle_nn::ops::softmax(&scores, D::Minus1)?
        } else {
            candle_nn::ops::softmax_last_dim(&scores)?
        };
        let joined = weights.matmul(&value)?.transpose(1, 2)?.contiguous()?.reshape(x.shape())?;
        self.output.forward(&joined)
    }
}
