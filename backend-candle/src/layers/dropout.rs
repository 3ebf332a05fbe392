//! Dropout that a restarted training repeats.

use crate::block::Draws;
use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;

/// Dropout: Srivastava et al., "Dropout: A simple way to prevent neural networks from overfitting", JMLR 2014, with the
/// elements that are kept scaled up in training, so that inference needs nothing.
///
/// What is dropped in a training step depends on the block's seed and the number of steps before, which are part of the
/// block's state: a training that is restarted from a checkpoint goes on as if it had not been interrupted. candle's own
/// `Dropout` draws from the process's generator, which cannot be saved.
#[derive(Clone, Debug)]
pub struct Dropout {
    probability: f64,
    draws: Draws,
}

impl Dropout {
    /// Creates the layer. It drops an element with this probability, at least 0 and below 1.
    ///
    /// # Errors
    ///
    /// Returns an error for another probability, and if the builder is not that of a block.
    pub fn new(probability: f64, _: &VarBuilder<'_>) -> Result<Self> {
        if !(0.0..1.0).contains(&probability) {
            let wrong = format!("probability of dropout is {probability}, expected at least 0 and below 1");
            return Err(Error::Msg(wrong));
        }
        let outside = || Error::Msg("dropout needs the builder of a block".to_owned());
        Ok(Self { probability, draws: Draws::in_the_making().ok_or_else(outside)? })
    }

    /// Maps any tensor to one of the same dims: to itself, unless it is part of a training step.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no room.
    pub fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        if !training || self.probability == 0.0 {
            return Ok(x.clone());
        }
        let factors = self.draws.dropout(self.probability, x.elem_count());
        x * Tensor::from_vec(factors, x.shape(), x.device())?.to_dtype(x.dtype())?
    }
}
