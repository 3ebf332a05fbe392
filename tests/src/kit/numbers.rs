//! Numbers to compute with, and to compare.

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use skep_runtime_core::{DType, HostTensor};
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

/// The numbers of a tensor of any floating-point type, row major.
pub fn wide_numbers(tensor: &HostTensor) -> Vec<f64> {
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        DType::F32 => numbers(tensor).into_iter().map(f64::from).collect(),
        DType::BF16 => {
            let wide = |b: &[u8; 2]| f64::from(f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
            bytes.as_chunks::<2>().0.iter().map(wide).collect()
        }
        _ => bytes.as_chunks::<2>().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
    }
}

/// The number of half precision with these bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let size = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 => {
            if fraction > 0.0 {
                f64::NAN
            } else {
                f64::INFINITY
            }
        }
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 0 { size } else { -size }
}

/// The same tensor in another floating-point type, rounded to the nearest, for numbers that it can hold.
pub fn in_dtype(tensor: &HostTensor, dtype: DType) -> HostTensor {
    let values = numbers(tensor);
    let bytes: Vec<u8> = match dtype {
        DType::F64 => values.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect(),
        DType::F32 => return tensor.clone(),
        DType::BF16 => values
            .iter()
            .flat_map(|v| {
                let bits = v.to_bits();
                u16::try_from((u64::from(bits) + 0x7fff + u64::from(bits >> 16 & 1)) >> 16)
                    .unwrap()
                    .to_le_bytes()
            })
            .collect(),
        _ => values.iter().flat_map(|v| half_bits(f64::from(*v)).to_le_bytes()).collect(),
    };
    HostTensor::new(dtype, tensor.dims(), bytes).unwrap()
}

/// The bits of the number of half precision next to `value`, halfway to even.
fn half_bits(value: f64) -> u16 {
    let all = 0..0x7c00u16;
    let size = value.abs();
    // They are in order, so the first that is not below is the next one up.
    let (mut low, mut high) = (all.start, all.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if half(middle) < size { low = middle + 1 } else { high = middle }
    }
    let below = low.saturating_sub(1);
    let (up, down) = (half(low) - size, size - half(below));
    let bits = if down < up || (down - up == 0.0 && below.is_multiple_of(2)) { below } else { low };
    bits | if value.is_sign_negative() { 1 << 15 } else { 0 }
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
