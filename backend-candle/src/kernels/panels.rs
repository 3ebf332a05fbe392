//! The right side of a product, laid out for it.

use super::processor::Processor;
use std::ops::Range;

/// Registers side by side in a panel.
pub(super) const WIDTH: usize = 3;
/// Numbers of a line of the processor's cache.
const LINE: usize = 16;

/// The right side of a product, `[depth, columns]`, in panels of columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels {
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    /// From `start`, `[panels, depth, width]`; what is beyond the columns is 0.
    numbers: Vec<f32>,
    /// Where a line of the cache begins, so that no register is loaded from two.
    start: usize,
}

/// Rows of numbers, of which each begins `stride` numbers after the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

impl Panels {
    /// Takes over a matrix whose rows are the right side's columns: a layer's weight, `[output, input]`, or keys.
    pub(crate) fn fill_from_columns(&mut self, processor: Processor, columns: Rows<'_>, depth: usize) {
        self.resize(processor, depth, columns.count);
        let width = self.width;
        for (panel, numbers) in self.numbers[self.start..].chunks_exact_mut(depth * width).enumerate() {
            let first = panel * width;
            for column in first..columns.count.min(first + width) {
                let from = &columns.numbers[column * columns.stride..][..depth];
                for (to, from) in numbers[column - first..].iter_mut().step_by(width).zip(from) {
                    *to = *from;
                }
            }
        }
    }

    /// Takes over a matrix as it stands, `[depth, columns]`: values.
    pub(crate) fn fill_from_rows(&mut self, processor: Processor, rows: Rows<'_>, columns: usize) {
        self.resize(processor, rows.count, columns);
        let width = self.width;
        for (panel, numbers) in self.numbers[self.start..].chunks_exact_mut(rows.count * width).enumerate() {
            let first = panel * width;
            let count = width.min(columns - first);
            for (depth, to) in numbers.chunks_exact_mut(width).enumerate() {
                to[..count].copy_from_slice(&rows.numbers[depth * rows.stride + first..][..count]);
            }
        }
    }

    fn resize(&mut self, processor: Processor, depth: usize, columns: usize) {
        let width = WIDTH * processor.lanes();
        if (self.depth, self.columns, self.width) != (depth, columns, width) {
            // What is beyond the columns stays 0 while the dims stay.
            let length = columns.div_ceil(width) * width * depth;
            self.numbers.clear();
            self.numbers.resize(length + LINE, 0.0);
            self.start = self.numbers.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
            self.numbers.truncate(self.start + length);
            (self.depth, self.columns, self.width) = (depth, columns, width);
        }
    }

    pub(super) fn numbers(&self) -> &[f32] {
        &self.numbers[self.start..]
    }

    /// Columns of the right side, and of the product.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The number of panels.
    pub(crate) fn count(&self) -> usize {
        self.columns.div_ceil(self.width.max(1))
    }

    /// The columns of some panels.
    pub(crate) fn columns_of(&self, panels: &Range<usize>) -> Range<usize> {
        panels.start * self.width..self.columns.min(panels.end * self.width)
    }
}
