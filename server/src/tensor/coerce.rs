//! Elements of one type as elements of another, only if nothing is lost.
//!
//! Clients send token ids as INT64 or INT32 where a model takes u32, and numpy's floats are FP64. Integers become any
//! type that holds their value, floats become floats; floats never become integers.

use crate::problem::Problem;
use crate::tensor::datatype::Datatype;
use half::{bf16, f16};
use skep_runtime_core::DType;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Whole(i128),
    Real(f64),
}

/// Returns the elements as `to`.
pub(crate) fn coerce(
    input: &str,
    from: Datatype,
    to: DType,
    bytes: impl AsRef<[u8]> + Into<Vec<u8>>,
) -> Result<Vec<u8>, Problem> {
    let target = Datatype::from(to);
    if from == target && from != Datatype::Bool {
        return Ok(bytes.into());
    }
    let (Some(size), Some(read)) = (from.size(), reader(from)) else {
        let message = format!("input `{input}` has datatype {}, expected {}", from.name(), target.name());
        return Err(Problem::invalid(message));
    };
    let bytes = bytes.as_ref();
    let mut out = Vec::with_capacity(bytes.len() / size * to.size());
    let write = writer(target);
    for element in bytes.chunks_exact(size) {
        let number = read(element);
        if !write(number, &mut out) {
            let shown = match number {
                Number::Whole(value) => value.to_string(),
                Number::Real(value) => format!("{value:?}"),
            };
            let (got, expected) = (from.name(), target.name());
            let message = format!(
                "input `{input}` has datatype {got}, expected {expected}, which cannot hold its element {shown}"
            );
            return Err(Problem::invalid(message));
        }
    }
    Ok(out)
}

type Read = fn(&[u8]) -> Number;
type Write = fn(Number, &mut Vec<u8>) -> bool;

/// The element at the beginning of `bytes`; `None` of texts.
pub(crate) fn reader(from: Datatype) -> Option<Read> {
    fn own<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.first_chunk().copied().unwrap_or([0; N])
    }
    Some(match from {
        Datatype::Bool | Datatype::U8 => |b| Number::Whole(u8::from_le_bytes(own(b)).into()),
        Datatype::U16 => |b| Number::Whole(u16::from_le_bytes(own(b)).into()),
        Datatype::U32 => |b| Number::Whole(u32::from_le_bytes(own(b)).into()),
        Datatype::U64 => |b| Number::Whole(u64::from_le_bytes(own(b)).into()),
        Datatype::I8 => |b| Number::Whole(i8::from_le_bytes(own(b)).into()),
        Datatype::I16 => |b| Number::Whole(i16::from_le_bytes(own(b)).into()),
        Datatype::I32 => |b| Number::Whole(i32::from_le_bytes(own(b)).into()),
        Datatype::I64 => |b| Number::Whole(i64::from_le_bytes(own(b)).into()),
        Datatype::F16 => |b| Number::Real(f16::from_le_bytes(own(b)).into()),
        Datatype::BF16 => |b| Number::Real(bf16::from_le_bytes(own(b)).into()),
        Datatype::F32 => |b| Number::Real(f32::from_le_bytes(own(b)).into()),
        Datatype::F64 => |b| Number::Real(f64::from_le_bytes(own(b))),
        Datatype::Bytes => return None,
    })
}

/// Appends a number as an element, and returns false if the type cannot hold it.
pub(crate) fn writer(to: Datatype) -> Write {
    macro_rules! whole {
        ($type:ty) => {
            |number, out| match number {
                Number::Whole(value) => {
                    <$type>::try_from(value).map(|value| out.extend(value.to_le_bytes())).is_ok()
                }
                Number::Real(_) => false,
            }
        };
    }
    match to {
        Datatype::Bool => |number, out| match number {
            Number::Whole(value @ (0 | 1)) => {
                out.push(u8::from(value == 1));
                true
            }
            _ => false,
        },
        Datatype::U8 => whole!(u8),
        Datatype::U16 => whole!(u16),
        Datatype::U32 => whole!(u32),
        Datatype::U64 => whole!(u64),
        Datatype::I8 => whole!(i8),
        Datatype::I16 => whole!(i16),
        Datatype::I32 => whole!(i32),
        Datatype::I64 => whole!(i64),
        Datatype::F16 => |number, out| {
            real(
                number,
                |value| f16::from_f64(value).to_f64(),
                |value| out.extend(f16::from_f64(value).to_le_bytes()),
            )
        },
        Datatype::BF16 => |number, out| {
            let round = |value| bf16::from_f64(value).to_f64();
            real(number, round, |value| out.extend(bf16::from_f64(value).to_le_bytes()))
        },
        Datatype::F32 => |number, out| {
            #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
            let narrow = |value: f64| value as f32;
            real(number, |value| narrow(value).into(), |value| out.extend(narrow(value).to_le_bytes()))
        },
        Datatype::F64 => |number, out| real(number, |value| value, |value| out.extend(value.to_le_bytes())),
        Datatype::Bytes => |_, _| false,
    }
}

/// Hands a number over as a float if it comes back from `round` as it was.
#[expect(clippy::float_cmp, reason = "exactly as it was")]
fn real(number: Number, round: impl Fn(f64) -> f64, write: impl FnOnce(f64)) -> bool {
    let value = match number {
        Number::Real(value) => value,
        #[expect(clippy::cast_possible_truncation, reason = "compared with what it was")]
        Number::Whole(whole) => {
            let value = whole as f64;
            if value as i128 != whole {
                return false;
            }
            value
        }
    };
    let kept = value.is_nan() || round(value) == value;
    if kept {
        write(value);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn i64s(values: &[i64]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn ids_become_what_the_model_takes() {
        let ids = coerce("ids", Datatype::I64, DType::U32, i64s(&[0, 101, i64::from(u32::MAX)])).unwrap();
        assert_eq!(ids, [[0, 0, 0, 0], [101, 0, 0, 0], [255; 4]].concat());
        let error = coerce("ids", Datatype::I64, DType::U32, i64s(&[1, -1])).unwrap_err();
        assert_eq!(
            error.message,
            "input `ids` has datatype INT64, expected UINT32, which cannot hold its element -1"
        );
    }

    #[test]
    fn floats_are_narrowed_only_if_they_stay_what_they_are() {
        let f64s = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let halves = coerce("x", Datatype::F64, DType::F32, f64s(&[0.5, -0.0, f64::INFINITY])).unwrap();
        assert_eq!(halves, [0.5_f32, -0.0, f32::INFINITY].map(f32::to_le_bytes).concat());
        assert!(coerce("x", Datatype::F64, DType::F32, f64s(&[0.1])).is_err());
        assert!(coerce("x", Datatype::F64, DType::F32, f64s(&[1e300])).is_err());
        assert!(coerce("x", Datatype::F64, DType::I64, f64s(&[1.0])).is_err(), "floats are no integers");
        assert!(coerce("x", Datatype::F64, DType::F32, f64s(&[f64::NAN])).is_ok());
        assert!(coerce("x", Datatype::I64, DType::F32, i64s(&[(1 << 24) + 1])).is_err());
        assert_eq!(coerce("x", Datatype::F16, DType::F32, vec![0x00, 0x3c]).unwrap(), 1_f32.to_le_bytes());
    }

    #[test]
    fn truth_is_0_or_1() {
        assert_eq!(coerce("m", Datatype::Bool, DType::U32, vec![1, 0]).unwrap(), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert!(coerce("m", Datatype::Bool, DType::Bool, vec![2]).is_err());
        assert_eq!(coerce("m", Datatype::I64, DType::Bool, i64s(&[1])).unwrap(), [1]);
    }

    proptest! {
        #[test]
        fn whole_numbers_come_back(value in any::<i64>()) {
            for to in [DType::I32, DType::U32, DType::I16, DType::U8, DType::F64, DType::F32] {
                let Ok(bytes) = coerce("x", Datatype::I64, to, i64s(&[value])) else { continue };
                let read = reader(to.into()).unwrap();
                #[expect(clippy::cast_possible_truncation)]
                let back = match read(&bytes) { Number::Whole(whole) => whole, Number::Real(real) => real as i128 };
                prop_assert_eq!(back, i128::from(value), "{}", to);
            }
        }
    }
}
