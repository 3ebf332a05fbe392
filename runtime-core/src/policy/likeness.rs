//! How far two tensors are apart.

use crate::contract::tensor::{DType, HostTensor};

/// The largest difference of two elements, for numbers above 1 in parts of them: [`f64::MAX`] for tensors of different
/// types or dims, and where one has a number and the other has none.
pub(crate) fn difference(a: &HostTensor, b: &HostTensor) -> f64 {
    if (a.dtype(), a.dims()) != (b.dtype(), b.dims()) {
        return f64::MAX;
    }
    // Also what is not a number is like itself.
    if a.bytes() == b.bytes() {
        return 0.0;
    }
    let pairs = numbers(a).into_iter().zip(numbers(b));
    pairs.map(|(a, b)| apart(a, b)).fold(0.0, f64::max)
}

fn apart(a: f64, b: f64) -> f64 {
    if a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let difference = (a - b).abs() / b.abs().max(1.0);
    if difference.is_finite() { difference } else { f64::MAX }
}

fn numbers(tensor: &HostTensor) -> Vec<f64> {
    fn of<E: crate::contract::tensor::Element>(tensor: &HostTensor, wide: impl Fn(E) -> f64) -> Vec<f64> {
        tensor.elements().unwrap_or_default().into_iter().map(wide).collect()
    }
    let halves = |wide: fn(u16) -> f64| {
        tensor.bytes().as_chunks::<2>().0.iter().map(|bytes| wide(u16::from_le_bytes(*bytes))).collect()
    };
    match tensor.dtype() {
        DType::F64 => of::<f64>(tensor, |v| v),
        DType::F32 => of::<f32>(tensor, f64::from),
        DType::BF16 => halves(|bits| f64::from(f32::from_bits(u32::from(bits) << 16))),
        DType::F16 => halves(half),
        DType::I64 => of::<i64>(tensor, |v| v as f64),
        DType::U32 => of::<u32>(tensor, f64::from),
        DType::I32 => of::<i32>(tensor, f64::from),
        DType::I16 => of::<i16>(tensor, f64::from),
        DType::I8 => of::<i8>(tensor, f64::from),
        DType::U8 => of::<u8>(tensor, f64::from),
        DType::Bool => of::<bool>(tensor, |v| f64::from(u8::from(v))),
    }
}

/// The number of IEEE half precision with these bits.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let size = match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(values: &[f32]) -> HostTensor {
        HostTensor::from_f32(&[values.len()], values).unwrap()
    }

    #[track_caller]
    fn check(a: &HostTensor, b: &HostTensor, expected: f64) {
        for got in [difference(a, b), difference(b, a)] {
            assert!((got - expected).abs() <= 1e-3 * expected, "{got}, expected {expected}");
        }
    }

    #[test]
    fn numbers_above_1_count_in_parts_of_them() {
        check(&f32s(&[0.25, 1.0]), &f32s(&[0.5, 1.0]), 0.25);
        check(&f32s(&[1000.0]), &f32s(&[1001.0]), 0.001);
        check(&f32s(&[]), &f32s(&[]), 0.0);
    }

    #[test]
    fn what_is_no_number_is_like_itself_only() {
        let odd = f32s(&[f32::NAN, f32::INFINITY, -0.0]);
        check(&odd, &odd, 0.0);
        check(&odd, &f32s(&[f32::NAN, f32::INFINITY, 0.0]), 0.0);
        for other in [[0.0, f32::INFINITY, 0.0], [f32::NAN, f32::NEG_INFINITY, 0.0], [f32::NAN, 1.0, 0.0]] {
            check(&odd, &f32s(&other), f64::MAX);
        }
    }

    #[test]
    fn other_types_and_dims_cannot_be_compared() {
        check(&f32s(&[1.0]), &HostTensor::from_u32(&[1], &[1]).unwrap(), f64::MAX);
        check(&f32s(&[1.0, 1.0]), &HostTensor::from_f32(&[2, 1], &[1.0, 1.0]).unwrap(), f64::MAX);
    }

    #[test]
    fn each_type_is_read() {
        let of = |dtype, bytes: &[u8]| HostTensor::new(dtype, &[1], bytes.to_vec()).unwrap();
        let halves = |dtype, a: u16, b: u16| (of(dtype, &a.to_le_bytes()), of(dtype, &b.to_le_bytes()));
        for (a, b) in [
            halves(DType::F16, 0x3800, 0x3400),
            halves(DType::BF16, 0x3f00, 0x3e80),
            (of(DType::F64, &0.5_f64.to_le_bytes()), of(DType::F64, &0.25_f64.to_le_bytes())),
        ] {
            check(&a, &b, 0.25);
        }
        check(
            &of(DType::F16, &0x0400_u16.to_le_bytes()),
            &of(DType::F16, &0x0200_u16.to_le_bytes()),
            2f64.powi(-15),
        );
        for dtype in [DType::Bool, DType::U8, DType::I8, DType::I16, DType::I32, DType::U32, DType::I64] {
            let one = |value: u8| of(dtype, &[&[value][..], &vec![0; dtype.size() - 1]].concat());
            check(&one(0), &one(1), 1.0);
        }
    }
}
