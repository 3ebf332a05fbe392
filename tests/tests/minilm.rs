//! Real sentences through a real model: padded and batched in the runtime, each vector is the one that
//! sentence-transformers gives.
//!
//! Needs all-MiniLM-L6-v2, as it was published, in the folder that `SKEP_MINILM_DIR` names. `cargo xtask test` gets it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use skep_models::{Ask, Model, TextModel};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::{PadTo, RuntimeBuilder};
use skep_stats::Stats;
use skep_tests::Learner;
use skep_tests::kit::{Figure, drain, figures};
use skep_toolkit::Config;
use std::path::PathBuf;
use std::sync::Arc;

const SENTENCES: &str = include_str!("../examples/embed/sentences.txt");

/// sentence-transformers 6.2.0 in f64, one sentence at a time: f32, little endian, one vector after the other.
static EXPECTED: &[u8] = include_bytes!("../data/models/minilm.f32");

/// How much two elements of a vector of length 1 may differ.
const TOLERANCE: f32 = 1e-5;

fn directory() -> Option<PathBuf> {
    let directory = std::env::var_os("SKEP_MINILM_DIR").map(PathBuf::from);
    if directory.is_none() {
        println!("skipped: SKEP_MINILM_DIR does not name a folder with the model");
    }
    directory
}

fn gives_the_vectors_of_python<L: Learner>(backend: &str) {
    let Some(directory) = directory() else { return };
    let model = Arc::new(Model::read(&directory).unwrap());
    assert_eq!(model.tokens().unwrap().limit(), 256, "what sentence_bert_config.json says");
    let stats = Stats::new();
    let mut builder = RuntimeBuilder::new(L::device()).observer(stats.observer());
    let options = PoolOptions::default().max_rows(16).padding(model.padding(PadTo::Multiple(2)));
    let block = L::block("text_model", "minilm", &Config::new().with("directory", directory.display()), None);
    let served = builder.serve(block, ServeOptions::forward(options)).unwrap();
    let text = TextModel::new(model, Arc::clone(builder.device()), Arc::new(served.forward)).unwrap();
    let runtime = builder.start().unwrap();
    let sentences: Vec<&str> = SENTENCES.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let embedded = text.embed_all(&sentences, &Ask::new()).unwrap();
    drain(runtime);

    assert_eq!(embedded.len(), 200);
    assert!(embedded.iter().all(|it| it.tokens.left_out == 0));
    let expected: Vec<f32> =
        EXPECTED.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let got: Vec<f32> = embedded.into_iter().flat_map(|it| it.vector).collect();
    assert_eq!(got.len(), expected.len());
    let differences = got.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    // Unlike `max`, this keeps what is not a number.
    let largest = differences.fold(0.0, |a, b| if b <= a { a } else { b });
    let figure = Figure { what: "embeddings", difference: largest, limit: TOLERANCE };
    figures(&format!("MiniLM on {backend} with sentence-transformers"), &[figure]);
    let total = stats.snapshot().total;
    assert!(total.mean_batch_rows > 2.0, "sentences ran together: {} rows a batch", total.mean_batch_rows);
}

#[cfg(feature = "candle")]
#[test]
fn candle_gives_the_vectors_of_python() {
    gives_the_vectors_of_python::<skep_tests::backends::Candle>("candle");
}

#[cfg(feature = "tch")]
#[test]
fn tch_gives_the_vectors_of_python() {
    gives_the_vectors_of_python::<skep_tests::backends::Tch>("tch");
}

#[cfg(feature = "ort")]
#[test]
fn ort_gives_the_vectors_of_python() {
    gives_the_vectors_of_python::<skep_tests::backends::Ort>("ort");
}
