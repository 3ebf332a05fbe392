//! A linear layer whose weight is laid out once.

use super::panels::{Panels, Rows};
use super::processor::Processor;
use super::product::product;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};

/// `x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    panels: Panels,
    bias: Option<Vec<f32>>,
}

/// Memory for each thread that takes part in a product, kept from call to call.
pub(crate) type Parts = Vec<Vec<f32>>;

impl Linear {
    /// Lays out a weight, `[output, input]`.
    pub(crate) fn new(processor: Processor, weight: &[f32], input: usize, bias: Option<Vec<f32>>) -> Self {
        let mut panels = Panels::default();
        let columns = Rows { numbers: weight, stride: input, count: weight.len() / input.max(1) };
        panels.fill_from_columns(processor, columns, input);
        Self { panels, bias }
    }

    /// Numbers that come out for each row.
    pub(crate) fn output(&self) -> usize {
        self.panels.columns()
    }

    /// Replaces `out` with the products of `count` rows of `x`. With more than one of `parts`, as many threads of the
    /// caller's pool share the columns: all of a weight is read for a few rows, and so each reads a part of it.
    pub(crate) fn apply(
        &self,
        processor: Processor,
        x: &[f32],
        count: usize,
        out: &mut Vec<f32>,
        parts: &mut Parts,
    ) {
        let (stride, bias) = (self.output(), self.bias.as_deref());
        let left = Rows { numbers: x, stride: x.len() / count.max(1), count };
        out.resize(count * stride, 0.0);
        let (panels, threads) = (self.panels.count(), parts.len());
        if threads < 2 || panels < threads {
            product(processor, left, &self.panels, 0..panels, bias, out, stride);
            return;
        }
        let range = |part: usize| part * panels / threads..(part + 1) * panels / threads;
        parts.par_iter_mut().with_max_len(1).enumerate().for_each(|(part, to)| {
            let columns = self.panels.columns_of(&range(part));
            to.resize(count * columns.len(), 0.0);
            product(processor, left, &self.panels, range(part), bias, to, columns.len());
        });
        for (part, from) in parts.iter().enumerate() {
            let columns = self.panels.columns_of(&range(part));
            for (to, from) in out.chunks_exact_mut(stride).zip(from.chunks_exact(columns.len())) {
                to[columns.clone()].copy_from_slice(from);
            }
        }
    }
}
