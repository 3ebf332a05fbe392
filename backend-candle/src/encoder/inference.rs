//! When an encoder is computed by the backend's own arithmetic: for inference, in f32, on the processor, while its
//! parameters stay as they are.

use super::fused::{Fused, Scratch};
use super::parts::Parts;
use crate::block::Changes;
use crate::kernels::processor::Processor;
use candle_core::{DType, Device as Place, Error, Result, Tensor};
use skep_models::description::Encoder;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// An encoder's layers for inference.
pub(super) struct Inference {
    encoder: Encoder,
    processor: Processor,
    changes: Changes,
    /// As the block has them.
    parameters: BTreeMap<String, Tensor>,
    /// None once the parameters are trained.
    state: RefCell<Option<State>>,
}

struct State {
    fused: Fused,
    /// The count of changes when it was laid out.
    count: u64,
    scratch: Vec<Scratch>,
}

impl Inference {
    /// The layers; `None` where candle's operations compute them.
    pub(super) fn new(encoder: &Encoder, parts: &Parts<'_>) -> Result<Option<Self>> {
        let (Some(changes), Some(processor)) = (Changes::in_the_making(), Processor::found()) else {
            return Ok(None);
        };
        let Some(count) = changes.count().filter(|_| parts.are(DType::F32, &Place::Cpu)) else {
            return Ok(None);
        };
        let parameters = RefCell::new(BTreeMap::new());
        let fused = Fused::new(encoder, processor, &|name, dims| {
            let parameter = parts.get(dims, name)?;
            let numbers = numbers(&parameter)?;
            parameters.borrow_mut().insert(name.to_owned(), parameter);
            Ok(numbers)
        })?;
        Ok(Some(Self {
            encoder: encoder.clone(),
            processor,
            changes,
            parameters: parameters.into_inner(),
            state: RefCell::new(Some(State { fused, count, scratch: Vec::new() })),
        }))
    }

    /// `x`, the vectors of the tokens of texts, of so many each, one after the other, after all layers; `mask` has a number
    /// for each token. `None` where candle's operations compute it.
    pub(super) fn forward(&self, x: &Tensor, mask: &Tensor, lengths: &[usize]) -> Result<Option<Tensor>> {
        let mut state = self.state.borrow_mut();
        let (Some(count), Some(state)) = (self.changes.count(), &mut *state) else {
            *state = None;
            return Ok(None);
        };
        if state.count != count {
            state.fused = Fused::new(&self.encoder, self.processor, &|name, _| {
                let missing =
                    || Error::Msg(format!("parameter `{name}` was not there when the block was loaded"));
                numbers(self.parameters.get(name).ok_or_else(missing)?)
            })?;
            state.count = count;
        }
        let State { fused, scratch, .. } = state;
        let mut vectors = numbers(x)?;
        let mask = mask.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
        fused.forward(&mut vectors, &mask, lengths, scratch)?;
        Ok(Some(Tensor::from_vec(vectors, x.dims(), &Place::Cpu)?))
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
