//! Answers, and how they are made of a model's numbers.

use crate::description::Activation;
use crate::model::Scores;
use crate::text::tokens::Encoded;

/// Numbers of a text's tokens that were computed, and that were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// Those that the model was given, those around the text included.
    pub given: usize,
    /// Those of the text that did not fit. Not 0: the answer is about a part of the text.
    pub left_out: usize,
}

/// A text's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// As long as the description's `output`.
    pub vector: Vec<f32>,
    /// Of the text, with its prompt.
    pub tokens: TokenCount,
}

/// The vectors of a text's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenVectors {
    /// One behind the other.
    pub numbers: Vec<f32>,
    /// Numbers of each.
    pub size: usize,
    /// Of the text, with its prompt.
    pub tokens: TokenCount,
}

impl TokenVectors {
    /// Returns the vectors, of the tokens around the text and of its prompt too, in order.
    pub fn vectors(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.size.max(1))
    }
}

/// The answer about a part of a long text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window<T> {
    /// About this part.
    pub answer: T,
    /// The characters (Unicode scalar values) of the text, without its prompt, at which the part begins and ends.
    pub characters: (usize, usize),
}

/// A classifier's scores of a text, or of a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Classes {
    /// In the order of the model's labels.
    pub scores: Vec<f32>,
    /// Of the text.
    pub tokens: TokenCount,
}

impl Classes {
    /// Returns the place of the best label among the model's.
    pub fn best(&self) -> usize {
        let best = self.scores.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        best.map_or(0, |(place, _)| place)
    }
}

/// A document's score, by how well it answers a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Its place in the list that was given.
    pub document: usize,
    /// The higher, the better.
    pub score: f32,
    /// Of the pair.
    pub tokens: TokenCount,
}

/// The label of one token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLabel {
    /// The best label's place among the model's.
    pub label: usize,
    /// Its score.
    pub score: f32,
    /// The characters (Unicode scalar values) of the text at which the token begins and ends.
    pub characters: (usize, usize),
}

/// The labels of a text's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledText {
    /// One for each token of the text, in order; none for those around it.
    pub labels: Vec<TokenLabel>,
    /// Of the text.
    pub tokens: TokenCount,
}

/// Counts what was computed of a text.
pub(crate) fn counted(encoded: &Encoded) -> TokenCount {
    TokenCount { given: encoded.ids.len(), left_out: encoded.left_out }
}

/// Makes scores of the numbers for labels.
pub(crate) fn scores(scores: Scores, numbers: &mut [f32]) {
    match scores {
        Scores::AsTheyAre => {}
        Scores::Each(activation) => {
            for number in numbers.iter_mut() {
                *number = activate(activation, *number);
            }
        }
        Scores::Softmax => {
            let largest = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for number in numbers.iter_mut() {
                *number = (*number - largest).exp();
            }
            let sum: f32 = numbers.iter().sum();
            for number in numbers.iter_mut() {
                *number /= sum;
            }
        }
    }
}

fn activate(activation: Activation, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
        Activation::QuickGelu => x * sigmoid(1.702 * x),
        Activation::Tanh => x.tanh(),
        Activation::Gelu => x * normal(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
    }
}

/// The normal distribution by its series around 0, or 0 and 1 far from it.
#[expect(clippy::cast_possible_truncation, reason = "summed in more than is asked for")]
fn normal(x: f32) -> f32 {
    if x.abs() > 6.0 {
        return f32::from(u8::from(x > 0.0));
    }
    let x = f64::from(x);
    let (mut term, mut sum) = (x, x);
    for i in 1..100 {
        term *= x * x / f64::from(2 * i + 1);
        sum += term;
    }
    (0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_adds_up_to_one_however_large_the_numbers() {
        let mut numbers = [1000.0, 1000.0, -1000.0];
        scores(Scores::Softmax, &mut numbers);
        assert_eq!(numbers.map(f32::to_bits), [0.5_f32, 0.5, 0.0].map(f32::to_bits));
    }

    #[test]
    fn activations_are_those_of_torch() {
        // torch.nn.functional.gelu(torch.tensor([1.0, -0.5, 5.0]))
        for (x, expected) in [(1.0, 0.841_344_8), (-0.5, -0.154_268_77), (5.0, 4.999_998_6), (7.0, 7.0)] {
            assert!((activate(Activation::Gelu, x) - expected).abs() < 1e-6, "{x}");
        }
        assert!((activate(Activation::GeluTanh, 1.0) - 0.841_192).abs() < 1e-6);
        assert!((activate(Activation::Sigmoid, 1.0) - 0.731_058_6).abs() < 1e-6);
    }
}
