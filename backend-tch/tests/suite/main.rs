//! What is libtorch's own, through the backend's public interface. What every backend owes is in `tests`.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod device;
mod graph;
mod package;
mod script_calls;
mod serving;
mod silero;
mod torch_script;

use skep_backend_tch::prelude::*;

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
    tensor(dims, &values)
}

fn tensor(dims: &[usize], values: &[f32]) -> Tensor {
    TchDevice::cpu().from_host(&HostTensor::from_f32(dims, values).unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    TchDevice::cpu().to_host(tensor).unwrap().to_f32().unwrap()
}

fn dims(tensor: &Tensor) -> Vec<usize> {
    TchDevice::cpu().describe(tensor).unwrap().dims.to_vec()
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance, "element {i} is {got}, expected {expected}");
    }
}

fn loaded(mut block: TchBlock) -> TchBlock {
    block.load(&TchDevice::cpu()).unwrap();
    block
}
