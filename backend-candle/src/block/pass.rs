//! The arithmetic of a block, as an application writes it.

use candle_core::{Result, Tensor};

/// The arithmetic of a block: input tensors to output tensors.
///
/// It is called with other weights for inference than for training: for inference they are plain tensors, so
/// that no graph is recorded; for training they are variables. Both have the same values.
///
/// **Take care with candle's fused operations.** `candle_nn::LayerNorm`, `rms_norm` and `softmax_last_dim` have
/// no backward pass, and gradients end there without an error of candle's. Parameters that get no gradient at all are named
/// in the error of the first step; one that has another way to the outputs as well gets a part of its gradient, and nobody
/// can tell. [`layers`](crate::layers) has a layer norm that can be trained; `candle_nn::ops::softmax` can be
/// trained too.
pub trait Layers: Send + 'static {
    /// Maps the inputs to the outputs. Every tensor has the batch's rows as dim 0.
    ///
    /// # Errors
    ///
    /// Returns candle's errors; they fail the batch.
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;

    /// Does the same as part of a training step, for layers that behave differently in one: dropout, batch norm
    /// ([`layers::by_mode`](crate::layers::by_mode) makes such layers of a closure).
    ///
    /// # Errors
    ///
    /// Returns candle's errors; they fail the batch.
    fn forward_training(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.forward(inputs)
    }
}

impl<F> Layers for F
where
    F: Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + 'static,
{
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self(inputs)
    }
}

/// Makes layers of a closure that is told whether the pass is part of a training step, for layers that behave
/// differently in one:
///
/// ```
/// use skep_backend_candle::layers::{BatchNorm, Dropout, by_mode};
/// use skep_backend_candle::runtime::DType;
/// use skep_backend_candle::prelude::*;
///
/// let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[8])])?;
/// let block = CandleBlock::new("noisy", inputs, |vb| {
///     let (norm, dropout) = (BatchNorm::new(8, &vb.pp("norm"))?, Dropout::new(0.1, vb)?);
///     Ok(Box::new(by_mode(move |inputs: &[Tensor], training| {
///         Ok(vec![dropout.forward(&norm.forward(&inputs[0], training)?, training)?])
///     })))
/// });
/// # drop(block);
/// # Ok::<(), skep_backend_candle::runtime::BoxError>(())
/// ```
pub fn by_mode<F>(layers: F) -> impl Layers
where
    F: Fn(&[Tensor], bool) -> Result<Vec<Tensor>> + Send + 'static,
{
    ByMode(layers)
}

struct ByMode<F>(F);

impl<F> Layers for ByMode<F>
where
    F: Fn(&[Tensor], bool) -> Result<Vec<Tensor>> + Send + 'static,
{
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        (self.0)(inputs, false)
    }

    fn forward_training(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        (self.0)(inputs, true)
    }
}
