//! Layers that can be trained, with the names and first values that `PyTorch` gives them.

mod dropout;

use crate::block::VarBuilder;
use crate::device::torch_dims;
use skep_runtime_core::BoxError;
use skep_toolkit::Init;
use tch::{TchError, Tensor};

pub use crate::block::by_mode;
pub use dropout::Dropout;

/// Returns a tensor that holds one number, to compute with: tch's methods that take a plain number
/// (`f_mul_scalar`) panic where they should return an error.
///
/// # Errors
///
/// Returns an error if there is no room.
pub fn number(value: f64) -> Result<Tensor, TchError> {
    let no_dims: [i64; 0] = [];
    Tensor::f_from_slice(&[value])?.f_reshape(no_dims)
}

/// A tensor that holds one whole number.
pub(crate) fn whole(value: i64) -> Result<Tensor, TchError> {
    let no_dims: [i64; 0] = [];
    Tensor::f_from_slice(&[value])?.f_reshape(no_dims)
}

/// A linear layer with bias.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

/// Creates a linear layer with bias: `weight` is `[output, input]`, `bias` is `[output]`, both drawn uniformly from
/// `±1/sqrt(input)`.
///
/// # Errors
///
/// Returns an error if the parameters cannot be had.
pub fn linear(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear, BoxError> {
    let bound = 1.0 / (input as f64).sqrt();
    let init = Init::Uniform { lo: -bound, up: bound };
    let weight = vb.get(&[output, input], "weight", init)?;
    let bias = vb.get(&[output], "bias", init)?;
    Ok(Linear { weight, bias })
}

impl Linear {
    /// Maps `[.., input]` to `[.., output]`.
    ///
    /// # Errors
    ///
    /// Returns an error if `x` does not fit, or there is no room.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.weight, Some(&self.bias))
    }
}

/// Layer norm over the last dim: Ba, Kiros and Hinton, "Layer normalization", 2016.
#[derive(Debug)]
pub struct LayerNorm {
    size: i64,
    eps: f64,
    weight: Tensor,
    bias: Tensor,
}

/// `PyTorch`'s default, which keeps the division finite.
const EPS: f64 = 1e-5;

impl LayerNorm {
    /// Creates the layer with the parameters `weight` (ones at first) and `bias` (zeros at first), both `[size]`.
    ///
    /// # Errors
    ///
    /// Returns an error if the parameters cannot be had.
    pub fn new(size: usize, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        Self::with_eps(size, EPS, vb)
    }

    /// Creates the same with another number under the division.
    ///
    /// # Errors
    ///
    /// Returns an error if the parameters cannot be had.
    pub fn with_eps(size: usize, eps: f64, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        let weight = vb.get(&[size], "weight", Init::Const(1.0))?;
        let bias = vb.get(&[size], "bias", Init::Const(0.0))?;
        Ok(Self { size: torch_dims(&[size])?[0], eps, weight, bias })
    }

    /// Maps `[.., size]` to the same.
    ///
    /// # Errors
    ///
    /// Returns an error if `x` does not fit, or there is no room.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.size, Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// Batch norm over dim 1: Ioffe and Szegedy, "Batch normalization: Accelerating deep network training by reducing internal
/// covariate shift", ICML 2015, with `PyTorch`'s defaults.
///
/// A training step uses the mean and variance of its batch, and moves the running ones a tenth of the way there. Inference
/// uses the running ones, which are part of the block's state.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
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
    pub fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        Ok(Self {
            weight: vb.get(&[channels], "weight", Init::Const(1.0))?,
            bias: vb.get(&[channels], "bias", Init::Const(0.0))?,
            running_mean: vb.buffer(&[channels], "running_mean", Init::Const(0.0))?,
            running_var: vb.buffer(&[channels], "running_var", Init::Const(1.0))?,
        })
    }

    /// Maps `[batch, channels, ..]` to the same.
    ///
    /// # Errors
    ///
    /// Returns an error if `x` has no dim of channels, there is no room, or a training step has one value per channel
    /// only, of which there is no variance.
    pub fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, TchError> {
        let channels = x.size().get(1).copied().and_then(|channels| usize::try_from(channels).ok());
        if training && x.numel() <= channels.unwrap_or(0) {
            let few = "batch norm has 1 value for each channel in a training step, expected more";
            return Err(TchError::Torch(few.to_owned()));
        }
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        let (mean, var) = (Some(&self.running_mean), Some(&self.running_var));
        x.f_batch_norm(weight, bias, mean, var, training, MOMENTUM, EPS, false)
    }
}

/// Scaled dot-product attention of several heads: Vaswani et al., "Attention is all you need", 2017.
///
/// Every position attends to every other of its row.
#[derive(Debug)]
pub struct SelfAttention {
    size: i64,
    heads: i64,
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
    pub fn new(size: usize, heads: usize, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        Self::named(size, heads, vb, ["q_proj", "k_proj", "v_proj", "out_proj"])
    }

    /// Creates the same with the parameters of query, key, value and output under other names.
    ///
    /// # Errors
    ///
    /// Returns an error if the parameters cannot be had.
    pub fn named(
        size: usize,
        heads: usize,
        vb: &VarBuilder<'_>,
        [query, key, value, output]: [&str; 4],
    ) -> Result<Self, BoxError> {
        let dims = torch_dims(&[size, heads])?;
        let layer = |name: &str| linear(size, size, &vb.pp(name));
        Ok(Self {
            size: dims[0],
            heads: dims[1],
            query: layer(query)?,
            key: layer(key)?,
            value: layer(value)?,
            output: layer(output)?,
        })
    }

    /// Maps `[batch, positions, size]` to the same.
    ///
    /// # Errors
    ///
    /// Returns an error if `x` does not fit, or there is no room.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.masked(x, None)
    }

    /// Does the same, with `mask`, `[batch, 1, 1, positions]`, added to the scores.
    ///
    /// # Errors
    ///
    /// Returns an error if `x` or the mask does not fit, or there is no room.
    pub fn masked(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, TchError> {
        let (batch, positions, _) = x.size3()?;
        // `[batch, positions, size]` to `[batch, heads, positions, size / heads]`.
        let split = |x: Tensor| {
            x.f_reshape([batch, positions, self.heads, self.size / self.heads])?.f_transpose(1, 2)
        };
        let query = split(self.query.forward(x)?)?;
        let key = split(self.key.forward(x)?)?;
        let value = split(self.value.forward(x)?)?;
        let attended =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, mask, 0.0, false, None, false)?;
        let joined = attended.f_transpose(1, 2)?.f_reshape([batch, positions, self.size])?;
        self.output.forward(&joined)
    }
}
