//! Elements as JSON: flat or nested as the shape is, never as a tree in memory.
//!
//! A tree of values takes some thirty times the bytes of its text, which a client could use to take all memory. So
//! numbers go from the text straight into the tensor's bytes, whose size has been compared with the text before.

use crate::tensor::coerce::{Number, writer};
use crate::tensor::datatype::{Datatype, elements};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use skep_runtime_core::{DType, HostTensor};
use std::fmt;

/// Reads the elements of a tensor, little endian and row major.
///
/// # Errors
///
/// What is wrong with the text.
pub(crate) fn read(raw: &RawValue, datatype: Datatype, dims: &[usize]) -> Result<Vec<u8>, String> {
    let text = raw.get();
    let (Some(count), Some(size)) = (elements(dims), datatype.size()) else {
        return Err(format!("a tensor of shape {dims:?} and datatype {} is too large", datatype.name()));
    };
    // Each element is a digit and a comma at least.
    if count > text.len() {
        return Err(format!("the text is too short for the {count} elements of shape {dims:?}"));
    }
    let mut sink = Sink { datatype, bytes: Vec::with_capacity(count * size), count: 0, most: count };
    let mut reader = serde_json::Deserializer::from_str(text);
    let flat = Level { sink: &mut sink, dims, whole: dims }.deserialize(&mut reader);
    flat.map_err(|error| strip(&error.to_string()))?;
    if sink.count != count {
        return Err(format!("there are {} elements, expected the {count} of shape {dims:?}", sink.count));
    }
    Ok(sink.bytes)
}

/// Without the place in the text, which counts from the tensor's own beginning.
fn strip(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

struct Sink {
    datatype: Datatype,
    bytes: Vec<u8>,
    count: usize,
    most: usize,
}

impl Sink {
    fn push(&mut self, number: Number) -> Result<(), String> {
        if self.count == self.most {
            return Err(format!("there are more than {} elements", self.most));
        }
        self.count += 1;
        let number = match (number, self.datatype) {
            (Number::Whole(value), Datatype::F32) => Number::Real(f64::from(narrow(value as f64)?)),
            (Number::Real(value), Datatype::F32) => Number::Real(f64::from(narrow(value)?)),
            (Number::Whole(value), Datatype::F64) => Number::Real(value as f64),
            (other, _) => other,
        };
        if writer(self.datatype)(number, &mut self.bytes) {
            return Ok(());
        }
        let shown = match number {
            Number::Whole(value) => value.to_string(),
            Number::Real(value) => format!("{value:?}"),
        };
        Err(format!("the element {shown} is no {}", self.datatype.name()))
    }
}

/// Decimals are rounded to the nearest number, as everywhere; what is too large is no number.
#[expect(clippy::cast_possible_truncation, reason = "rounding is meant")]
fn narrow(value: f64) -> Result<f32, String> {
    let narrow = value as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err(format!("the element {value:?} is no FP32")) }
}

/// An array: of as many arrays, or elements, as the first of `dims` says; or all elements if it is the outermost.
struct Level<'s> {
    sink: &'s mut Sink,
    dims: &'s [usize],
    /// The dims of the outermost array.
    whole: &'s [usize],
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { sink, dims, whole } = self;
        let outermost = dims.len() == whole.len();
        let rest = dims.get(1..).unwrap_or(&[]);
        let (mut arrays, mut scalars) = (0, 0);
        while let Some(was) = seq.next_element_seed(Item { sink, dims: rest, whole })? {
            match was {
                Was::Array => arrays += 1,
                Was::Scalar => scalars += 1,
            }
            if arrays > 0 && scalars > 0 {
                return Err(A::Error::custom("arrays and elements stand side by side"));
            }
            if scalars > 0 && !outermost && !rest.is_empty() {
                return Err(A::Error::custom(format!("it is nested otherwise than its shape {whole:?}")));
            }
        }
        if arrays > 0 && Some(&arrays) != dims.first() {
            return Err(A::Error::custom(format!("an array has {arrays} arrays, expected {}", dims[0])));
        }
        if scalars > 0 && !outermost && Some(&scalars) != dims.first() {
            return Err(A::Error::custom(format!("an array has {scalars} elements, expected {}", dims[0])));
        }
        Ok(())
    }
}

enum Was {
    Array,
    Scalar,
}

struct Item<'s> {
    sink: &'s mut Sink,
    dims: &'s [usize],
    whole: &'s [usize],
}

impl<'de> DeserializeSeed<'de> for Item<'_> {
    type Value = Was;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Was, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Item<'_> {
    fn push<E: serde::de::Error>(self, number: Number) -> Result<Was, E> {
        self.sink.push(number).map_err(E::custom)?;
        Ok(Was::Scalar)
    }
}

impl<'de> Visitor<'de> for Item<'_> {
    type Value = Was;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an element of datatype {}", self.sink.datatype.name())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Was, E> {
        if self.sink.datatype == Datatype::Bool {
            return self.push(Number::Whole(value.into()));
        }
        Err(E::custom(format!("the element {value} is no {}", self.sink.datatype.name())))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Was, E> {
        self.push(Number::Whole(value.into()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Was, E> {
        self.push(Number::Whole(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Was, E> {
        self.push(Number::Real(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Was, A::Error> {
        if self.dims.is_empty() {
            return Err(A::Error::custom(format!("it is nested deeper than its shape {:?}", self.whole)));
        }
        Level { sink: self.sink, dims: self.dims, whole: self.whole }.visit_seq(seq)?;
        Ok(Was::Array)
    }
}

/// Writes the elements of a tensor as a flat array.
///
/// # Errors
///
/// What JSON has no form for.
pub(crate) fn write(tensor: &HostTensor, out: &mut Vec<u8>) -> Result<(), String> {
    macro_rules! numbers {
        ($type:ty) => {
            for (i, value) in tensor.elements::<$type>().unwrap_or_default().iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                serde_json::to_writer(&mut *out, value).map_err(|error| error.to_string())?;
            }
        };
    }
    if !tensor.all_finite() {
        return Err(
            "has elements that are infinite or not a number, for which JSON has no form: ask for binary data"
                .to_owned(),
        );
    }
    out.push(b'[');
    match tensor.dtype() {
        DType::Bool => numbers!(bool),
        DType::U8 => numbers!(u8),
        DType::I8 => numbers!(i8),
        DType::I16 => numbers!(i16),
        DType::I32 => numbers!(i32),
        DType::U32 => numbers!(u32),
        DType::I64 => numbers!(i64),
        DType::F32 => numbers!(f32),
        DType::F64 => numbers!(f64),
        other => return Err(format!("is {other}, for which JSON has no form: ask for binary data")),
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str, datatype: Datatype, dims: &[usize]) -> Result<Vec<u8>, String> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read(raw, datatype, dims)
    }

    #[test]
    fn flat_and_nested_are_the_same() {
        let expected = [1_i32, 2, 3, 4].map(i32::to_le_bytes).concat();
        for text in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [1, 2],\n[3,4] ] "] {
            assert_eq!(of(text, Datatype::I32, &[2, 2]), Ok(expected.clone()), "{text}");
        }
        assert_eq!(of("[]", Datatype::F32, &[0, 4]), Ok(Vec::new()));
        assert_eq!(of("[[[1],[0]]]", Datatype::Bool, &[1, 2, 1]), Ok(vec![1, 0]));
        assert_eq!(of("[true,false]", Datatype::Bool, &[2]), Ok(vec![1, 0]));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        for (text, dims, told) in [
            ("[1,2,3]", &[2, 2][..], "there are 3 elements, expected the 4 of shape [2, 2]"),
            ("[1,2,3,4,5]", &[2, 2], "there are more than 4 elements"),
            ("[[1,2,3],[4]]", &[2, 2], "an array has 3 elements, expected 2"),
            ("[[1],[2],[3],[4]]", &[2, 2], "an array has 1 elements, expected 2"),
            ("[[1,2],3,4]", &[2, 2], "arrays and elements stand side by side"),
            ("[[[1,2],[3,4]]]", &[2, 2], "it is nested deeper than its shape [2, 2]"),
            ("[[1,2],[3,4]]", &[2, 1, 2], "it is nested otherwise than its shape [2, 1, 2]"),
            ("7", &[1], "invalid type: integer `7`, expected an array of elements"),
            ("[\"a\"]", &[1], "invalid type: string \"a\", expected an element of datatype INT8"),
            ("[128]", &[1], "the element 128 is no INT8"),
            ("[1.5]", &[1], "the element 1.5 is no INT8"),
            ("[true]", &[1], "the element true is no INT8"),
            (
                "[1]",
                &[1 << 60],
                "the text is too short for the 1152921504606846976 elements of shape [1152921504606846976]",
            ),
        ] {
            assert_eq!(of(text, Datatype::I8, dims), Err(told.to_owned()), "{text}");
        }
        let too_large = of("[1]", Datatype::I8, &[1 << 60, 1 << 60]).unwrap_err();
        assert!(too_large.ends_with("is too large"), "{too_large}");
        assert_eq!(of("[1e39]", Datatype::F32, &[1]), Err("the element 1e39 is no FP32".to_owned()));
    }

    #[test]
    fn deep_nests_do_not_overflow_the_stack() {
        let text = "[".repeat(100_000);
        assert!(of(&text, Datatype::F32, &[1]).is_err());
        let text = "[".repeat(120) + &"]".repeat(120);
        assert!(of(&text, Datatype::F32, &[1; 121]).is_err());
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        let nan = HostTensor::from_f32(&[2], &[1.0, f32::NAN]).unwrap();
        assert!(write(&nan, &mut Vec::new()).unwrap_err().contains("ask for binary data"));
        let half = HostTensor::new(DType::F16, &[1], vec![0, 0]).unwrap();
        assert!(write(&half, &mut Vec::new()).unwrap_err().starts_with("is f16"));
    }

    proptest! {
        #[test]
        fn floats_come_back(values in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::ZERO, 0..20)) {
            let tensor = HostTensor::from_f32(&[values.len()], &values).unwrap();
            let mut text = Vec::new();
            write(&tensor, &mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(of(&text, Datatype::F32, &[values.len()]).unwrap(), tensor.bytes());
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]0-9,.e\"tru-]{0,40}", dims in prop::collection::vec(0_usize..4, 0..4)) {
            if let Ok(bytes) = of(&text, Datatype::I16, &dims) {
                prop_assert_eq!(bytes.len(), 2 * dims.iter().product::<usize>());
            }
        }
    }
}
