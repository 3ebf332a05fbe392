//! Text models are computed by arithmetic of the backend's own for inference, and by candle's operations once they are
//! trained: both must agree, and see every change of the parameters.

use skep_backend_candle::blocks::TextModel;
use skep_backend_candle::models::{Model, Precision};
use skep_backend_candle::prelude::*;
use skep_backend_candle::runtime::Fit;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

fn fixtures() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/fixtures");
    let mut folders: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// The inputs of a batch of `rows` texts, of which the last is `short` tokens shorter.
fn inputs(model: &Model, rows: usize, tokens: usize, short: usize) -> Vec<Tensor> {
    let place = CandleDevice::cpu().place().clone();
    let size = model.description().encoder.words.rows;
    let spec = |name: &str| {
        let numbers = (0..rows * tokens).map(|i| {
            let (row, token) = (i / tokens, i % tokens);
            let there = row + 1 < rows || token + short < tokens;
            match name {
                "input_ids" => u32::try_from((i * 7919 + 5) % size).unwrap(),
                "token_type_ids" => 0,
                _ => u32::from(there),
            }
        });
        Tensor::from_vec(numbers.collect(), (rows, tokens), &place).unwrap()
    };
    model.inputs().iter().map(|input| spec(input.name())).collect()
}

fn values(block: &mut CandleBlock, inputs: &[Tensor]) -> Vec<f32> {
    block.forward(inputs).unwrap()[0].flatten_all().unwrap().to_vec1().unwrap()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn inference_agrees_with_candles_operations_before_and_after_a_change_of_the_parameters() {
    let device = CandleDevice::cpu();
    for folder in fixtures() {
        let Ok(model) = Model::read(&folder) else { continue };
        let model = Arc::new(model);
        let name = folder.display();
        let block =
            || TextModel { model: Arc::clone(&model), precision: Precision::F32 }.block("text").unwrap();
        // What is trained is computed by candle's operations.
        let (mut block, mut trained) =
            (block(), block().with_optimizer(Optimizer::sgd(Sgd::default())).unwrap());
        block.load(&device).unwrap();
        trained.load(&device).unwrap();

        let batch = inputs(&model, 3, 9, 4);
        let before = values(&mut block, &batch);
        let mut state = block.state().unwrap();
        for (index, value) in state.parameters.values_mut().enumerate() {
            let scale = if index % 2 == 0 { 1.25 } else { 0.75 };
            let changed: Vec<f32> = value.to_f32().unwrap().iter().map(|x| x * scale).collect();
            *value = HostTensor::from_f32(value.dims(), &changed).unwrap();
        }
        block.restore(&state, Fit::Exact).unwrap();
        let after = values(&mut block, &batch);
        assert!(furthest(&before, &after) > 1e-4, "{name}: a change is not seen");

        // It has an optimizer, of which the state says nothing.
        trained.restore(&state, Fit::Partial).unwrap();
        let candles = values(&mut trained, &batch);
        let largest = candles.iter().fold(1.0, |most: f32, x| most.max(x.abs()));
        assert!(furthest(&after, &candles) < 1e-5 * largest, "{name}: {}", furthest(&after, &candles));
        assert_ne!(after, candles, "{name}: the same arithmetic twice shows nothing");
    }
}

#[test]
fn a_text_is_the_same_in_any_company_and_with_any_number_of_threads() {
    for folder in fixtures() {
        let Ok(model) = Model::read(&folder) else { continue };
        let model = Arc::new(model);
        let of = |threads: usize, rows: usize| {
            let model = Arc::clone(&model);
            std::thread::spawn(move || {
                let device = CandleDevice::cpu_with(CpuOptions::default().threads(Some(threads)));
                device.bind_thread().unwrap();
                let text = TextModel { model: Arc::clone(&model), precision: Precision::F32 };
                let mut block = text.block("text").unwrap();
                block.load(&device).unwrap();
                let batch: Vec<_> =
                    inputs(&model, 5, 7, 0).iter().map(|input| input.narrow(0, 0, rows).unwrap()).collect();
                values(&mut block, &batch)
            })
            .join()
            .unwrap()
        };
        let all = of(1, 5);
        // As many threads as texts, fewer, and more, which then share the products of each.
        for (threads, rows) in [(1, 1), (2, 5), (3, 2), (4, 1), (16, 5)] {
            let some = of(threads, rows);
            let apart = furthest(&some, &all[..some.len()]);
            assert!(apart < 1e-5, "{}: {threads} threads, {rows} texts: {apart}", folder.display());
        }
    }
}
