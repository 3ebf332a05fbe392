//! Published text models give what the libraries give that they were published with.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "helpers of tests, figures for people"
)]

use serde_json::{Value, json};
use skep_models::description::{Pool, Step};
use skep_models::{Ask, Kind, Model, Prompt, TextModel, TokenCount};
use skep_pool::{PoolOptions, Serve, ServeOptions};
use skep_runtime_core::{Backend, BlockState, DType, Device, HostTensor, PadTo, RuntimeBuilder, TensorOps};
use skep_tests::Learner;
use skep_tests::kit::{Columns, Figure, drain, figures};
use skep_toolkit::{Config, Optimizer, Sgd};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much a number may differ from what `PyTorch` computes in f64.
const TOLERANCE: f64 = 1e-5;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join("models")
}

fn run<L: Learner>(folder: &Path, inputs: &[&[u32]]) -> Vec<f32> {
    let device = L::device();
    let mut block = L::block("text_model", "model", &Config::new().with("directory", folder.display()), None);
    block.load(&device).unwrap();
    let place = |values: &&[u32]| {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let host = HostTensor::new(DType::U32, &[1, values.len()], bytes).unwrap();
        device.gather(&[device.from_host(&host).unwrap()]).unwrap()
    };
    let outputs = block.forward(&inputs.iter().map(place).collect::<Vec<_>>()).unwrap();
    Columns::read(&device, &outputs[0])
}

/// Ids 7, 2, 9, 4, and what comes of them.
const CASES: [(&str, bool, &[f32]); 5] = [
    ("plain", true, &[-0.58018, -0.45216, 0.08989, 0.28568, 0.40500, 0.24987, -0.27368, 0.26056]),
    ("cls_pooling", true, &[-0.57563, -0.46915, 0.18655, 0.19729, 0.37322, 0.24215, -0.29934, 0.29546]),
    ("no_normalize", true, &[-1.99557, -1.55523, 0.30920, 0.98261, 1.39305, 0.85946, -0.94135, 0.89621]),
    ("dense", true, &[-0.67256, -0.77319, 0.98756]),
    ("roberta", false, &[-0.59760, -0.41979, 0.07859, 0.25536, 0.44546, 0.22504, -0.26795, 0.27275]),
];

fn cases<L: Learner>() {
    for (name, types, expected) in CASES {
        let (ids, ones, zeros) = ([7, 2, 9, 4], [1; 4], [0; 4]);
        let inputs: &[&[u32]] = if types { &[&ids, &ones, &zeros] } else { &[&ids, &ones] };
        let mut got = run::<L>(&data().join("cases").join(name), inputs);
        // Those without `modules.json` are not brought to a unit length, as sentence-transformers has it.
        if ["plain", "roberta"].contains(&name) {
            let length = got.iter().map(|v| v * v).sum::<f32>().sqrt();
            for v in &mut got {
                *v /= length;
            }
        }
        assert_eq!(got.len(), expected.len(), "{name}");
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 2e-5, "{name}: {got} instead of {expected}");
        }
    }
}

/// A model folder with questions, and the answers that `PyTorch` gives.
struct Fixture {
    folder: PathBuf,
    name: String,
    expected: Value,
}

fn fixtures() -> Vec<Fixture> {
    let mut folders: Vec<_> =
        fs::read_dir(data().join("fixtures")).unwrap().map(|it| it.unwrap().path()).collect();
    folders.sort();
    let read = |folder: PathBuf| Fixture {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        expected: serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap(),
        folder,
    };
    folders.into_iter().map(read).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Unlike `max`, this keeps what is not a number.
fn larger(a: f64, b: f64) -> f64 {
    if b <= a { a } else { b }
}

fn distance(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(got, expected)| (f64::from(*got) - expected).abs()).fold(0.0, larger)
}

fn text<'a>(ask: &'a Value, key: &str) -> &'a str {
    ask[key].as_str().unwrap()
}

fn prompted(ask: &Value) -> Ask {
    match ask["prompt"].as_str() {
        Some(name) => Ask::new().prompt(Prompt::named(name)),
        None => Ask::new(),
    }
}

#[track_caller]
fn check_count(fixture: &Fixture, ask: &Value, tokens: TokenCount) {
    let whole = ask["tokens"].as_u64().unwrap();
    assert_eq!((tokens.given + tokens.left_out) as u64, whole, "{}: tokens of {ask}", fixture.name);
}

/// The largest difference of any number of the fixture, alone or together with others.
fn check<O: TensorOps>(fixture: &Fixture, model: &TextModel<O>) -> f64 {
    let asks = fixture.expected["asks"].as_array().unwrap();
    if let Some(limit) = fixture.expected["limit"].as_u64() {
        assert_eq!(model.model().tokens().unwrap().limit() as u64, limit, "{}: the limit", fixture.name);
    }
    let mut largest = 0.0;
    match text(&fixture.expected, "kind") {
        "embed" => {
            for ask in asks {
                let embedded = model.embed(text(ask, "text"), &prompted(ask)).unwrap();
                check_count(fixture, ask, embedded.tokens);
                largest = larger(largest, distance(&embedded.vector, &numbers(&ask["vector"])));
            }
            let plain: Vec<_> = asks.iter().filter(|ask| ask["prompt"].is_null()).collect();
            let texts: Vec<_> = plain.iter().map(|ask| text(ask, "text")).collect();
            for (embedded, ask) in model.embed_all(&texts, &Ask::new()).unwrap().iter().zip(plain) {
                largest = larger(largest, distance(&embedded.vector, &numbers(&ask["vector"])));
            }
        }
        "classify" => {
            let texts: Vec<_> = asks.iter().map(|ask| text(ask, "text")).collect();
            for (classes, ask) in model.classify_all(&texts, &Ask::new()).unwrap().iter().zip(asks) {
                check_count(fixture, ask, classes.tokens);
                largest = larger(largest, distance(&classes.scores, &numbers(&ask["scores"])));
            }
        }
        "pair" => {
            let pairs: Vec<_> = asks.iter().map(|ask| (text(ask, "text"), text(ask, "pair"))).collect();
            for (classes, ask) in model.compare_all(&pairs, &Ask::new()).unwrap().iter().zip(asks) {
                check_count(fixture, ask, classes.tokens);
                largest = larger(largest, distance(&classes.scores, &numbers(&ask["scores"])));
            }
        }
        "label" => {
            let names = &model.model().labels().unwrap().names;
            for ask in asks {
                let labelled = model.label(text(ask, "text"), &Ask::new()).unwrap();
                check_count(fixture, ask, labelled.tokens);
                let expected = ask["labels"].as_array().unwrap();
                let got: Vec<_> = labelled
                    .labels
                    .iter()
                    .map(|it| json!([names[it.label], it.characters.0, it.characters.1]))
                    .collect();
                let own: Vec<_> = expected.iter().map(|it| json!([it[0], it[2], it[3]])).collect();
                assert_eq!(got, own, "{}: labels of {:?}", fixture.name, text(ask, "text"));
                let scores: Vec<_> = labelled.labels.iter().map(|it| it.score).collect();
                let own: Vec<_> = expected.iter().map(|it| it[1].as_f64().unwrap()).collect();
                largest = larger(largest, distance(&scores, &own));
            }
        }
        other => panic!("{other}"),
    }
    largest
}

/// With texts of different lengths in one batch: filled up, or laid end to end.
fn agrees<L: Learner>(ragged: bool) {
    let fixtures = fixtures();
    assert!(fixtures.len() >= 30);
    let mut failed = Vec::new();
    let (mut largest, mut count) = (0.0, 0);
    // All on one device, as they would be served.
    let mut builder = RuntimeBuilder::new(L::device());
    let mut models = Vec::new();
    for fixture in &fixtures {
        let model = match Model::read(&fixture.folder) {
            Ok(model) => Arc::new(model),
            Err(error) => {
                failed.push(format!("{}: {error}", fixture.name));
                continue;
            }
        };
        let (config, options) = rows(&model, fixture, ragged);
        let block = L::block("text_model", &fixture.name, &config, None);
        let served = builder.serve(block, ServeOptions::forward(options)).unwrap();
        let device = Arc::clone(builder.device());
        models.push((fixture, TextModel::new(model, device, Arc::new(served.forward)).unwrap()));
    }
    let runtime = builder.start().unwrap();
    for (fixture, model) in models {
        let difference = check(fixture, &model);
        if difference.is_nan() || difference > TOLERANCE {
            failed.push(format!("{}: differs by {difference:.1e}", fixture.name));
        }
        (largest, count) = (larger(largest, difference), count + 1);
    }
    drain(runtime);
    assert!(failed.is_empty(), "{failed:#?}");
    let largest = largest as f32;
    figures(
        &format!("{count} published forms"),
        &[Figure { what: "answers", difference: largest, limit: TOLERANCE as f32 }],
    );
}

/// The settings of a block and its pool, for texts of different lengths in one batch.
fn rows(model: &Model, fixture: &Fixture, ragged: bool) -> (Config, PoolOptions) {
    let (config, options) =
        (Config::new().with("directory", fixture.folder.display()), PoolOptions::default());
    if ragged {
        (config.with("rows", "ragged"), options)
    } else {
        (config, options.padding(model.padding(PadTo::Longest)))
    }
}

/// The vectors of tokens are those that become the text's.
fn tokens_become_the_text<L: Learner>(ragged: bool) {
    let mut checked = 0;
    for fixture in fixtures() {
        let model = Model::read(&fixture.folder).unwrap();
        let description = model.description();
        let (pooling, unit) = match (&*description.pooling, &*description.steps) {
            ([pool @ (Pool::Mean | Pool::First | Pool::Last)], steps) if !description.pooling_mask => {
                match steps {
                    [] => (*pool, false),
                    [Step::UnitLength] => (*pool, true),
                    _ => continue,
                }
            }
            _ => continue,
        };
        if description.kind != Kind::Embedding {
            continue;
        }
        let model = Arc::new(model.with_token_vectors().unwrap());
        let (config, options) = rows(&model, &fixture, ragged);
        let mut builder = RuntimeBuilder::new(L::device());
        let block = L::block("text_model", &fixture.name, &config.with("token_vectors", true), None);
        let served = builder.serve(block, ServeOptions::forward(options)).unwrap();
        let device = Arc::clone(builder.device());
        let model = TextModel::new(model, device, Arc::new(served.forward)).unwrap();
        let runtime = builder.start().unwrap();
        let asks = fixture.expected["asks"].as_array().unwrap();
        let plain: Vec<_> = asks.iter().filter(|ask| ask["prompt"].is_null()).collect();
        let texts: Vec<_> = plain.iter().map(|ask| text(ask, "text")).collect();
        for (answer, ask) in model.embed_tokens_all(&texts, &Ask::new()).unwrap().iter().zip(plain) {
            check_count(&fixture, ask, answer.tokens);
            let vectors: Vec<_> = answer.vectors().collect();
            assert_eq!(vectors.len(), answer.tokens.given, "{}", fixture.name);
            let mut pooled = match pooling {
                Pool::First => vectors[0].to_vec(),
                Pool::Last => vectors[vectors.len() - 1].to_vec(),
                _ => {
                    let sum = |i| vectors.iter().map(|vector| vector[i]).sum::<f32>() / vectors.len() as f32;
                    (0..answer.size).map(sum).collect()
                }
            };
            if unit {
                let length = pooled.iter().map(|v| v * v).sum::<f32>().sqrt();
                for value in &mut pooled {
                    *value /= length;
                }
            }
            let difference = distance(&pooled, &numbers(&ask["vector"]));
            assert!(difference <= TOLERANCE, "{}: differs by {difference:.1e}", fixture.name);
            checked += 1;
        }
        // The text's own vector is there as well.
        let one = model.embed(text(&asks[0], "text"), &prompted(&asks[0])).unwrap();
        assert!(distance(&one.vector, &numbers(&asks[0]["vector"])) <= TOLERANCE, "{}", fixture.name);
        drain(runtime);
    }
    assert!(checked >= 30, "{checked}");
}

#[test]
fn only_embedding_models_give_vectors_of_tokens() {
    let read = |name: &str| Model::read(data().join("fixtures").join(name)).unwrap();
    let told = read("bert_token").with_token_vectors().unwrap_err().to_string();
    assert_eq!(
        told,
        "the model gives numbers for the labels of each token, and was asked to give the vectors of tokens"
    );
    let names = |model: &Model| model.outputs().iter().map(|spec| spec.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&read("bert_mean")), ["embedding"]);
    assert_eq!(names(&read("bert_mean").with_token_vectors().unwrap()), ["embedding", "token_embeddings"]);
}

/// What a step of training makes of a model: how far it went down, and the parameters after it.
fn trained<L: Learner>(name: &str) -> (f64, BlockState) {
    let device = L::device();
    let folder = data().join("fixtures").join(name);
    let optimizer = Optimizer::sgd(Sgd::default().learning_rate(1e-3));
    let config = Config::new().with("directory", folder.display());
    let mut block = L::block("text_model", "model", &config, Some(optimizer));
    block.load(&device).unwrap();
    let info = block.info();
    let place = |host: &HostTensor| device.gather(&[device.from_host(host).unwrap()]).unwrap();
    let inputs = || -> Vec<_> {
        let (ids, mask, types) =
            ([5, 9, 7, 11, 6, 8, 10, 9], [1, 1, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 1, 1, 1]);
        let row = |name: &str| match name {
            "input_ids" => ids,
            "token_type_ids" => types,
            _ => mask,
        };
        let specs = info.inputs.tensors().iter();
        specs.map(|spec| place(&HostTensor::from_u32(&[2, 4], &row(spec.name())).unwrap())).collect()
    };
    let before = block.state().unwrap();
    let output = block.forward(&inputs()).unwrap().remove(0);
    let output = device.to_host(&output).unwrap();
    let weights: Vec<f32> = (0..output.bytes().len() / 4).map(|i| [1.0, -0.5, 0.25][i % 3]).collect();
    let loss = |output: &HostTensor| -> f64 {
        output.to_f32().unwrap().iter().zip(&weights).map(|(a, b)| f64::from(a * b)).sum()
    };
    let gradient = place(&HostTensor::from_f32(output.dims(), &weights).unwrap());
    block.backward(&inputs(), &[gradient]).unwrap();
    let after = block.state().unwrap();
    let next = block.forward(&inputs()).unwrap().remove(0);
    let down = loss(&output) - loss(&device.to_host(&next).unwrap());
    let still: Vec<_> =
        before.parameters.iter().filter(|(name, value)| after.parameters[*name] == **value).collect();
    // What a key has for all tokens alike moves all scores of a row alike, which softmax does not see.
    let still: Vec<_> =
        still.iter().map(|(name, _)| name.as_str()).filter(|name| !name.contains("bias")).collect();
    assert!(still.is_empty(), "{name}: no gradient reaches {still:?}");
    (down, after)
}

const TRAINED: [&str; 8] = [
    "bert_joined_dense",
    "bert_token",
    "electra_sequence",
    "roberta_embedding",
    "mpnet_embedding",
    "modernbert_sequence",
    "nomic_bert_embedding",
    "qwen3_embedding",
];

fn learns<L: Learner>() {
    for name in TRAINED {
        let (down, _) = trained::<L>(name);
        assert!(down > 0.0, "{name}: a step went up by {}", -down);
    }
}

#[cfg(feature = "candle")]
#[test]
fn candle_gives_the_vectors_of_tokens() {
    tokens_become_the_text::<skep_tests::backends::Candle>(false);
    tokens_become_the_text::<skep_tests::backends::Candle>(true);
}

#[cfg(feature = "tch")]
#[test]
fn tch_gives_the_vectors_of_tokens() {
    tokens_become_the_text::<skep_tests::backends::Tch>(false);
}

#[cfg(feature = "candle")]
#[test]
fn candle_trains_them() {
    learns::<skep_tests::backends::Candle>();
}

#[cfg(feature = "tch")]
#[test]
fn tch_trains_them() {
    learns::<skep_tests::backends::Tch>();
}

#[cfg(all(feature = "candle", feature = "tch"))]
#[test]
fn backends_train_alike() {
    use skep_tests::backends::{Candle, Tch};
    for name in TRAINED {
        let ((_, candle), (_, tch)) = (trained::<Candle>(name), trained::<Tch>(name));
        assert!(candle.parameters.keys().eq(tch.parameters.keys()));
        for (parameter, value) in &candle.parameters {
            let expected: Vec<f64> =
                tch.parameters[parameter].to_f32().unwrap().into_iter().map(f64::from).collect();
            let difference = distance(&value.to_f32().unwrap(), &expected);
            assert!(difference <= TOLERANCE, "{name}: {parameter} differs by {difference:.1e}");
        }
    }
}

/// Sixteen blocks of one model: what the first has read, the others take, from then on without the file.
fn shares<D: Device, B: Backend<D>>(device: &D, block: impl Fn(Arc<Model>, &str) -> B) {
    const BLOCKS: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    // Which has no folders in it.
    for file in fs::read_dir(data().join("fixtures/bert_without_modules")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let model = Arc::new(Model::read(folder.path()).unwrap());
    let kept = model.weights().keep();
    let load = |at: usize| {
        let mut block = block(Arc::clone(&model), &format!("model.{at}"));
        block.load(device).map(|()| block)
    };
    let inputs = || -> Vec<D::Tensor> {
        let rows = [[7, 2, 9, 4], [1; 4], [0; 4]];
        let hosts = rows.map(|row| HostTensor::from_u32(&[1, 4], &row).unwrap());
        hosts.map(|host| device.gather(&[device.from_host(&host).unwrap()]).unwrap()).into()
    };
    let answer = |block: &mut B| device.to_host(&block.forward(&inputs()).unwrap()[0]).unwrap();
    let expected = answer(&mut load(0).unwrap());
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    for at in 1..BLOCKS {
        assert_eq!(answer(&mut load(at).unwrap()), expected);
    }
    drop(kept);
    let error = load(BLOCKS).err().unwrap();
    assert!(skep_runtime_core::Chain(&*error).to_string().contains("model.safetensors"), "{error}");
}

/// Its weights stand in its folder.
fn refuses_other_weights<L: Learner>() {
    let folder = data().join("fixtures/bert_mean");
    let file = folder.join("model.safetensors");
    let config = Config::new().with("directory", folder.display()).with("weights", file.display());
    let error = L::block("text_model", "model", &config, None).load(&L::device()).unwrap_err();
    assert!(
        error.to_string().starts_with("no parameter of the block is taken from the weights file"),
        "{error}"
    );
}

/// The largest difference that computing in this precision makes.
fn in_precision<L: Learner>(name: &str, precision: &str) -> f64 {
    let fixtures = fixtures();
    let fixture = fixtures.iter().find(|fixture| fixture.name == name).unwrap();
    let mut builder = RuntimeBuilder::new(L::device());
    let config = Config::new().with("directory", fixture.folder.display()).with("precision", precision);
    let block = L::block("text_model", name, &config, None);
    assert!(!block.info().backward, "a step of an optimizer is too small for it");
    let served = builder.serve(block, ServeOptions::default()).unwrap();
    let model = Arc::new(Model::read(&fixture.folder).unwrap());
    let text = TextModel::new(model, Arc::clone(builder.device()), Arc::new(served.forward)).unwrap();
    let runtime = builder.start().unwrap();
    let difference = check(fixture, &text);
    drain(runtime);
    difference
}

/// Vectors of a few numbers around 1.
fn computes_in_the_stored_type<L: Learner>(backend: &str) {
    let figure =
        |what, name, limit| Figure { what, difference: in_precision::<L>(name, "stored") as f32, limit };
    let found = [figure("f16", "bert_f16", 1e-2), figure("bf16", "bert_bf16", 1e-1)];
    assert!(found.iter().all(|it| it.difference > 1e-5), "computed in f32 after all");
    figures(&format!("precision `stored` on {backend}"), &found);
}

#[cfg(feature = "candle")]
#[test]
fn candle_computes_in_the_stored_type() {
    computes_in_the_stored_type::<skep_tests::backends::Candle>("candle");
}

/// By weights that oneDNN has laid out, where the processor has instructions for it; elsewhere it is refused.
#[cfg(feature = "tch")]
#[test]
fn tch_computes_in_bf16_by_name() {
    use skep_tests::{Subject, backends::Tch};
    let folder = data().join("fixtures").join("bert_mean");
    let config = Config::new().with("directory", folder.display()).with("precision", "bf16");
    if let Err(error) = Tch::block("text_model", "bf16", &config, None).load(&Tch::device()) {
        let told = skep_runtime_core::Chain(&*error).to_string();
        assert!(told.contains("precision is `bf16`, for which this processor has no instructions"), "{told}");
        println!("skipped: {told}");
        return;
    }
    let difference = in_precision::<Tch>("bert_mean", "bf16") as f32;
    assert!(difference > 1e-5, "computed in f32 after all");
    figures("precision `bf16` on tch", &[Figure { what: "bf16", difference, limit: 1e-1 }]);
}

#[cfg(feature = "tch")]
#[test]
fn tch_computes_in_the_stored_type() {
    computes_in_the_stored_type::<skep_tests::backends::Tch>("tch");
}

#[cfg(feature = "candle")]
#[test]
fn candle_reads_the_weights_of_a_folder_once_for_many_blocks() {
    use skep_backend_candle::blocks::TextModel;
    use skep_tests::{Subject, backends::Candle};
    shares(&Candle::device(), |model, name| {
        TextModel { model, precision: skep_models::Precision::F32 }.block(name).unwrap()
    });
    refuses_other_weights::<Candle>();
}

#[cfg(feature = "candle")]
#[test]
fn candle_gives_the_vectors_of_the_cases() {
    cases::<skep_tests::backends::Candle>();
}

#[cfg(feature = "candle")]
#[test]
fn candle_gives_the_answers_of_pytorch() {
    agrees::<skep_tests::backends::Candle>(false);
}

#[cfg(feature = "candle")]
#[test]
fn candle_gives_the_answers_of_pytorch_to_texts_laid_end_to_end() {
    agrees::<skep_tests::backends::Candle>(true);
}

#[cfg(feature = "ort")]
#[test]
fn ort_reads_the_weights_of_a_folder_once_for_many_blocks() {
    use skep_backend_ort::blocks::TextModel;
    use skep_tests::{Subject, backends::Ort};
    shares(&Ort::device(), |model, name| {
        TextModel { model, precision: skep_models::Precision::F32 }.block(name).unwrap()
    });
    refuses_other_weights::<Ort>();
}

#[cfg(feature = "ort")]
#[test]
fn ort_gives_the_vectors_of_the_cases() {
    cases::<skep_tests::backends::Ort>();
}

#[cfg(feature = "ort")]
#[test]
fn ort_gives_the_answers_of_pytorch() {
    agrees::<skep_tests::backends::Ort>(false);
}

#[cfg(feature = "tch")]
#[test]
fn tch_reads_the_weights_of_a_folder_once_for_many_blocks() {
    use skep_backend_tch::blocks::TextModel;
    use skep_tests::{Subject, backends::Tch};
    shares(&Tch::device(), |model, name| {
        TextModel { model, precision: skep_models::Precision::F32 }.block(name).unwrap()
    });
    refuses_other_weights::<Tch>();
}

#[cfg(feature = "tch")]
#[test]
fn tch_gives_the_vectors_of_the_cases() {
    cases::<skep_tests::backends::Tch>();
}

#[cfg(feature = "tch")]
#[test]
fn tch_gives_the_answers_of_pytorch() {
    agrees::<skep_tests::backends::Tch>(false);
}

#[cfg(feature = "ort")]
#[test]
fn ort_gives_the_vectors_of_tokens() {
    tokens_become_the_text::<skep_tests::backends::Ort>(false);
}
