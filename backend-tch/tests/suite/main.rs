//! The libtorch backend, through its public interface.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod any_bytes;
mod bert;
mod device;
mod gradients;
mod optimizer;
mod registry;
mod serving;
mod state;
mod torch_script;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use skep_backend_tch::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

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

fn ids(dims: &[usize], values: &[u32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TchDevice::cpu().from_host(&HostTensor::new(DType::U32, dims, bytes).unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    TchDevice::cpu().to_host(tensor).unwrap().to_f32().unwrap()
}

fn dims(tensor: &Tensor) -> Vec<usize> {
    TchDevice::cpu().describe(tensor).unwrap().dims.to_vec()
}

/// `tch::Tensor` is not `Clone`.
fn copies(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
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

fn host_noise(dims: &[usize], seed: u32) -> HostTensor {
    TchDevice::cpu().to_host(&noise(dims, seed)).unwrap()
}

/// A safetensors file of f32 tensors.
fn write_weights(file: &Path, tensors: &BTreeMap<String, HostTensor>) {
    let views = tensors.iter().map(|(name, tensor)| {
        (name, TensorView::new(Dtype::F32, tensor.dims().to_vec(), tensor.bytes()).unwrap())
    });
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}
