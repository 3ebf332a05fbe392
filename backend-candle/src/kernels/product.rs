//! Products of matrices.
//!
//! A tile of rows keeps its sums in registers while it walks down a panel, so each number of the panel is loaded once
//! for all rows of the tile: the inner part of Goto and van de Geijn, "Anatomy of high-performance matrix
//! multiplication", 2008. The outer parts are for matrices that are larger than those of layers.

use super::panels::{Panels, Rows, WIDTH};
use super::processor::Processor;
use pulp::{Simd, WithSimd};
use std::array;
use std::ops::Range;

/// More numbers than a panel is wide.
const WIDEST: usize = 64;

/// Writes `left · right + bias` for the columns of `panels` to rows of `stride` numbers, the first of these columns
/// first. `bias` has a number for each column of the right side.
pub(crate) fn product(
    processor: Processor,
    left: Rows<'_>,
    right: &Panels,
    panels: Range<usize>,
    bias: Option<&[f32]>,
    out: &mut [f32],
    stride: usize,
) {
    processor.run(Product { left, right, panels, bias, out, stride });
}

struct Product<'a> {
    left: Rows<'a>,
    right: &'a Panels,
    panels: Range<usize>,
    bias: Option<&'a [f32]>,
    out: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { left, right, panels, bias, out, stride } = self;
        let (depth, columns, width) = (right.depth, right.columns, right.width);
        let begin_column = panels.start * width;
        // With the panel's numbers and one of the left side, as many sums as there are registers.
        let highest = if S::REGISTER_COUNT >= 32 { 8 } else { 4 };
        let tiles = left.count.div_ceil(highest);
        for panel in panels {
            let first = panel * width;
            let count = width.min(columns - first);
            let (vectors, _) = S::as_simd_f32s(&right.numbers()[panel * depth * width..][..depth * width]);
            let (vectors, _) = vectors.as_chunks::<WIDTH>();
            let mut begin = [simd.splat_f32s(0.0); WIDTH];
            if let Some(bias) = bias {
                let mut padded = [0.0; WIDEST];
                padded[..count].copy_from_slice(&bias[first..first + count]);
                begin.copy_from_slice(S::as_simd_f32s(&padded[..width]).0);
            }
            let mut row = 0;
            for tile in 0..tiles {
                // Tiles of like height, so that none is too low to keep the processor busy.
                let rows = (left.count - row).div_ceil(tiles - tile);
                let to = &mut out[row * stride + first - begin_column..];
                macro_rules! tile {
                    ($($height:literal)*) => {
                        match rows {
                            $($height => {
                                let sums = sums::<S, $height>(simd, left, row, vectors, begin);
                                write::<S, $height>(sums, to, stride, count);
                            })*
                            _ => {}
                        }
                    };
                }
                if S::REGISTER_COUNT >= 32 {
                    tile!(1 2 3 4 5 6 7 8);
                } else {
                    tile!(1 2 3 4);
                }
                row += rows;
            }
        }
    }
}

/// The sums of a tile of rows.
#[inline(always)]
fn sums<S: Simd, const ROWS: usize>(
    simd: S,
    left: Rows<'_>,
    row: usize,
    panel: &[[S::f32s; WIDTH]],
    begin: [S::f32s; WIDTH],
) -> [[S::f32s; WIDTH]; ROWS] {
    let rows: [&[f32]; ROWS] = array::from_fn(|i| &left.numbers[(row + i) * left.stride..][..panel.len()]);
    let mut sums = [begin; ROWS];
    for (depth, right) in panel.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let left = simd.splat_f32s(row[depth]);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(left, *right, *sum);
            }
        }
    }
    sums
}

#[inline(always)]
fn write<S: Simd, const ROWS: usize>(
    sums: [[S::f32s; WIDTH]; ROWS],
    out: &mut [f32],
    stride: usize,
    count: usize,
) {
    for (i, sums) in sums.iter().enumerate() {
        let out = &mut out[i * stride..][..count];
        if let [a, b, c] = S::as_mut_simd_f32s(out).0 {
            [*a, *b, *c] = *sums;
        } else {
            let mut padded = [0.0; WIDEST];
            S::as_mut_simd_f32s(&mut padded).0[..WIDTH].copy_from_slice(sums);
            out.copy_from_slice(&padded[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + seed * 104_729) % 997) as f32 / 997.0 - 0.5).collect()
    }

    #[test]
    fn products_of_any_size_are_the_sums_they_should_be() {
        let Some(processor) = Processor::found() else {
            println!("skipped: this processor cannot multiply and add several numbers at once");
            return;
        };
        for (rows, depth, columns) in
            [(1, 1, 1), (7, 5, 3), (8, 16, 48), (9, 33, 49), (17, 24, 96), (3, 64, 100), (40, 2, 47)]
        {
            let (stride, out_stride) = (depth + 3, columns + 2);
            let left = numbers(rows * stride, 1);
            let weight = numbers(columns * depth, 2);
            let bias = numbers(columns, 3);
            let mut from_columns = Panels::default();
            let given = Rows { numbers: &weight, stride: depth, count: columns };
            from_columns.fill_from_columns(processor, given, depth);
            let transposed: Vec<f32> = (0..depth)
                .flat_map(|d| (0..columns).map(move |c| (c, d)))
                .map(|(c, d)| weight[c * depth + d])
                .collect();
            let mut from_rows = Panels::default();
            let given = Rows { numbers: &transposed, stride: columns, count: depth };
            from_rows.fill_from_rows(processor, given, columns);
            for (panels, bias) in [(&from_columns, Some(&*bias)), (&from_rows, None)] {
                let mut out = vec![f32::NAN; rows * out_stride];
                let left = Rows { numbers: &left, stride, count: rows };
                product(processor, left, panels, 0..panels.count(), bias, &mut out, out_stride);
                for row in 0..rows {
                    for column in 0..columns {
                        let sum: f32 = (0..depth)
                            .map(|d| left.numbers[row * stride + d] * weight[column * depth + d])
                            .sum();
                        let expected = sum + bias.map_or(0.0, |bias| bias[column]);
                        let got = out[row * out_stride + column];
                        assert!((got - expected).abs() < 1e-5, "{rows} {depth} {columns}: {got} {expected}");
                    }
                    // What is between the rows is not ours.
                    assert!(out[row * out_stride + columns..][..2].iter().all(|n| n.is_nan()));
                }
            }
        }
    }
}
