//! The linear layer, in two ways: candle's operations, through which gradients flow, and the backend's own arithmetic,
//! for inference in f32 on the processor while the parameters stay as they are.

use crate::block::Changes;
use crate::kernels::linear::{Linear as LaidOut, Parts};
use crate::kernels::pointwise::{Function, apply};
use crate::kernels::processor::Processor;
use candle_core::{CpuStorage, DType, Device as Place, Result, Storage, Tensor};
use candle_nn::{Init, Module, VarBuilder};
use skep_toolkit::blocks::Activation;
use std::cell::RefCell;

/// A linear layer with bias. Gradients flow through it.
#[derive(Clone, Debug)]
pub struct Linear {
    layer: candle_nn::Linear,
    inference: Option<Inference>,
}

/// What inference needs, where candle's operations are not what computes it.
#[derive(Clone, Debug)]
struct Inference {
    processor: Processor,
    changes: Changes,
    state: RefCell<State>,
}

#[derive(Clone, Debug)]
struct State {
    /// With the count of changes when it was laid out; none once the parameters are trained.
    laid_out: Option<(u64, LaidOut)>,
    parts: Parts,
}

/// Creates a linear layer with bias: `weight` is `[output, input]`, `bias` is `[output]`, both drawn uniformly from
/// `±1/sqrt(input)`.
///
/// # Errors
///
/// Returns an error if the parameters cannot be had.
pub fn linear(input: usize, output: usize, vb: &VarBuilder<'_>) -> Result<Linear> {
    let bound = 1.0 / (input as f64).sqrt();
    let init = Init::Uniform { lo: -bound, up: bound };
    let weight = vb.get_with_hints((output, input), "weight", init)?;
    let bias = vb.get_with_hints(output, "bias", init)?;
    let on_host = weight.dtype() == DType::F32 && weight.device().same_device(&Place::Cpu);
    let layer = candle_nn::Linear::new(weight, Some(bias));
    let inference = match (Changes::in_the_making(), Processor::found()) {
        (Some(changes), Some(processor)) if on_host => {
            // Where the block is loaded, which is not the device's thread: its first batch takes no longer than others.
            let laid_out =
                changes.count().map(|count| lay_out(processor, &layer).map(|laid_out| (count, laid_out)));
            let state = State { laid_out: laid_out.transpose()?, parts: Parts::new() };
            Some(Inference { processor, changes, state: RefCell::new(state) })
        }
        _ => None,
    };
    Ok(Linear { layer, inference })
}

fn lay_out(processor: Processor, layer: &candle_nn::Linear) -> Result<LaidOut> {
    let weight = layer.weight().flatten_all()?.to_vec1::<f32>()?;
    let bias = layer.bias().map(Tensor::to_vec1::<f32>).transpose()?;
    Ok(LaidOut::new(processor, &weight, layer.weight().dim(1)?, bias))
}

impl Linear {
    /// Maps `[.., input]` to `activation` of `[.., output]`.
    ///
    /// # Errors
    ///
    /// Returns candle's errors.
    pub fn forward_then(&self, activation: Activation, x: &Tensor) -> Result<Tensor> {
        let function = match activation {
            Activation::Gelu => Function::Gelu,
            Activation::Relu => Function::Relu,
        };
        if let Some(y) = self.infer(function, x)? {
            return Ok(y);
        }
        let y = self.layer.forward(x)?;
        match activation {
            Activation::Gelu => y.gelu_erf(),
            Activation::Relu => y.relu(),
        }
    }

    /// `None` where candle's operations compute it.
    fn infer(&self, function: Function, x: &Tensor) -> Result<Option<Tensor>> {
        let Some(Inference { processor, changes, state }) = &self.inference else { return Ok(None) };
        let Some(count) = changes.count() else {
            state.borrow_mut().laid_out = None;
            return Ok(None);
        };
        if x.track_op() {
            return Ok(None);
        }
        let (output, input) = self.layer.weight().dims2()?;
        if x.dims().last() != Some(&input) {
            // candle says what is wrong with it.
            return Ok(None);
        }
        let x = x.contiguous()?;
        let (storage, layout) = x.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(numbers)), Some((start, end))) =
            (&*storage, layout.contiguous_offsets())
        else {
            return Ok(None);
        };
        let State { laid_out, parts } = &mut *state.borrow_mut();
        if laid_out.as_ref().is_none_or(|(known, _)| *known != count) {
            *laid_out = Some((count, lay_out(*processor, &self.layer)?));
        }
        let Some((_, laid_out)) = laid_out else { return Ok(None) };
        parts.resize_with(rayon::current_num_threads(), Vec::new);
        let mut y = Vec::new();
        laid_out.apply(*processor, &numbers[start..end], (end - start) / input.max(1), &mut y, parts);
        apply(*processor, function, &mut y);
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = output;
        }
        Ok(Some(Tensor::from_vec(y, dims, &Place::Cpu)?))
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self.infer(Function::Identity, x)? {
            Some(y) => Ok(y),
            None => self.layer.forward(x),
        }
    }
}
