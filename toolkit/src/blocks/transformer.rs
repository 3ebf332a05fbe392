//! One layer of a transformer's encoder.

use super::activation::Activation;
use super::spec::{Signature, Spec, check_sizes};
use crate::config::{Config, ConfigError};
use skep_runtime_core::{DType, Dim, TensorSpec};

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
    /// Features between the linear layers. Four times the size unless set.
    pub hidden: usize,
    /// The most positions of a row. 512 unless set.
    pub max_positions: usize,
    /// Between the linear layers. `gelu` unless set.
    pub activation: Activation,
}

impl Spec for Transformer {
    const KIND: &'static str = "transformer";

    fn from_config(config: &Config) -> Result<Self, ConfigError> {
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

    fn signature(&self) -> Result<Signature, ConfigError> {
        let Self { size, heads, hidden, max_positions, .. } = *self;
        let sizes = [("size", size), ("heads", heads), ("hidden", hidden), ("max_positions", max_positions)];
        check_sizes(&sizes)?;
        if !size.is_multiple_of(heads) {
            return Err(ConfigError::invalid("size", size, format!("a multiple of {heads} heads")));
        }
        let dims = [Dim::Batch, Dim::free("positions", max_positions), Dim::Fixed(size)];
        let tensors = |name| vec![TensorSpec::new(name, DType::F32, dims.clone())];
        Signature::new(tensors("x"), tensors("y"))
    }
}
