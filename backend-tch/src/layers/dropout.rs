//! Dropout that a restarted training repeats.

use crate::block::VarBuilder;
use skep_runtime_core::BoxError;
use skep_toolkit::{ConfigError, Draws};
use std::sync::Arc;
use tch::{TchError, Tensor};

/// Dropout: Srivastava et al., "Dropout: A simple way to prevent neural networks from overfitting", JMLR 2014, with the
/// elements that are kept scaled up in training, so that inference needs nothing.
///
/// What is dropped in a training step depends on the block's seed and the number of steps before, which are part of the
/// block's state: a training that is restarted from a checkpoint goes on as if it had not been interrupted. libtorch's own
/// dropout draws from the process's generator, which cannot be saved for a block.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    draws: Arc<Draws>,
}

impl Dropout {
    /// Creates the layer. It drops an element with this probability, at least 0 and below 1.
    ///
    /// # Errors
    ///
    /// Returns an error for another probability.
    pub fn new(probability: f64, vb: &VarBuilder<'_>) -> Result<Self, BoxError> {
        if !(0.0..1.0).contains(&probability) {
            return Err(ConfigError::invalid("probability", probability, "at least 0 and below 1").into());
        }
        Ok(Self { probability, draws: vb.draws() })
    }

    /// Maps any tensor to one of the same dims: to itself, unless it is part of a training step.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no room.
    pub fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor, TchError> {
        if !training || self.probability == 0.0 {
            return Ok(x.shallow_clone());
        }
        let factors = Tensor::f_from_slice(&self.draws.dropout(self.probability, x.numel()))?;
        let factors = factors.f_to_kind(x.kind())?.f_to(x.device())?.f_reshape(x.size())?;
        x.f_mul(&factors)
    }
}
