//! Devices: what a batch costs.

use crate::task::{Nanos, millis};

/// The device time of a batch: a fixed time and a time per row, which may grow with the elements of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    fixed: f64,
    per_row: f64,
    /// Elements of a row for which `per_row` holds; 0 if rows cost the same whatever their elements.
    elements: f64,
}

impl Cost {
    /// The same time whatever the rows.
    pub(crate) const CONSTANT: Self = Self { name: "constant", fixed: 10e-3, per_row: 0.0, elements: 0.0 };
    /// Each row as much as the next one.
    pub(crate) const LINEAR: Self = Self { name: "linear", fixed: 0.0, per_row: 1e-3, elements: 0.0 };
    /// Half and half at eight rows.
    pub(crate) const MIXED: Self = Self { name: "mixed", fixed: 4e-3, per_row: 0.5e-3, elements: 0.0 };
    /// all-MiniLM-L6-v2 on candle, two cores, by its tokens.
    pub(crate) const MINILM_CANDLE: Self =
        Self { name: "minilm-candle", fixed: 3.1e-3, per_row: 3.6e-3, elements: 16.0 };
    /// The same on libtorch.
    pub(crate) const MINILM_TCH: Self =
        Self { name: "minilm-tch", fixed: 2.2e-3, per_row: 2.4e-3, elements: 16.0 };
    /// A block of two linear layers on candle.
    pub(crate) const FFN_CANDLE: Self =
        Self { name: "ffn-candle", fixed: 0.9e-3, per_row: 60e-6, elements: 0.0 };
    /// The same on libtorch.
    pub(crate) const FFN_TCH: Self = Self { name: "ffn-tch", fixed: 0.8e-3, per_row: 45e-6, elements: 0.0 };

    pub(crate) const ALL: [Self; 7] = [
        Self::CONSTANT,
        Self::LINEAR,
        Self::MIXED,
        Self::MINILM_CANDLE,
        Self::MINILM_TCH,
        Self::FFN_CANDLE,
        Self::FFN_TCH,
    ];

    /// Another fixed time and time per row.
    pub(crate) const fn line(name: &'static str, fixed: f64, per_row: f64) -> Self {
        Self { name, fixed, per_row, elements: 0.0 }
    }

    /// The device time of a batch of so many rows, the longest of which has so many elements.
    pub(crate) fn of(&self, rows: usize, elements: u32) -> Nanos {
        let longer = if self.elements > 0.0 { f64::from(elements) / self.elements } else { 1.0 };
        millis((self.fixed + self.per_row * longer * rows as f64) * 1e3)
    }
}
