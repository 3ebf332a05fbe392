//! What is done with each number or each row: activations, norms, shares.
//!
//! Plain loops, which the compiler turns into the processor's instructions; sums are kept in several places, because
//! the order of one sum is not the compiler's to change.

use super::processor::Processor;
use pulp::{Simd, WithSimd};

/// Sums that are kept apart.
const LANES: usize = 16;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Identity,
    Gelu,
    GeluTanh,
    QuickGelu,
    Relu,
    Silu,
    Tanh,
    Sigmoid,
}

/// Defines a loop that is compiled for the processor's instructions. Not a closure: those are called through a function
/// of their own, which is compiled for any processor.
macro_rules! instructions {
    ($name:ident { $($field:ident: $type:ty),* } $body:block) => {{
        struct $name<'a> { $($field: $type),* }
        impl WithSimd for $name<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) {
                let Self { $($field),* } = self;
                $body
            }
        }
        $name { $($field),* }
    }};
}

/// Applies the function in place.
pub(crate) fn apply(processor: Processor, function: Function, numbers: &mut [f32]) {
    macro_rules! each {
        ($x:ident => $y:expr) => {
            processor.run(instructions!(Each { numbers: &'a mut [f32] } {
                for number in numbers {
                    let $x = *number;
                    *number = $y;
                }
            }))
        };
    }
    match function {
        Function::Identity => {}
        Function::Gelu => each!(x => gelu(x)),
        Function::GeluTanh => each!(x => gelu_tanh(x)),
        Function::QuickGelu => each!(x => x * sigmoid(1.702 * x)),
        Function::Relu => each!(x => if x < 0.0 { 0.0 } else { x }),
        Function::Silu => each!(x => x * sigmoid(x)),
        Function::Tanh => each!(x => tanh(x)),
        Function::Sigmoid => each!(x => sigmoid(x)),
    }
}

/// Adds to each number another.
pub(crate) fn add(processor: Processor, to: &mut [f32], other: &[f32]) {
    processor.run(instructions!(Add { to: &'a mut [f32], other: &'a [f32] } {
        for (to, other) in to.iter_mut().zip(other) {
            *to += other;
        }
    }));
}

/// Multiplies each number with another.
pub(crate) fn multiply(processor: Processor, to: &mut [f32], other: &[f32]) {
    processor.run(instructions!(Multiply { to: &'a mut [f32], other: &'a [f32] } {
        for (to, other) in to.iter_mut().zip(other) {
            *to *= other;
        }
    }));
}

/// Turns the halves of a vector against each other.
pub(crate) fn turn(processor: Processor, vector: &mut [f32], cos: &[f32], sin: &[f32]) {
    processor.run(instructions!(Turn { vector: &'a mut [f32], cos: &'a [f32], sin: &'a [f32] } {
        let (first, second) = vector.split_at_mut(cos.len());
        for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*first, *second) = (*first * cos - *second * sin, *second * cos + *first * sin);
        }
    }));
}

/// Which normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Normalise {
    Layer,
    RootMeanSquare,
}

/// Normalisation of rows.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub(crate) kind: Normalise,
    pub(crate) weight: Vec<f32>,
    /// Zeros where the model has none.
    pub(crate) bias: Vec<f32>,
    pub(crate) eps: f32,
}

impl Norm {
    /// Normalises rows of the weight's size, in place.
    pub(crate) fn apply(&self, processor: Processor, rows: &mut [f32]) {
        let norm = self;
        processor.run(instructions!(Normed { norm: &'a Norm, rows: &'a mut [f32] } {
            for row in rows.chunks_exact_mut(norm.weight.len()) {
                let size = row.len() as f32;
                let mean = match norm.kind {
                    Normalise::Layer => sum(row, |x| x) / size,
                    Normalise::RootMeanSquare => 0.0,
                };
                let squares = sum(row, |x| (x - mean) * (x - mean));
                let scale = 1.0 / (squares / size + norm.eps).sqrt();
                for ((x, weight), bias) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
                    *x = ((*x - mean) * scale).mul_add(*weight, *bias);
                }
            }
        }));
    }
}

/// Turns rows of scores into shares, in place: of `scale · score + mask`, and of what is `added` to all rows.
pub(super) fn shares(
    processor: Processor,
    scores: &mut [f32],
    scale: f32,
    mask: &[f32],
    added: Option<&[f32]>,
) {
    processor.run(instructions!(
        Shares { scores: &'a mut [f32], scale: f32, mask: &'a [f32], added: Option<&'a [f32]> } {
            let size = mask.len();
            for (i, row) in scores.chunks_exact_mut(size).enumerate() {
                for (score, mask) in row.iter_mut().zip(mask) {
                    *score = score.mul_add(scale, *mask);
                }
                if let Some(added) = added {
                    for (score, added) in row.iter_mut().zip(&added[i * size..][..size]) {
                        *score += added;
                    }
                }
                let most = largest(row);
                for score in row.iter_mut() {
                    *score = exp(*score - most);
                }
                let scale = 1.0 / sum(row, |x| x);
                for score in row {
                    *score *= scale;
                }
            }
        }
    ));
}

#[inline(always)]
fn sum(numbers: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum += of(*number);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0] + rest.iter().map(|number| of(*number)).sum::<f32>()
}

/// The largest of the numbers; something else where one is no number.
#[inline(always)]
fn largest(numbers: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    for chunk in chunks {
        for (most, number) in most.iter_mut().zip(chunk) {
            *most = larger(*most, *number);
        }
    }
    most.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}

/// The exponential function, by the Taylor-like polynomial of Cephes: good to 2 units in the last place. What is
/// too small for a normal number becomes the smallest one; what is no number stays none.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOW: f32 = -87.0;
    const HIGH: f32 = 88.0;
    // Adding it leaves a whole number in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(LOW, HIGH);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let power = rounded - ROUND;
    let rest = power.mul_add(-0.693_359_4, x);
    let rest = power.mul_add(2.121_944_4e-4, rest);
    let mut sum = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        sum = sum.mul_add(rest, coefficient);
    }
    let sum = (sum * rest).mul_add(rest, rest) + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    sum * f32::from_bits(exponent << 23)
}

/// The error function, good to 1 unit in the last place: two polynomials by N. Juffa, one for either range.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const SPLIT: f32 = 0.927_734_4;
    let (size, square) = (x.abs(), x * x);
    let mut far = size.mul_add(-1.728_534_7e-5, 3.831_974_8e-4);
    let high = size.mul_add(-3.883_964_4e-3, 2.425_462_2e-2);
    far = far.mul_add(square, high);
    for coefficient in [-0.106_777_88, -0.634_846_7, -0.128_717_51] {
        far = far.mul_add(size, coefficient);
    }
    let far = (1.0 - exp(far.mul_add(size, -size))).copysign(x);
    let mut near = -5.967_617e-4_f32;
    for coefficient in [4.991_194e-3, -2.676_813_5e-2, 0.112_819_925, -0.376_125_34, 0.128_379_17] {
        near = near.mul_add(square, coefficient);
    }
    let near = near.mul_add(x, x);
    if size > SPLIT { far } else { near }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SCALE: f32 = 0.797_884_6;
    // 0.5 (1 + tanh(y)) = σ(2 y)
    x * sigmoid(2.0 * SCALE * x * (0.044_715 * x).mul_add(x, 1.0))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    2.0f32.mul_add(sigmoid(2.0 * x), -1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Exact<'a> = &'a dyn Fn(f64) -> f64;

    /// The series of `erf` (Abramowitz and Stegun, 7.1.5), and far out the continued fraction of what is missing
    /// to 1 (7.1.14).
    fn exact_erf(x: f64) -> f64 {
        if x.abs() > 3.0 {
            let below = (1..60).rev().fold(x.abs(), |below, n| x.abs() + f64::from(n) / 2.0 / below);
            let missing = (-x * x).exp() / below / std::f64::consts::PI.sqrt();
            return (1.0 - missing).copysign(x);
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn functions_are_those_of_mathematics() {
        let Some(processor) = Processor::found() else {
            println!("skipped: this processor cannot multiply and add several numbers at once");
            return;
        };
        let xs: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 400.0).collect();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let functions: [(Function, Exact<'_>); 7] = [
            (Function::Gelu, &|x| 0.5 * x * (1.0 + exact_erf(x / 2f64.sqrt()))),
            (Function::GeluTanh, &|x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }),
            (Function::QuickGelu, &|x| x * sigmoid(1.702 * x)),
            (Function::Relu, &|x| x.max(0.0)),
            (Function::Silu, &|x| x * sigmoid(x)),
            (Function::Tanh, &f64::tanh),
            (Function::Sigmoid, &sigmoid),
        ];
        for (function, exact) in functions {
            let mut ys = xs.clone();
            apply(processor, function, &mut ys);
            for (x, y) in xs.iter().zip(ys) {
                let expected = exact(f64::from(*x));
                let error = (f64::from(y) - expected).abs() / expected.abs().max(1.0);
                assert!(error < 4e-7, "{function:?}({x}) is {y}, expected {expected}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let Some(processor) = Processor::found() else {
            println!("skipped: this processor cannot multiply and add several numbers at once");
            return;
        };
        for function in [Function::Gelu, Function::GeluTanh, Function::Silu, Function::Tanh, Function::Relu] {
            let mut numbers = vec![f32::NAN; 3];
            apply(processor, function, &mut numbers);
            assert!(numbers.iter().all(|n| n.is_nan()), "{function:?}");
        }
        let mut scores = vec![0.5, f32::NAN, 0.25];
        shares(processor, &mut scores, 1.0, &[0.0; 3], None);
        assert!(scores.iter().all(|n| n.is_nan()));
        let mut endless = vec![f32::INFINITY, 1.0];
        shares(processor, &mut endless, 1.0, &[0.0; 2], Some(&[0.0; 2]));
        assert!(endless[0].is_nan());
    }

    #[test]
    fn shares_add_up_to_one_and_the_unseen_has_none() {
        let Some(processor) = Processor::found() else {
            println!("skipped: this processor cannot multiply and add several numbers at once");
            return;
        };
        let mut scores: Vec<f32> = (0..37).map(|i| i as f32).collect();
        let mask: Vec<f32> = (0..37).map(|i| if i < 30 { 0.0 } else { -1e30 }).collect();
        shares(processor, &mut scores, 0.5, &mask, None);
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(scores[30..].iter().all(|share| *share < 1e-30));
        assert!((scores[29] / scores[28] - 0.5f32.exp()).abs() < 1e-5);
    }

    #[test]
    fn norms_are_their_formulas() {
        let Some(processor) = Processor::found() else {
            println!("skipped: this processor cannot multiply and add several numbers at once");
            return;
        };
        let row: Vec<f32> = (0..21).map(|i| ((i * 13) % 7) as f32 - 2.0).collect();
        let (weight, bias) = (vec![1.5; 21], vec![0.25; 21]);
        for kind in [Normalise::Layer, Normalise::RootMeanSquare] {
            let mean = if kind == Normalise::Layer { row.iter().sum::<f32>() / 21.0 } else { 0.0 };
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 21.0;
            let norm = Norm { kind, weight: weight.clone(), bias: bias.clone(), eps: 1e-5 };
            let mut got = row.clone();
            norm.apply(processor, &mut got);
            for (x, got) in row.iter().zip(got) {
                let expected = (x - mean) / (variance + 1e-5).sqrt() * 1.5 + 0.25;
                assert!((got - expected).abs() < 1e-5, "{kind:?}: {got} {expected}");
            }
        }
    }
}
