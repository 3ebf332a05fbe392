//! A BERT of two layers with drawn weights, and its sums written out.

mod by_hand;

pub use by_hand::by_hand;

use super::{noise, write_weights};
use skep_runtime_core::HostTensor;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Words that it knows.
pub const VOCAB: usize = 11;
/// Features of a position.
pub const HIDDEN: usize = 8;
/// The most positions of a row.
pub const POSITIONS: usize = 6;
const WIDE: usize = 12;

/// Its `config.json`.
pub const CONFIG: &str = r#"{
    "model_type": "bert", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 12, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
    "max_position_embeddings": 6, "type_vocab_size": 2, "initializer_range": 0.02,
    "layer_norm_eps": 1e-12, "pad_token_id": 0
}"#;

/// Its tensors, under `prefix`.
pub fn weights(prefix: &str) -> BTreeMap<String, HostTensor> {
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
        (format!("{prefix}{name}"), noise(&dims, u32::try_from(i).unwrap() + 1))
    };
    shapes.into_iter().enumerate().map(named).collect()
}

/// Writes a model into a directory as it is published.
pub fn write(directory: &Path, config: &str, weights: &BTreeMap<String, HostTensor>) {
    fs::write(directory.join("config.json"), config).unwrap();
    write_weights(&directory.join("model.safetensors"), weights);
}
