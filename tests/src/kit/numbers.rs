//! Numbers to compute with, and to compare.

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use skep_runtime_core::HostTensor;
use std::collections::BTreeMap;
use std::path::Path;

/// A tensor of f32 numbers that look random and are the same each time, between -1 and 1.
pub fn noise(dims: &[usize], seed: u32) -> HostTensor {
    let count = dims.iter().product::<usize>();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let values: Vec<f32> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
        })
        .collect();
    HostTensor::from_f32(dims, &values).unwrap()
}

/// The numbers of an f32 tensor, row major.
pub fn numbers(tensor: &HostTensor) -> Vec<f32> {
    tensor.to_f32().expect("tensor should hold f32")
}

/// Rows of a tensor, as a tensor of their own.
pub fn rows_of(tensor: &HostTensor, rows: std::ops::Range<usize>) -> HostTensor {
    let row = tensor.bytes().len() / tensor.dims()[0];
    let dims = [&[rows.len()], &tensor.dims()[1..]].concat();
    HostTensor::new(tensor.dtype(), &dims, tensor.bytes()[row * rows.start..row * rows.end].to_vec()).unwrap()
}

/// Checks each number beside the expected one.
///
/// # Panics
///
/// When two of them are further apart than `tolerance`.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance, "element {i} is {got}, expected {expected}");
    }
}

/// Writes a safetensors file of f32 tensors, as other programs do.
pub fn write_weights(file: &Path, tensors: &BTreeMap<String, HostTensor>) {
    let views = tensors.iter().map(|(name, tensor)| {
        (name, TensorView::new(Dtype::F32, tensor.dims().to_vec(), tensor.bytes()).unwrap())
    });
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}
