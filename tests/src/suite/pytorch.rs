//! Training beside `PyTorch`'s: `tests/data/training/make.py` has made the numbers.

use crate::kit::{Alone, Bias, Normed, Pupil, in_dtype, noise, numbers, wide_numbers};
use crate::subject::Learner;
use serde_json::Value;
use skep_runtime_core::{Backend, DType, HostTensor};
use skep_toolkit::{AdamW, Block, Optimizer, Sgd};
use std::fmt::Write;

const STEPS: u32 = 20;

fn expected() -> Value {
    serde_json::from_str(include_str!("../../data/training/expected.json")).unwrap()
}

fn numbers_of(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers_of).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

fn optimizer(name: &str) -> Optimizer {
    match name {
        "adamw" => Optimizer::adamw(AdamW::default().learning_rate(0.05).weight_decay(0.1)),
        "sgd" => Optimizer::sgd(Sgd::default().learning_rate(0.1)),
        _ => Optimizer::sgd(Sgd::default().learning_rate(0.05).momentum(0.9).weight_decay(0.05)),
    }
}

fn dtype(name: &str) -> DType {
    [DType::F32, DType::F64, DType::F16, DType::BF16].into_iter().find(|d| d.to_string() == name).unwrap()
}

/// The first values, by name.
fn first(name: &str) -> HostTensor {
    noise(&[4], if name == "w" { 1001 } else { 1002 })
}

/// The largest difference, for numbers above 1 in parts of them.
fn distance(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let differences =
        got.iter().zip(expected).map(|(got, expected)| (got - expected).abs() / expected.abs().max(1.0));
    differences
        .fold(0.0, |most, difference| if difference.is_nan() { f64::NAN } else { difference.max(most) })
}

/// Trains as the script does, and returns the largest difference of what was stepped, and that of the parameters
/// themselves, to `PyTorch`'s.
fn row<L: Learner>(row: &Value) -> (f64, f64) {
    let text = |key: &str| row[key].as_str().unwrap();
    let (dtype, sort) = (dtype(text("dtype")), text("sort"));
    let bias = match sort {
        "tied" => Bias::Tied,
        "late" => Bias::Late,
        _ => Bias::Own,
    };
    let mut optimizer = optimizer(text("optimizer"));
    if sort == "clipped" {
        optimizer = optimizer.with_max_norm(0.5);
    }
    let block = Block::of("pupil", Pupil { dtype, bias }).unwrap().with_parameters(|name| Ok(first(name)));
    let mut block = Alone::<L>::new(block.with_optimizer(optimizer).unwrap().allow_unused_parameters());
    for step in 0..STEPS {
        let rows = if sort == "late" && step >= STEPS / 2 { 2 } else { 1 };
        let in_dtype = |seed| in_dtype(&noise(&[rows, 4], seed), dtype);
        block.backward(&[in_dtype(step)], &[in_dtype(100 + step)]).unwrap();
    }
    let state = block.state();
    let mut worst = (0.0, 0.0);
    for (name, values) in row["parameters"].as_object().unwrap() {
        let values = numbers_of(values);
        let parameter = wide_numbers(&state.parameters[name]);
        let stepped = state.optimizer.get(&format!("master.{name}")).map_or(parameter.clone(), wide_numbers);
        worst = (
            f64::max(worst.0, distance(&stepped, &values)),
            f64::max(worst.1, distance(&parameter, &values)),
        );
    }
    worst
}

/// Each optimizer, element type and sort of parameter after 20 steps: within 1e-6 of `PyTorch`'s, or of its master copies;
/// parameters of half precision are those, rounded.
#[expect(clippy::print_stdout, reason = "the table is for whoever looks at the test's output")]
pub fn optimizers_agree_with_pytorch<L: Learner>() {
    let expected = expected();
    let mut table = String::from("optimizer dtype sort     stepped   parameters\n");
    let mut wrong = 0;
    let rows = expected["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3 * 4 * 4);
    for line in rows {
        let (stepped, parameters) = row::<L>(line);
        let dtype = line["dtype"].as_str().unwrap();
        let rounding = match dtype {
            "bf16" => 2f64.powi(-8),
            "f16" => 2f64.powi(-11),
            _ => 0.0,
        };
        let fits = stepped <= 1e-6 && parameters <= rounding + 1e-6;
        wrong += usize::from(!fits);
        let (optimizer, sort) = (line["optimizer"].as_str().unwrap(), line["sort"].as_str().unwrap());
        let mark = if fits { "" } else { "  !" };
        writeln!(table, "{optimizer:<9} {dtype:<5} {sort:<8} {stepped:<9.1e} {parameters:.1e}{mark}")
            .unwrap();
    }
    println!("{table}");
    assert_eq!(wrong, 0, "\n{table}");
}

/// Running statistics move in a training step, inference uses them, a step that fails leaves them, and a state carries
/// them.
pub fn batch_norm_agrees_with_pytorch<L: Learner>() {
    let sgd = Optimizer::sgd(Sgd::default().learning_rate(0.1));
    let new = || Alone::<L>::new(Block::of("normed", Normed).unwrap().with_optimizer(sgd.clone()).unwrap());
    let mut block = new();
    let mode = |of| HostTensor::zeros(DType::F32, &[of, 1]).unwrap();
    let untouched = block.state();
    assert_eq!(numbers(&block.forward(&[noise(&[2, 3, 2], 0)]).unwrap()[1]), [0.0; 2], "inference");
    for step in 0..3 {
        let poison = HostTensor::from_f32(&[5, 3, 2], &[f32::NAN; 30]).unwrap();
        let before = block.state();
        block.backward(&[noise(&[5, 3, 2], 60)], &[poison, mode(5)]).unwrap_err();
        assert_eq!(block.state(), before, "a step that is not taken leaves the statistics");
        block.backward(&[noise(&[5, 3, 2], step)], &[noise(&[5, 3, 2], 100 + step), mode(5)]).unwrap();
    }
    let expected = &expected()["batch_norm"];
    let state = block.state();
    assert_ne!(state, untouched);
    for (name, values) in expected["state"].as_object().unwrap() {
        let got = wide_numbers(&state.parameters[&format!("norm.{name}")]);
        assert!(distance(&got, &numbers_of(values)) < 1e-6, "{name}: {got:?}");
    }
    assert!(!state.optimizer.keys().any(|name| name.contains("running")), "statistics are not stepped");
    let inference = numbers_of(&expected["inference"]);
    let mut restored = new();
    restored.block.restore(&state, skep_runtime_core::Fit::Exact).unwrap();
    for block in [&mut block, &mut restored] {
        let outputs = block.forward(&[noise(&[2, 3, 2], 50)]).unwrap();
        assert!(distance(&wide_numbers(&outputs[0]), &inference) < 1e-6);
    }
}
