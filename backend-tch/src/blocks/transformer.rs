//! One layer of a transformer's encoder.

use super::{Activation, activate};
use crate::block::TchBlock;
use crate::layers::{LayerNorm, SelfAttention, linear};
use skep_runtime_core::{DType, Dim, TensorSpec};
use skep_toolkit::{Config, ConfigError, check_sizes, schema};
use tch::Tensor;

/// `x` `[batch, positions, size]` to `y` of the same dims, both f32, without dropout: a layer of the encoder
/// of Vaswani et al., "Attention is all you need", 2017, with the norms after the additions.
///
/// `y = norm2(h + linear2(activation(linear1(h))))` where `h = norm1(x + self_attn(x))`. Tasks run in one
/// batch with tasks of as many positions. Parameters: `self_attn.{q,k,v,out}_proj`, `linear1`, `linear2`,
/// `norm1`, `norm2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transformer {
    /// Features of a position. A multiple of `heads`.
    pub size: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Features between the linear layers.
    pub hidden: usize,
    /// The most positions of a row.
    pub max_positions: usize,
    /// Between the linear layers.
    pub activation: Activation,
}

impl Transformer {
    /// Reads `size`, `heads`, `hidden` (four times the size unless given), `max_positions` (512 unless
    /// given) and `activation` (`gelu` unless given).
    ///
    /// # Errors
    ///
    /// When a setting is missing, unknown or of another type.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        config.only(&["size", "heads", "hidden", "max_positions", "activation"])?;
        let size: usize = config.required("size")?;
        Ok(Self {
            size,
            heads: config.required("heads")?,
            hidden: config.or("hidden", size.saturating_mul(4))?,
            max_positions: config.or("max_positions", 512)?,
            activation: config.or("activation", Activation::default())?,
        })
    }

    /// The block of this name.
    ///
    /// # Errors
    ///
    /// When a number is 0, or `size` is not a multiple of `heads`.
    pub fn block(self, name: impl Into<String>) -> Result<TchBlock, ConfigError> {
        let Self { size, heads, hidden, max_positions, .. } = self;
        let sizes = [("size", size), ("heads", heads), ("hidden", hidden), ("max_positions", max_positions)];
        check_sizes(&sizes)?;
        if !size.is_multiple_of(heads) {
            return Err(ConfigError::invalid("size", size, format!("a multiple of {heads} heads")));
        }
        let dims = [Dim::Batch, Dim::Free { max: max_positions }, Dim::Fixed(size)];
        let inputs = schema(vec![TensorSpec::new("x", DType::F32, dims)])?;
        let outputs = schema(vec![TensorSpec::new("y", DType::F32, dims)])?;
        let block = TchBlock::new(name, inputs, move |vb| {
            let attention = SelfAttention::new(size, heads, &vb.pp("self_attn"))?;
            let linear1 = linear(size, hidden, &vb.pp("linear1"))?;
            let linear2 = linear(hidden, size, &vb.pp("linear2"))?;
            let norm1 = LayerNorm::new(size, &vb.pp("norm1"))?;
            let norm2 = LayerNorm::new(size, &vb.pp("norm2"))?;
            let activation = self.activation;
            Ok(Box::new(move |inputs: &[Tensor]| {
                let x = &inputs[0];
                let h = norm1.forward(&x.f_add(&attention.forward(x)?)?)?;
                let wide = activate(activation, &linear1.forward(&h)?)?;
                Ok(vec![norm2.forward(&h.f_add(&linear2.forward(&wide)?)?)?])
            }))
        });
        Ok(block.with_outputs(outputs))
    }
}
