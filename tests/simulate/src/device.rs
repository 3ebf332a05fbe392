//! Devices: what a batch costs.

use crate::task::{Nanos, millis};

/// The device time of a batch: a fixed time and a time per row, which may change with the elements of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    fixed: f64,
    per_row: f64,
    /// Fixed time and time per row for rows of so many elements, the smallest first; none if rows cost the same whatever
    /// their elements.
    points: &'static [(f64, f64, f64)],
}

/// The line through the time of one row and that of `rows`, in microseconds.
const fn through(one: f64, rows: f64, many: f64) -> (f64, f64) {
    let per_row = (many - one) / (rows - 1.0);
    ((one - per_row) * 1e-6, per_row * 1e-6)
}

/// The same for rows of so many elements.
const fn at(elements: f64, one: f64, rows: f64, many: f64) -> (f64, f64, f64) {
    let (fixed, per_row) = through(one, rows, many);
    (elements, fixed, per_row)
}

/// By tokens: one row, and as many as there are. Bare calls of all-MiniLM-L6-v2, median: the tables of `docs/benchmarks.md` of 26
/// November 2026, two cores of an AMD EPYC.
const MINILM_CANDLE: [(f64, f64, f64); 3] = [
    at(16.0, 13_610.0, 32.0, 173_463.0),
    at(64.0, 34_522.0, 8.0, 200_673.0),
    at(128.0, 58_450.0, 4.0, 201_798.0),
];
const MINILM_TCH: [(f64, f64, f64); 3] = [
    at(16.0, 10_222.0, 32.0, 135_272.0),
    at(64.0, 20_050.0, 8.0, 130_435.0),
    at(128.0, 36_960.0, 4.0, 133_945.0),
];
/// Bare calls of ffn with one row and with 64, from the same tables.
const FFN_CANDLE: (f64, f64) = through(1_209.0, 64.0, 17_547.0);
const FFN_TCH: (f64, f64) = through(1_808.0, 64.0, 15_830.0);

impl Cost {
    /// The same time whatever the rows.
    pub(crate) const CONSTANT: Self = Self::line("constant", 10e-3, 0.0);
    /// Each row as much as the next one.
    pub(crate) const LINEAR: Self = Self::line("linear", 0.0, 1e-3);
    /// Half and half at eight rows.
    pub(crate) const MIXED: Self = Self::line("mixed", 4e-3, 0.5e-3);
    /// all-MiniLM-L6-v2 on candle, measured.
    pub(crate) const MINILM_CANDLE: Self =
        Self { name: "minilm-candle", fixed: 0.0, per_row: 0.0, points: &MINILM_CANDLE };
    /// The same on libtorch.
    pub(crate) const MINILM_TCH: Self =
        Self { name: "minilm-tch", fixed: 0.0, per_row: 0.0, points: &MINILM_TCH };
    /// A block of two linear layers on candle, measured.
    pub(crate) const FFN_CANDLE: Self = Self::line("ffn-candle", FFN_CANDLE.0, FFN_CANDLE.1);
    /// The same on libtorch.
    pub(crate) const FFN_TCH: Self = Self::line("ffn-tch", FFN_TCH.0, FFN_TCH.1);

    pub(crate) const ALL: [Self; 7] = [
        Self::CONSTANT,
        Self::LINEAR,
        Self::MIXED,
        Self::MINILM_CANDLE,
        Self::MINILM_TCH,
        Self::FFN_CANDLE,
        Self::FFN_TCH,
    ];

    /// A fixed time and a time per row.
    pub(crate) const fn line(name: &'static str, fixed: f64, per_row: f64) -> Self {
        Self { name, fixed, per_row, points: &[] }
    }

    /// The device time of a batch of so many rows, the longest of which has so many elements.
    pub(crate) fn of(&self, rows: usize, elements: u32) -> Nanos {
        let (fixed, per_row) = self.at(f64::from(elements));
        millis((fixed + per_row * rows as f64) * 1e3)
    }

    /// The fixed time and the time per row for rows of so many elements: between two that were measured on the line between
    /// them, and beyond them in proportion to the elements.
    fn at(&self, elements: f64) -> (f64, f64) {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else {
            return (self.fixed, self.per_row);
        };
        if elements <= first.0 || elements >= last.0 {
            let (of, fixed, per_row) = if elements <= first.0 { *first } else { *last };
            return (fixed, per_row * elements / of);
        }
        let above = self.points.partition_point(|(of, ..)| *of < elements);
        let (low, high) = (self.points[above - 1], self.points[above]);
        let part = (elements - low.0) / (high.0 - low.0);
        (low.1 + (high.1 - low.1) * part, low.2 + (high.2 - low.2) * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_go_through_what_was_measured() {
        for (cost, rows, elements, micros) in [
            (Cost::MINILM_CANDLE, 1, 16, 13_610),
            (Cost::MINILM_CANDLE, 32, 16, 173_463),
            (Cost::MINILM_CANDLE, 8, 64, 200_673),
            (Cost::MINILM_TCH, 4, 128, 133_945),
            (Cost::FFN_CANDLE, 1, 16, 1_209),
            (Cost::FFN_TCH, 64, 16, 15_830),
        ] {
            let nanos = cost.of(rows, elements);
            assert!(nanos.abs_diff(micros * 1000) < 10, "{} of {rows} rows: {nanos}", cost.name);
        }
        assert!(Cost::MINILM_TCH.of(1, 96) > Cost::MINILM_TCH.of(1, 64));
        assert!(Cost::MINILM_TCH.of(1, 96) < Cost::MINILM_TCH.of(1, 128));
    }
}
