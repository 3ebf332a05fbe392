//! The sums of a BERT, written out for one number after the other, in f64.

use super::HIDDEN;
use skep_runtime_core::HostTensor;
use std::collections::BTreeMap;

/// The embedding of one row of tokens.
#[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
pub fn by_hand(weights: BTreeMap<String, HostTensor>, ids: &[usize]) -> Vec<f32> {
    let table = Table(weights);
    let words = table.rows("embeddings.word_embeddings.weight");
    let positions = table.rows("embeddings.position_embeddings.weight");
    let kind = &table.rows("embeddings.token_type_embeddings.weight")[0];
    let sum =
        |(i, &id): (usize, &usize)| (0..HIDDEN).map(|c| words[id][c] + positions[i][c] + kind[c]).collect();
    let mut x: Rows = ids.iter().enumerate().map(sum).collect();
    x = table.norm("embeddings.LayerNorm", &x);
    for layer in 0..2 {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let query = table.linear(&name("attention.self.query"), &x);
        let key = table.linear(&name("attention.self.key"), &x);
        let value = table.linear(&name("attention.self.value"), &x);
        let mut context = vec![vec![0.0; HIDDEN]; ids.len()];
        for head in [0..4, 4..8] {
            for (i, context) in context.iter_mut().enumerate() {
                let score = |key: &Vec<f64>| (dot(&query[i][head.clone()], &key[head.clone()]) / 2.0).exp();
                let scores: Vec<f64> = key.iter().map(score).collect();
                for c in head.clone() {
                    let weighed = scores.iter().zip(&value).map(|(score, value)| score * value[c]);
                    context[c] = weighed.sum::<f64>() / scores.iter().sum::<f64>();
                }
            }
        }
        let attended = table.linear(&name("attention.output.dense"), &context);
        let h = table.norm(&name("attention.output.LayerNorm"), &add(&attended, &x));
        let mut wide = table.linear(&name("intermediate.dense"), &h);
        wide.iter_mut().flatten().for_each(|v| *v = gelu(*v));
        x = table.norm(&name("output.LayerNorm"), &add(&table.linear(&name("output.dense"), &wide), &h));
    }
    let mean: Vec<f64> = (0..HIDDEN).map(|c| x.iter().map(|row| row[c]).sum::<f64>()).collect();
    let length = dot(&mean, &mean).sqrt();
    mean.iter().map(|v| (v / length) as f32).collect()
}

/// Weights as plain numbers.
struct Table(BTreeMap<String, HostTensor>);

type Rows = Vec<Vec<f64>>;

impl Table {
    fn vector(&self, name: &str) -> Vec<f64> {
        self.0[name].to_f32().unwrap().into_iter().map(f64::from).collect()
    }

    fn rows(&self, name: &str) -> Rows {
        let width = self.0[name].dims()[1];
        self.vector(name).chunks(width).map(<[f64]>::to_vec).collect()
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let (weight, bias) = (self.rows(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        let one = |x: &Vec<f64>| weight.iter().zip(&bias).map(|(w, b)| dot(w, x) + b).collect();
        x.iter().map(one).collect()
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let (weight, bias) = (self.vector(&format!("{name}.weight")), self.vector(&format!("{name}.bias")));
        let one = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / HIDDEN as f64;
            let deviation = (x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / HIDDEN as f64).sqrt();
            (0..HIDDEN).map(|i| (x[i] - mean) / deviation * weight[i] + bias[i]).collect()
        };
        x.iter().map(one).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// The integral of the normal density by Simpson's rule.
fn gelu(x: f64) -> f64 {
    let steps = 400;
    let width = x / f64::from(steps);
    let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let inner: f64 =
        (1..steps).map(|i| density(width * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    x * (0.5 + (density(0.0) + inner + density(x)) * width / 3.0)
}
