//! Layers that can be trained, with the names and first values that `PyTorch` gives them.

mod dropout;
mod linear;

pub use crate::block::by_mode;
pub use dropout::Dropout;
pub use linear::{Linear, linear};

use crate::block::Buffer;
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

/// Batch norm over dim 1: Ioffe and Szegedy, "Batch normalization: Accelerating deep network training by reducing internal
/// covariate shift", ICML 2015, with `PyTorch`'s defaults.
///
/// A training step uses the mean and variance of its batch, and moves the running ones a tenth of the way there. Inference
/// uses the running ones, which are part of the block's state.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Buffer,
    running_var: Buffer,
}

/// The part of the way that running statistics move in one step.
const MOMENTUM: f64 = 0.1;

impl BatchNorm {
    /// Creates the layer with the parameters `weight` (ones at first) and `bias` (zeros at first), and the buffers
    /// `running_mean` (zeros at first) and `running_var` (ones at first), all `[channels]`.
    ///
    /// # Errors
    ///
    /// Returns an error if they cannot be had.
    pub fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
            running_mean: Buffer::get(vb, channels, "running_mean", Init::Const(0.0))?,
            running_var: Buffer::get(vb, channels, "running_var", Init::Const(1.0))?,
        })
    }

    /// Maps `[batch, channels, ..]` to the same.
    ///
    /// # Errors
    ///
    /// Returns an error if `x` has no dim of channels, there is no room, or a training step has one value per channel
    /// only, of which there is no variance.
    pub fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        let channels = x.dim(1)?;
        let mut shape = vec![1; x.rank()];
        shape[1] = channels;
        let (mean, var) = if training {
            let flat = x.transpose(0, 1)?.contiguous()?.reshape((channels, ()))?;
            let count = flat.dim(1)?;
            if count < 2 {
                let few = "batch norm has 1 value for each channel in a training step, expected more";
                return Err(candle_core::Error::Msg(few.to_owned()));
            }
            let mean = flat.mean_keepdim(1)?;
            let var = flat.broadcast_sub(&mean)?.sqr()?.mean(1)?;
            let mean = mean.squeeze(1)?;
            let unbiased = (var.detach() * (count as f64 / (count - 1) as f64))?;
            let moved = |old: Tensor, new: &Tensor| (old * (1.0 - MOMENTUM))? + (new * MOMENTUM)?;
            self.running_mean.set(&moved(self.running_mean.value(), &mean.detach())?)?;
            self.running_var.set(&moved(self.running_var.value(), &unbiased)?)?;
            (mean, var)
        } else {
            (self.running_mean.value(), self.running_var.value())
        };
        let scale = (&self.weight / (var + f64::from(EPS))?.sqrt()?)?;
        let shift = (&self.bias - (&mean * &scale)?)?;
        x.broadcast_mul(&scale.reshape(&*shape)?)?.broadcast_add(&shift.reshape(&*shape)?)
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
