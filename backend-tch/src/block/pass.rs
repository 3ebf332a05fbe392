//! The arithmetic of a block, as an application writes it.

use tch::{TchError, Tensor};

/// The arithmetic of a block: input tensors to output tensors.
///
/// For inference it is called without a graph being recorded, for training with one. Use tch's methods whose
/// names begin with `f_`: they return errors, where the others (and the operators) panic. Those of them that take
/// a plain number panic as well; [`layers::number`](crate::layers::number) is a way around. A panic is caught by
/// the runtime and fails the batch, but its type is lost: out of memory, say.
pub trait Layers: Send + 'static {
    /// Maps the inputs to the outputs. Every tensor has the batch's rows as dim 0.
    ///
    /// # Errors
    ///
    /// Returns libtorch's errors; they fail the batch.
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError>;

    /// Does the same as part of a training step, for layers that behave differently in one: dropout, batch norm
    /// ([`layers::by_mode`](crate::layers::by_mode) makes such layers of a closure).
    ///
    /// # Errors
    ///
    /// Returns libtorch's errors; they fail the batch.
    fn forward_training(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        self.forward(inputs)
    }

    /// Called when the layers have been made, and each time that the block's parameters were replaced: true if they stay
    /// as they are until the next call, so that layers may keep them in a layout of their own; false if they are
    /// trained. Layers that keep nothing ignore it.
    ///
    /// # Errors
    ///
    /// Returns libtorch's errors; the block is then not loaded, or not restored.
    fn prepare(&self, steady: bool) -> Result<(), TchError> {
        let _ = steady;
        Ok(())
    }

    /// Returns the names of the outputs, as far as the layers have some. Known after a forward pass.
    fn output_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns true if the layers compute with the very tensors that they got from the builder, and keep nothing that
    /// they derived of them. Then they need not be made anew whenever parameters have changed.
    fn read_through(&self) -> bool {
        false
    }
}

impl<F> Layers for F
where
    F: Fn(&[Tensor]) -> Result<Vec<Tensor>, TchError> + Send + 'static,
{
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        self(inputs)
    }
}

/// Makes layers of a closure that is told whether the pass is part of a training step, for layers that behave
/// differently in one:
///
/// ```
/// use skep_backend_tch::layers::{BatchNorm, Dropout, by_mode};
/// use skep_backend_tch::runtime::DType;
/// use skep_backend_tch::prelude::*;
///
/// let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[8])])?;
/// let block = TchBlock::new("noisy", inputs, |vb| {
///     let (norm, dropout) = (BatchNorm::new(8, &vb.pp("norm"))?, Dropout::new(0.1, vb)?);
///     Ok(Box::new(by_mode(move |inputs: &[Tensor], training| {
///         Ok(vec![dropout.forward(&norm.forward(&inputs[0], training)?, training)?])
///     })))
/// });
/// # drop(block);
/// # Ok::<(), skep_backend_tch::runtime::BoxError>(())
/// ```
pub fn by_mode<F>(layers: F) -> impl Layers
where
    F: Fn(&[Tensor], bool) -> Result<Vec<Tensor>, TchError> + Send + 'static,
{
    ByMode(layers)
}

struct ByMode<F>(F);

impl<F> Layers for ByMode<F>
where
    F: Fn(&[Tensor], bool) -> Result<Vec<Tensor>, TchError> + Send + 'static,
{
    fn forward(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        (self.0)(inputs, false)
    }

    fn forward_training(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        (self.0)(inputs, true)
    }
}
