//! The candle backend, through its public interface.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod any_bytes;
mod bert;
mod device;
mod gradients;
mod optimizer;
mod registry;
mod state;

use skep_backend_candle::candle_core::Device as Place;
use skep_backend_candle::prelude::*;

/// A tensor of numbers that look random and are the same each time, between -1 and 1.
fn noise(dims: &[usize], seed: u32) -> Tensor {
    let count = dims.iter().product::<usize>();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
        })
        .collect();
    Tensor::from_vec(values, dims, &Place::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance, "element {i} is {got}, expected {expected}");
    }
}

fn loaded(mut block: CandleBlock) -> CandleBlock {
    block.load(&CandleDevice::cpu()).unwrap();
    block
}
