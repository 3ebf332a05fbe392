//! A small BERT with drawn weights, beside the same sums written out.
#![cfg(feature = "bert")]

use crate::{assert_close, host_noise, values, write_weights};
use skep_backend_tch::blocks::Bert;
use skep_backend_tch::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const VOCAB: usize = 11;
const HIDDEN: usize = 8;
const WIDE: usize = 12;
const POSITIONS: usize = 6;

pub(crate) const CONFIG: &str = r#"{
    "model_type": "bert", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 12, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "max_position_embeddings": 6, "type_vocab_size": 2, "initializer_range": 0.02,
    "layer_norm_eps": 1e-12, "pad_token_id": 0
}"#;

pub(crate) type Weights = BTreeMap<String, HostTensor>;

/// The tensors of a BERT of one or more layers, under `prefix`.
pub(crate) fn weights(prefix: &str) -> Weights {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".into(), vec![VOCAB, HIDDEN]),
        ("embeddings.position_embeddings.weight".into(), vec![POSITIONS, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".into(), vec![2, HIDDEN]),
        ("embeddings.LayerNorm.weight".into(), vec![HIDDEN]),
        ("embeddings.LayerNorm.bias".into(), vec![HIDDEN]),
    ];
    for layer in 0..2 {
        let linears = [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", WIDE, HIDDEN),
            ("output.dense", HIDDEN, WIDE),
        ];
        for (name, output, input) in linears {
            shapes.push((format!("encoder.layer.{layer}.{name}.weight"), vec![output, input]));
            shapes.push((format!("encoder.layer.{layer}.{name}.bias"), vec![output]));
        }
        for name in ["attention.output", "output"] {
            shapes.push((format!("encoder.layer.{layer}.{name}.LayerNorm.weight"), vec![HIDDEN]));
            shapes.push((format!("encoder.layer.{layer}.{name}.LayerNorm.bias"), vec![HIDDEN]));
        }
    }
    let named = |(i, (name, dims)): (usize, (String, Vec<usize>))| {
        (format!("{prefix}{name}"), host_noise(&dims, u32::try_from(i).unwrap() + 1))
    };
    shapes.into_iter().enumerate().map(named).collect()
}

pub(crate) fn write(directory: &Path, config: &str, weights: &Weights) {
    fs::write(directory.join("config.json"), config).unwrap();
    write_weights(&directory.join("model.safetensors"), weights);
}

fn bert(directory: &Path) -> TchBlock {
    Bert { directory: directory.to_owned() }.block("bert").unwrap()
}

fn loaded_bert() -> TchBlock {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), CONFIG, &weights(""));
    crate::loaded(bert(directory.path()))
}

fn embed(block: &mut TchBlock, ids: &[Vec<u32>], mask: &[Vec<u32>]) -> Vec<f32> {
    let tensor = |rows: &[Vec<u32>]| crate::ids(&[rows.len(), rows[0].len()], &rows.concat());
    values(&block.forward(&[tensor(ids), tensor(mask)]).unwrap()[0])
}

#[test]
fn the_schema_guards_the_token_table_and_the_positions() {
    let info = loaded_bert().info();
    assert!(!info.backward);
    let [ids, mask] = info.inputs.tensors() else { panic!("two inputs") };
    assert_eq!((ids.name(), ids.index_below()), ("input_ids", Some(VOCAB as u64)));
    assert_eq!((mask.name(), mask.index_below()), ("attention_mask", Some(2)));
    assert_eq!(ids.dims()[1], Dim::Free { max: POSITIONS });
}

#[test]
fn embeddings_have_length_one_and_do_not_depend_on_the_batch() {
    let mut block = loaded_bert();
    let ids = vec![vec![1, 2, 3, 4], vec![5, 6, 0, 0], vec![10, 0, 0, 0]];
    let mask = vec![vec![1, 1, 1, 1], vec![1, 1, 0, 0], vec![1, 0, 0, 0]];
    let together = embed(&mut block, &ids, &mask);
    for (row, length) in [4, 2, 1].into_iter().enumerate() {
        let own = &together[row * HIDDEN..][..HIDDEN];
        assert!((own.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
        // Alone, and without the padding.
        let alone = embed(&mut block, &[ids[row][..length].to_vec()], &[vec![1; length]]);
        assert_close(own, &alone, 1e-5);
    }
    assert!((together[0] - together[HIDDEN]).abs() > 1e-3);
}

#[test]
fn a_row_of_padding_only_gives_zeros() {
    let both = embed(&mut loaded_bert(), &[vec![0, 0], vec![3, 4]], &[vec![0, 0], vec![1, 1]]);
    assert_eq!(both[..HIDDEN], [0.0; HIDDEN]);
    assert!(both[HIDDEN..].iter().all(|v| v.is_finite()));
}

#[test]
fn the_embedding_is_the_models_own_sum() {
    let ids = [7usize, 2, 9];
    let got = embed(
        &mut loaded_bert(),
        &[ids.iter().map(|&id| u32::try_from(id).unwrap()).collect()],
        &[vec![1; 3]],
    );
    assert_close(&got, &by_hand(&Table(weights("")), &ids), 1e-4);
}

/// Weights as plain numbers.
struct Table(Weights);

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

#[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
fn by_hand(table: &Table, ids: &[usize]) -> Vec<f32> {
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

#[test]
fn weights_with_the_models_name_before_them_are_found() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), CONFIG, &weights("bert."));
    let mut named = crate::loaded(bert(directory.path()));
    let (ids, mask) = ([vec![1, 2]], [vec![1, 1]]);
    assert_eq!(embed(&mut named, &ids, &mask), embed(&mut loaded_bert(), &ids, &mask));
}

#[track_caller]
fn load_error(directory: &Path) -> String {
    bert(directory).load(&TchDevice::cpu()).unwrap_err().to_string()
}

#[test]
fn weights_that_do_not_fit_the_sizes_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut tensors = weights("");
    tensors.remove("encoder.layer.1.output.dense.bias");
    write(directory.path(), CONFIG, &tensors);
    let error = load_error(directory.path());
    assert!(error.contains("weights file has no tensor `encoder.layer.1.output.dense.bias`"), "{error}");

    write(directory.path(), &CONFIG.replace(r#""vocab_size": 11"#, r#""vocab_size": 12"#), &weights(""));
    let error = load_error(directory.path());
    assert!(
        error.contains("`embeddings.word_embeddings.weight` has dims [11, 8], expected [12, 8]"),
        "{error}"
    );
}

#[test]
fn torn_weights_are_never_loaded() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), CONFIG, &weights(""));
    let file = directory.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    for length in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        let error = load_error(directory.path());
        assert!(error.contains("is not a whole safetensors file"), "{length} bytes: {error}");
    }
}

#[test]
fn a_directory_without_a_model_is_refused_when_the_block_is_made() {
    let refused =
        |directory: &Path| Bert { directory: directory.to_owned() }.block("b").err().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let error = refused(directory.path());
    assert!(error.contains("config.json`, expected a file that can be read"), "{error}");

    write(directory.path(), CONFIG, &weights(""));
    fs::remove_file(directory.path().join("model.safetensors")).unwrap();
    assert!(refused(directory.path()).contains("expected a `model.safetensors` in it"));

    let config = directory.path().join("config.json");
    fs::write(&config, &CONFIG[..CONFIG.len() / 2]).unwrap();
    assert!(refused(directory.path()).contains("expected the sizes of a BERT model (EOF"));
    fs::write(&config, CONFIG.replace(r#""num_attention_heads": 2"#, r#""num_attention_heads": 0"#)).unwrap();
    assert!(refused(directory.path()).contains("`num_attention_heads` from 1 to 16777216 in it, got 0"));
    fs::write(&config, CONFIG.replace(r#""num_attention_heads": 2"#, r#""num_attention_heads": 3"#)).unwrap();
    assert!(refused(directory.path()).contains("a multiple of 3 heads, got 8"));
}
