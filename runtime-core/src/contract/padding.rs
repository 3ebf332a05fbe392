//! Padding: tasks whose free dims differ in one batch.

use crate::contract::dims::Dim;
use crate::contract::schema::Schema;
use crate::contract::tensor::DType;

/// A rule by which tasks whose free dims differ share batches.
///
/// Each input is filled up along its free dims to what the rule makes of the longest task of the batch, and outputs with
/// a free dim of the same name are cut back to each task's own size. Tasks share a batch if the rule puts their sizes into
/// one class, so like lengths run together. In a backward pass gradients are filled up with 0, so that padding adds nothing
/// to a step where the block heeds the mask; the gradients of all inputs come back, that of the mask too.
///
/// ```
/// use skep_runtime_core::{PadTo, Padding};
///
/// let padding = Padding::new(PadTo::Multiple(8)).with_value("input_ids", 1u32).with_mask("attention_mask");
/// assert_eq!(padding.class(13, 512), 16);
/// assert_eq!(padding.class(511, 511), 511, "no more than the block takes");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Padding {
    to: PadTo,
    values: Vec<(String, f64)>,
    mask: Option<String>,
}

/// The size up to which tasks of a batch are padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PadTo {
    /// To the longest task of the batch. Tasks share a batch if the next powers of two are the same, so at most half of a
    /// batch is padding.
    Longest,
    /// To the next multiple.
    Multiple(usize),
    /// To the next of these sizes, which ascend; what is longer than all of them, to the most that the block takes.
    Buckets(Vec<usize>),
}

impl Padding {
    /// Creates a rule that fills up with zeros.
    pub fn new(to: PadTo) -> Self {
        Self { to, values: Vec::new(), mask: None }
    }

    /// Sets the number that one input is filled up with. 0 unless set.
    pub fn with_value(mut self, input: impl Into<String>, value: impl Into<f64>) -> Self {
        self.values.push((input.into(), value.into()));
        self
    }

    /// Makes an input of the block in the pool, instead of taking it from callers: 1 in each place of a task, and 0 where
    /// there is padding.
    pub fn with_mask(mut self, input: impl Into<String>) -> Self {
        self.mask = Some(input.into());
        self
    }

    /// Returns the size up to which tasks are padded.
    pub fn to(&self) -> &PadTo {
        &self.to
    }

    /// Returns the input that is made in the pool.
    pub fn mask(&self) -> Option<&str> {
        self.mask.as_deref()
    }

    /// Returns the number that an input is filled up with.
    pub fn value(&self, input: &str) -> f64 {
        self.values.iter().rev().find(|(name, _)| name == input).map_or(0.0, |(_, value)| *value)
    }

    /// Returns the class of a size: tasks of one class share batches. It is also the most that a task of this size is
    /// padded to, `max` being the most that the block takes.
    pub fn class(&self, size: usize, max: usize) -> usize {
        let class = match &self.to {
            PadTo::Longest => size.checked_next_power_of_two(),
            PadTo::Multiple(of) => size.checked_next_multiple_of((*of).max(1)),
            PadTo::Buckets(sizes) => sizes.iter().copied().find(|bucket| *bucket >= size),
        };
        class.unwrap_or(max).min(max).max(size)
    }

    /// Returns the size to which all tasks of a batch are padded, whose longest has `longest`.
    pub fn padded(&self, longest: usize, max: usize) -> usize {
        match self.to {
            PadTo::Longest => longest,
            PadTo::Multiple(_) | PadTo::Buckets(_) => self.class(longest, max),
        }
    }

    /// What is wrong with this rule for tasks of these tensors: the value and what was expected.
    pub(crate) fn fault(&self, takes: &Schema) -> Option<(String, &'static str)> {
        match &self.to {
            PadTo::Multiple(0) => return Some(("to a multiple of 0".to_owned(), "a multiple of at least 1")),
            PadTo::Buckets(sizes) if sizes.is_empty() || !sizes.is_sorted() || sizes.contains(&0) => {
                return Some((format!("to buckets {sizes:?}"), "sizes from 1 that ascend"));
            }
            _ => {}
        }
        if takes.free().is_empty() {
            return Some(("padding".to_owned(), "none: the block has no free dims"));
        }
        let named = |name: &str| takes.tensors().iter().find(|spec| spec.name() == name);
        for (name, value) in &self.values {
            let Some(spec) = named(name) else {
                return Some((format!("a value for `{name}`"), "values for inputs of the block"));
            };
            let is_index = spec.index_below().is_none_or(|below| *value < below as f64);
            if element(spec.dtype(), *value).is_none() || !is_index {
                return Some((format!("{value} for `{name}`"), "a number that the input can hold"));
            }
        }
        let mask = self.mask()?;
        let Some(spec) = named(mask) else {
            return Some((format!("a mask `{mask}`"), "an input of the block"));
        };
        let others = takes.without(mask).ok();
        let most =
            |name: &str| others.as_ref()?.free().iter().find(|free| &*free.name == name).map(|free| free.max);
        let is_mask = match spec.dims() {
            [Dim::Batch, Dim::Free { name, max }] => most(name).is_some_and(|most| most <= *max),
            _ => false,
        };
        let holds_one =
            element(spec.dtype(), 1.0).is_some() && spec.index_below().is_none_or(|below| below > 1);
        let expected = "[batch, a free dim that another input has, no larger], of numbers";
        (!is_mask || !holds_one).then(|| (format!("a mask `{mask}`"), expected))
    }
}

/// The bytes of one element, little endian; `None` if the type cannot hold the number. Of half precision only 0 and 1 are
/// known.
#[expect(clippy::cast_possible_truncation, reason = "f32 rounds, and whole numbers are checked")]
pub(crate) fn element(dtype: DType, value: f64) -> Option<Vec<u8>> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    let whole = || Some(value as i64).filter(|_| value.fract() == 0.0 && (-END..END).contains(&value));
    Some(match dtype {
        DType::Bool => vec![u8::try_from(whole()?).ok().filter(|value| *value < 2)?],
        DType::U8 => u8::try_from(whole()?).ok()?.to_le_bytes().to_vec(),
        DType::I8 => i8::try_from(whole()?).ok()?.to_le_bytes().to_vec(),
        DType::I16 => i16::try_from(whole()?).ok()?.to_le_bytes().to_vec(),
        DType::I32 => i32::try_from(whole()?).ok()?.to_le_bytes().to_vec(),
        DType::U32 => u32::try_from(whole()?).ok()?.to_le_bytes().to_vec(),
        DType::I64 => whole()?.to_le_bytes().to_vec(),
        DType::F16 | DType::BF16 => match (whole()?, dtype) {
            (0, _) => vec![0, 0],
            (1, DType::F16) => 0x3c00_u16.to_le_bytes().to_vec(),
            (1, _) => 0x3f80_u16.to_le_bytes().to_vec(),
            _ => return None,
        },
        DType::F32 => {
            let rounded = value as f32;
            (rounded.is_finite() || value.is_infinite()).then(|| rounded.to_le_bytes().to_vec())?
        }
        DType::F64 => (!value.is_nan()).then(|| value.to_le_bytes().to_vec())?,
    })
}

/// Appends a tensor's elements to `out`, filled up with `element` from the dims `from` to the dims `to`: each is written
/// once.
///
/// For backends whose tensors are slices, of elements or of as many bytes as `element` has. Both have the same number of
/// dims, and no dim of `to` is smaller.
///
/// ```
/// use skep_runtime_core::pad_into;
///
/// let mut padded = Vec::new();
/// pad_into(&mut padded, &[1, 2, 3, 4], &[2, 2], &[2, 3], &[0]);
/// assert_eq!(padded, [1, 2, 0, 3, 4, 0]);
/// ```
pub fn pad_into<T: Copy>(out: &mut Vec<T>, source: &[T], from: &[usize], to: &[usize], element: &[T]) {
    pad_spans(source, from, to, element.len(), &mut |span| match (span, element) {
        (Span::Own(own), _) => out.extend_from_slice(own),
        (Span::Padding(count), [value]) => out.resize(out.len() + count, *value),
        (Span::Padding(count), bytes) => (0..count).for_each(|_| out.extend_from_slice(bytes)),
    });
}

/// A stretch of a tensor that was filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span<'a, T> {
    /// Of its own.
    Own(&'a [T]),
    /// So many elements of padding.
    Padding(usize),
}

/// Calls `each` with the stretches of a tensor filled up from the dims `from` to the dims `to`, in order: for backends that
/// have [`pad_into`]'s work to do in memory of another kind. An element is `size` of the slice's.
pub fn pad_spans<'a, T>(
    source: &'a [T],
    from: &[usize],
    to: &[usize],
    size: usize,
    each: &mut impl FnMut(Span<'a, T>),
) {
    if from == to {
        return each(Span::Own(source));
    }
    let (Some((&own, inner_from)), Some((&all, inner_to))) = (from.split_first(), to.split_first()) else {
        return;
    };
    let inner = inner_from.iter().product::<usize>() * size;
    for block in source.chunks_exact(inner.max(1)).take(own) {
        pad_spans(block, inner_from, inner_to, size, each);
    }
    each(Span::Padding(all.saturating_sub(own) * inner_to.iter().product::<usize>()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::schema::TensorSpec;
    use proptest::prelude::*;

    #[test]
    fn every_element_is_at_its_place_and_the_rest_is_padding() {
        let mut out = Vec::new();
        let source: Vec<u32> = (1..=12).collect();
        pad_into(&mut out, &source, &[2, 3, 2], &[2, 4, 3], &[0]);
        assert_eq!(out, [1, 2, 0, 3, 4, 0, 5, 6, 0, 0, 0, 0, 7, 8, 0, 9, 10, 0, 11, 12, 0, 0, 0, 0]);
        let mut bytes = Vec::new();
        pad_into(&mut bytes, &[1, 2, 3, 4], &[2, 1], &[3, 1], &[8, 9]);
        assert_eq!(bytes, [1, 2, 3, 4, 8, 9]);
    }

    fn rule() -> impl Strategy<Value = PadTo> {
        let buckets = prop::collection::btree_set(1usize..64, 1..5);
        prop_oneof![
            Just(PadTo::Longest),
            (1usize..20).prop_map(PadTo::Multiple),
            buckets.prop_map(|sizes| PadTo::Buckets(sizes.into_iter().collect())),
        ]
    }

    proptest! {
        #[test]
        fn all_of_a_class_fit_and_none_is_padded_beyond_it(to in rule(), sizes in prop::collection::vec(1usize..64, 1..9)) {
            let (padding, max) = (Padding::new(to), 64);
            let class = padding.class(sizes[0], max);
            let batch: Vec<usize> = sizes.into_iter().filter(|size| padding.class(*size, max) == class).collect();
            let longest = batch.iter().copied().max().unwrap_or(0);
            let padded = padding.padded(longest, max);
            prop_assert!(padded >= longest && padded <= class && class <= max);
        }
    }

    #[test]
    fn rules_that_cannot_be_honoured_are_told() {
        let dims = |max| vec![Dim::Batch, Dim::free("tokens", max)];
        let ids = TensorSpec::new("ids", DType::U32, dims(8)).with_index_below(100);
        let mask = TensorSpec::new("mask", DType::U32, dims(8)).with_index_below(2);
        let short = TensorSpec::new("short", DType::U32, dims(7));
        let rows = TensorSpec::rows("x", DType::F32, &[2]);
        let inputs = Schema::new(vec![ids, mask, rows.clone()]).unwrap();
        let fault = |padding: Padding| padding.fault(&inputs).map(|(got, _)| got);
        let multiple = || Padding::new(PadTo::Multiple(4));
        assert_eq!(fault(multiple().with_value("ids", 99).with_mask("mask")), None);
        assert_eq!(fault(Padding::new(PadTo::Multiple(0))).unwrap(), "to a multiple of 0");
        assert_eq!(fault(Padding::new(PadTo::Buckets(vec![8, 4]))).unwrap(), "to buckets [8, 4]");
        assert_eq!(fault(Padding::new(PadTo::Buckets(vec![]))).unwrap(), "to buckets []");
        assert_eq!(fault(multiple().with_value("ids", 100)).unwrap(), "100 for `ids`");
        assert_eq!(fault(multiple().with_value("ids", 0.5)).unwrap(), "0.5 for `ids`");
        assert_eq!(fault(multiple().with_value("mask", -1)).unwrap(), "-1 for `mask`");
        assert_eq!(fault(multiple().with_value("other", 0)).unwrap(), "a value for `other`");
        assert_eq!(fault(multiple().with_mask("x")).unwrap(), "a mask `x`");
        assert_eq!(fault(multiple().with_mask("other")).unwrap(), "a mask `other`");
        let longer = Schema::new([inputs.tensors(), &[short]].concat()).unwrap();
        assert!(multiple().with_mask("short").fault(&longer).is_some(), "texts may be longer than the mask");
        assert!(multiple().fault(&Schema::new(vec![rows]).unwrap()).is_some(), "nothing to pad");
    }

    #[test]
    fn numbers_become_the_elements_that_hold_them() {
        assert_eq!(element(DType::I64, -2.0), Some((-2_i64).to_le_bytes().to_vec()));
        assert_eq!(element(DType::F32, 0.1), Some(0.1_f32.to_le_bytes().to_vec()));
        assert_eq!(element(DType::F32, f64::NEG_INFINITY), Some(f32::NEG_INFINITY.to_le_bytes().to_vec()));
        assert_eq!(element(DType::BF16, 1.0), Some(vec![0x80, 0x3f]));
        for (dtype, value) in [
            (DType::U8, 256.0),
            (DType::Bool, 2.0),
            (DType::I32, 0.5),
            (DType::F16, 2.0),
            (DType::F32, 1e300),
            (DType::F64, f64::NAN),
        ] {
            assert_eq!(element(dtype, value), None, "{value} as {dtype}");
        }
    }
}
