//! Outputs as their best classes: `value:index:label`.

use crate::tensor::coerce::{Number, reader};
use crate::tensor::datatype::Datatype;
use skep_runtime_core::HostTensor;

/// The best `k` of each row, the best first, and how many there are of each: as many as the row has, at most.
pub(crate) fn best(tensor: &HostTensor, k: usize, labels: &[String]) -> (Vec<String>, usize) {
    let datatype = Datatype::from(tensor.dtype());
    let (Some(read), Some(size)) = (reader(datatype), datatype.size()) else { return (Vec::new(), 0) };
    let rows = tensor.dims().first().copied().unwrap_or(1).max(1);
    let values: Vec<f64> = tensor.bytes().chunks_exact(size).map(|element| value(read(element))).collect();
    let per_row = values.len() / rows;
    let k = k.min(per_row);
    if per_row == 0 {
        return (Vec::new(), 0);
    }
    let mut classes = Vec::with_capacity(rows * k);
    for row in values.chunks_exact(per_row) {
        let mut order: Vec<usize> = (0..per_row).collect();
        // Of equal ones the first; what is no number comes last.
        order.sort_by(|a, b| key(row[*b]).total_cmp(&key(row[*a])));
        for place in &order[..k] {
            let label = labels.get(*place).map(|label| format!(":{label}")).unwrap_or_default();
            classes.push(format!("{:.6}:{place}{label}", row[*place]));
        }
    }
    (classes, k)
}

/// Texts as bytes: each behind its length.
pub(crate) fn bytes(texts: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

fn value(number: Number) -> f64 {
    match number {
        Number::Whole(value) => value as f64,
        Number::Real(value) => value,
    }
}

fn key(value: f64) -> f64 {
    if value.is_nan() { f64::NEG_INFINITY } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_each_row_come_first() {
        let scores = HostTensor::from_f32(&[2, 3], &[0.25, 0.5, 0.25, 1.0, f32::NAN, 3.0]).unwrap();
        let labels = ["a", "b"].map(str::to_owned);
        let (classes, k) = best(&scores, 2, &labels);
        assert_eq!(
            (classes, k),
            (["0.500000:1:b", "0.250000:0:a", "3.000000:2", "1.000000:0:a"].map(str::to_owned).to_vec(), 2)
        );
        assert_eq!(best(&scores, 9, &[]).1, 3);
        assert_eq!(best(&HostTensor::from_f32(&[0, 3], &[]).unwrap(), 2, &[]), (Vec::new(), 0));
    }
}
