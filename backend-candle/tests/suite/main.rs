//! What is candle's own, through the backend's public interface. What every backend owes is in `tests`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod device;
#[cfg(feature = "models")]
mod encoder;
mod graph;
mod ragged;

use skep_backend_candle::candle_core::Device as Place;
use skep_backend_candle::prelude::*;

/// A tensor of 0, 1, 2 and so on.
fn counted(dims: &[usize]) -> Tensor {
    let count = dims.iter().product::<usize>();
    Tensor::arange(0.0, count as f32, &Place::Cpu).unwrap().reshape(dims).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}
