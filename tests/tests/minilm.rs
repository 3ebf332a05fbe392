//! Real sentences through a real model: batched and padded in the runtime, each vector is the one that the
//! model gives alone.
//!
//! Needs all-MiniLM-L6-v2 (`model.safetensors`, `config.json`, `tokenizer.json`) in the folder that
//! `SKEP_MINILM_DIR` names. `cargo xtask test` gets it.
#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use skep_backend_candle::CandleDevice;
use skep_backend_candle::blocks::Bert;
use skep_backend_candle::candle_core::{Device as Place, Tensor};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::{Backend, Device, RuntimeBuilder};
use skep_stats::Stats;
use skep_tests::kit::{Columns, answer, drain};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

const SENTENCES: &str = include_str!("../examples/embed/sentences.txt");

/// How much two elements of a vector of length 1 may differ.
const TOLERANCE: f32 = 1e-5;

fn token_ids(directory: &Path) -> Vec<Vec<u32>> {
    let mut tokenizer = Tokenizer::from_file(directory.join("tokenizer.json")).unwrap();
    // The file asks for 128 tokens whatever the sentence.
    tokenizer.with_padding(None).with_truncation(None).unwrap();
    let ids = |line| tokenizer.encode(line, true).unwrap().get_ids().to_vec();
    SENTENCES.lines().take(32).map(ids).collect()
}

/// Ids and mask, padded to a multiple of `bucket`.
fn inputs(ids: &[u32], bucket: usize) -> Vec<Tensor> {
    let length = ids.len().next_multiple_of(bucket);
    let row = |value: &dyn Fn(usize) -> u32| {
        Tensor::from_vec((0..length).map(value).collect(), (1, length), &Place::Cpu).unwrap()
    };
    vec![row(&|i| ids.get(i).copied().unwrap_or(0)), row(&|i| u32::from(i < ids.len()))]
}

#[test]
fn sentences_have_the_vectors_that_the_model_gives_alone() {
    let Some(directory) = std::env::var_os("SKEP_MINILM_DIR").map(PathBuf::from) else {
        println!("skipped: SKEP_MINILM_DIR does not name a folder with the model");
        return;
    };
    let ids = token_ids(&directory);
    let stats = Stats::new();
    let mut builder = RuntimeBuilder::new(CandleDevice::cpu()).observer(stats.observer());
    let block = Bert { directory: directory.clone() }.block("minilm").unwrap();
    let options = PoolOptions { max_rows: 16, ..PoolOptions::default() };
    let pool = builder.serve(block, ServeOptions::forward(options)).unwrap().forward;
    let runtime = builder.build().unwrap();
    // All of them wait when the runtime starts, so the batches are the same in every run.
    let tickets: Vec<_> = ids.iter().map(|ids| pool.submit(inputs(ids, 8)).unwrap()).collect();
    let runtime = runtime.start().unwrap();

    let device = CandleDevice::cpu();
    let mut alone = Bert { directory }.block("alone").unwrap();
    alone.load(&device).unwrap();
    for (ticket, ids) in tickets.into_iter().zip(&ids) {
        let batched = Columns::read(&device, &answer(ticket).unwrap()[0]);
        let placed = inputs(ids, 1).into_iter().map(|input| device.gather(&[input]).unwrap());
        let single = Columns::read(&device, &alone.forward(&placed.collect::<Vec<_>>()).unwrap()[0]);
        let length: f32 = single.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-4, "a vector has length 1");
        let largest = batched.iter().zip(&single).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(batched.len() == single.len() && largest < TOLERANCE, "elements differ by {largest}");
    }
    drain(runtime);
    let total = stats.snapshot().total;
    assert!(total.mean_batch_rows > 2.0, "sentences ran together: {} rows a batch", total.mean_batch_rows);
}
