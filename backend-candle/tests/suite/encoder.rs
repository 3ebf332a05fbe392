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

fn text_model(model: &Arc<Model>) -> TextModel {
    TextModel { model: Arc::clone(model), precision: Precision::F32 }
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
        let block = || text_model(&model).block("text").unwrap();
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
                let text = text_model(&model);
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

/// Texts of these lengths, one after the other as a block takes them, and as it takes one of them padded. Each has a token
/// in its middle that is none.
struct Ragged {
    lengths: Vec<usize>,
    /// Of each input the numbers of each text.
    columns: Vec<Vec<Vec<u32>>>,
}

impl Ragged {
    fn new(model: &Model, lengths: &[usize]) -> Self {
        let size = model.description().encoder.words.rows;
        let column = |name: &str| {
            let text = |(text, &tokens): (usize, &usize)| {
                let number = |token: usize| match name {
                    "input_ids" => u32::try_from((text * 131 + token * 7919 + 5) % size).unwrap(),
                    "token_type_ids" => 0,
                    "pooling_mask" => u32::from(token > 0 || tokens == 1),
                    _ => u32::from(tokens < 4 || token != tokens / 2),
                };
                (0..tokens).map(number).collect()
            };
            lengths.iter().enumerate().map(text).collect()
        };
        let columns = model.inputs().iter().map(|input| column(input.name())).collect();
        Self { lengths: lengths.to_vec(), columns }
    }

    fn laid(&self, texts: std::ops::Range<usize>) -> Vec<Tensor> {
        let place = CandleDevice::cpu().place().clone();
        let laid =
            self.columns.iter().map(|column| Tensor::new(column[texts.clone()].concat(), &place).unwrap());
        let mut offsets = vec![0_i64];
        for length in &self.lengths[texts.clone()] {
            offsets.push(offsets[offsets.len() - 1] + i64::try_from(*length).unwrap());
        }
        laid.chain([Tensor::new(offsets, &place).unwrap()]).collect()
    }

    fn alone(&self, text: usize) -> Vec<Tensor> {
        let place = CandleDevice::cpu().place().clone();
        let row =
            |column: &Vec<Vec<u32>>| Tensor::new(column[text].clone(), &place).unwrap().unsqueeze(0).unwrap();
        self.columns.iter().map(row).collect()
    }
}

/// Every family: with positions of each kind, with windows and distances, with masks of their own.
#[test]
fn texts_laid_end_to_end_get_what_each_gets_alone() {
    let lengths = [5, 1, 9, 5, 12, 2, 7];
    for folder in fixtures() {
        let Ok(model) = Model::read(&folder) else { continue };
        let (model, name) = (Arc::new(model), folder.display());
        if model.description().encoder.max_tokens < 12 {
            println!("skipped: {name}: texts of it are shorter");
            continue;
        }
        let texts = Ragged::new(&model, &lengths);
        let of = |threads: usize| {
            let (model, batches) = (Arc::clone(&model), [texts.laid(0..7), texts.laid(4..5)]);
            std::thread::spawn(move || {
                let device = CandleDevice::cpu_with(CpuOptions::default().threads(Some(threads)));
                device.bind_thread().unwrap();
                let mut block = text_model(&model).ragged_block("text").unwrap();
                block.load(&device).unwrap();
                batches.map(|batch| block.forward(&batch).unwrap().remove(0))
            })
            .join()
            .unwrap()
        };
        let mut padded = text_model(&model).block("text").unwrap();
        padded.load(&CandleDevice::cpu()).unwrap();
        let [all, alone] = of(1);
        let of_tokens = all.dim(0).unwrap() == lengths.iter().sum::<usize>();
        let size = |text: usize| if of_tokens { lengths[text] } else { 1 };
        let mut at = 0;
        for text in 0..lengths.len() {
            let got = all.narrow(0, at, size(text)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let expected = values(&mut padded, &texts.alone(text));
            let largest = expected.iter().fold(1.0, |most: f32, x| most.max(x.abs()));
            let apart = furthest(&got, &expected);
            assert!(apart < 1e-5 * largest, "{name}: {apart} of text {text}");
            if text == 4 {
                let alone = alone.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let apart = furthest(&got, &alone);
                assert!(apart < 1e-5 * largest, "{name}: {apart} in company");
            }
            at += size(text);
        }
        for threads in [2, 3, 7, 16] {
            let [shared, _] = of(threads);
            let [shared, all] = [&shared, &all].map(|it| it.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            assert!(furthest(&shared, &all) < 1e-5, "{name}: {threads} threads");
        }
    }
}

#[test]
fn ragged_rows_are_refused_where_they_cannot_be_computed() {
    let folder = fixtures().into_iter().find(|folder| folder.ends_with("bert_mean")).unwrap();
    let model = Arc::new(Model::read(folder).unwrap());
    let half = TextModel { precision: Precision::BF16, ..text_model(&model) };
    let error = half.ragged_block("text").err().unwrap().to_string();
    assert!(error.contains("`rows` is `ragged`, expected `padded`: rows are ragged in f32"), "{error}");
    let texts = Ragged::new(&model, &[3, 2]);
    let trained = text_model(&model).ragged_block("text").unwrap();
    let mut trained = trained.with_optimizer(Optimizer::sgd(Sgd::default())).unwrap();
    assert!(!trained.info().backward, "no pool trains it");
    trained.load(&CandleDevice::cpu()).unwrap();
    let outputs = trained.forward(&texts.laid(0..2)).unwrap();
    assert!(trained.backward(&texts.laid(0..2), &outputs).is_err());

    let mut block = text_model(&model).ragged_block("text").unwrap();
    block.load(&CandleDevice::cpu()).unwrap();
    for wrong in [vec![0_i64, 3, 4], vec![1, 3, 5], vec![0, 3, 3, 5], vec![0, 6, 5], vec![0, -1, 5], vec![0]]
    {
        let mut inputs = texts.laid(0..2);
        let offsets = inputs.len() - 1;
        inputs[offsets] = Tensor::new(wrong.clone(), CandleDevice::cpu().place()).unwrap();
        let error = block.forward(&inputs).unwrap_err().to_string();
        assert!(error.contains("expected 0 to 5, which ascend"), "{wrong:?}: {error}");
    }
    assert!(block.forward(&texts.laid(0..2)).is_ok());
}
