//! Real sentences through a real model: batched and padded in the runtime, each vector is the one that the
//! model gives alone, and backends agree on it.
//!
//! Needs all-MiniLM-L6-v2 (`model.safetensors`, `config.json`, `tokenizer.json`) in the folder that
//! `SKEP_MINILM_DIR` names. `cargo xtask test` gets it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests")]

use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::{Backend, DType, Device, HostTensor, RuntimeBuilder};
use skep_stats::Stats;
use skep_tests::Learner;
use skep_tests::kit::{Columns, answer, drain};
use skep_toolkit::Config;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

const SENTENCES: &str = include_str!("../examples/embed/sentences.txt");

/// How much two elements of a vector of length 1 may differ.
const TOLERANCE: f32 = 1e-5;

fn directory() -> Option<PathBuf> {
    let directory = std::env::var_os("SKEP_MINILM_DIR").map(PathBuf::from);
    if directory.is_none() {
        println!("skipped: SKEP_MINILM_DIR does not name a folder with the model");
    }
    directory
}

fn model<L: Learner>(name: &str, directory: &Path) -> impl Backend<L::Device> {
    L::block("bert", name, &Config::new().with("directory", directory.display()), None)
}

fn token_ids(directory: &Path) -> Vec<Vec<u32>> {
    let mut tokenizer = Tokenizer::from_file(directory.join("tokenizer.json")).unwrap();
    // The file asks for 128 tokens whatever the sentence.
    tokenizer.with_padding(None).with_truncation(None).unwrap();
    let ids = |line| tokenizer.encode(line, true).unwrap().get_ids().to_vec();
    SENTENCES.lines().take(32).map(ids).collect()
}

/// Ids and mask, padded to a multiple of `bucket`.
fn inputs<D: Device>(device: &D, ids: &[u32], bucket: usize) -> Vec<D::Tensor> {
    let length = ids.len().next_multiple_of(bucket);
    let row = |value: &dyn Fn(usize) -> u32| {
        let bytes = (0..length).flat_map(|i| value(i).to_le_bytes()).collect();
        device.from_host(&HostTensor::new(DType::U32, &[1, length], bytes).unwrap()).unwrap()
    };
    vec![row(&|i| ids.get(i).copied().unwrap_or(0)), row(&|i| u32::from(i < ids.len()))]
}

/// The vectors that the model alone gives for one sentence after the other.
fn alone<L: Learner>(directory: &Path, ids: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let device = L::device();
    let mut model = model::<L>("alone", directory);
    model.load(&device).unwrap();
    let vector = |ids: &Vec<u32>| {
        let placed = inputs(&device, ids, 1).into_iter().map(|input| device.gather(&[input]).unwrap());
        Columns::read(&device, &model.forward(&placed.collect::<Vec<_>>()).unwrap()[0])
    };
    ids.iter().map(vector).collect()
}

#[track_caller]
fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.iter().map(Vec::len).collect::<Vec<_>>(), b.iter().map(Vec::len).collect::<Vec<_>>());
    let differences = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs());
    // Unlike `max`, this keeps what is not a number.
    differences.fold(0.0, |a, b| if b <= a { a } else { b })
}

fn batched_equals_alone<L: Learner>() {
    let Some(directory) = directory() else { return };
    let ids = token_ids(&directory);
    let stats = Stats::new();
    let mut builder = RuntimeBuilder::new(L::device()).observer(stats.observer());
    let options = PoolOptions { max_rows: 16, ..PoolOptions::default() };
    let block = model::<L>("minilm", &directory);
    let pool = builder.serve(block, ServeOptions::forward(options)).unwrap().forward;
    let runtime = builder.build().unwrap();
    // All of them wait when the runtime starts, so the batches are the same in every run.
    let device = L::device();
    let tickets: Vec<_> = ids.iter().map(|ids| pool.submit(inputs(&device, ids, 8)).unwrap()).collect();
    let runtime = runtime.start().unwrap();
    let vector = |ticket| Columns::read(&device, &answer(ticket).unwrap()[0]);
    let batched: Vec<Vec<f32>> = tickets.into_iter().map(vector).collect();
    drain(runtime);

    let alone = alone::<L>(&directory, &ids);
    for vector in &alone {
        let length: f32 = vector.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-4, "a vector has length 1");
    }
    let largest = largest_difference(&batched, &alone);
    assert!(largest < TOLERANCE, "elements differ by {largest}");
    let total = stats.snapshot().total;
    assert!(total.mean_batch_rows > 2.0, "sentences ran together: {} rows a batch", total.mean_batch_rows);
}

#[cfg(feature = "candle")]
#[test]
fn candle_gives_the_vectors_that_the_model_gives_alone() {
    batched_equals_alone::<skep_tests::backends::Candle>();
}

#[cfg(feature = "tch")]
#[test]
fn tch_gives_the_vectors_that_the_model_gives_alone() {
    batched_equals_alone::<skep_tests::backends::Tch>();
}

#[cfg(all(feature = "candle", feature = "tch"))]
#[test]
fn backends_give_the_same_vectors() {
    use skep_tests::backends::{Candle, Tch};
    use skep_tests::kit::{Figure, figures};

    let Some(directory) = directory() else { return };
    let ids = token_ids(&directory);
    let largest = largest_difference(&alone::<Candle>(&directory, &ids), &alone::<Tch>(&directory, &ids));
    figures("MiniLM", &[Figure { what: "embeddings", difference: largest, limit: TOLERANCE }]);
}
