//! The state of a block by itself: its parts, their names, and whether they fit.

use crate::kit::{Alone, noise, numbers};
use crate::subject::Learner;
use skep_runtime_core::{Backend, BlockState, DType, Fit, HostTensor};
use skep_toolkit::blocks::{Activation, Ffn, Transformer};
use skep_toolkit::{AdamW, Block, Optimizer, RestoreError};
use std::slice::from_ref;

fn ffn<L: Learner>(hidden: usize, seed: u64) -> Alone<L> {
    let ffn = Ffn { input: 3, hidden, output: 2, activation: Activation::Gelu };
    let block = Block::of("ffn", ffn).unwrap().with_seed(seed);
    Alone::new(block.with_optimizer(Optimizer::adamw(AdamW::default())).unwrap())
}

fn train<L: Learner>(block: &mut Alone<L>) {
    block.backward(&[noise(&[4, 3], 1)], &[noise(&[4, 2], 2)]).unwrap();
}

/// The names that `PyTorch` gives them.
pub fn the_parts_of_a_state_have_plain_names<L: Learner>() {
    let state = ffn::<L>(5, 0).state();
    let names: Vec<&str> = state.parameters.keys().map(String::as_str).collect();
    assert_eq!(names, ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]);
    assert_eq!(state.parameters["fc1.weight"].dims(), [5, 3]);
    assert_eq!(state.optimizer.len(), 8);
    assert_eq!(state.optimizer["exp_avg_sq.fc2.weight"].dims(), [2, 5]);
    assert_eq!((&*state.scalars["optimizer"], &*state.scalars["step"]), ("adamw", "0"));
    assert_eq!(state.scalars["step.fc1.weight"], "0");

    let layer = Transformer { size: 4, heads: 2, hidden: 8, max_positions: 3, activation: Activation::Relu };
    let state = Alone::<L>::new(Block::of("layer", layer).unwrap()).state();
    let weights = state.parameters.keys().filter_map(|name| name.strip_suffix(".weight"));
    assert_eq!(
        weights.collect::<Vec<_>>(),
        [
            "linear1",
            "linear2",
            "norm1",
            "norm2",
            "self_attn.k_proj",
            "self_attn.out_proj",
            "self_attn.q_proj",
            "self_attn.v_proj"
        ]
    );
}

/// To the bit.
pub fn the_seed_decides_the_first_parameters<L: Learner>() {
    assert_eq!(ffn::<L>(5, 1).state(), ffn::<L>(5, 1).state());
    assert_ne!(ffn::<L>(5, 1).state(), ffn::<L>(5, 2).state());
}

/// Layers for inference and for training are the same ones.
pub fn inference_sees_restored_and_trained_parameters<L: Learner>() {
    let (mut one, mut two) = (ffn::<L>(5, 1), ffn::<L>(5, 2));
    let x = noise(&[1, 3], 1);
    train(&mut one);
    let trained = numbers(&one.forward(from_ref(&x)).unwrap()[0]);
    assert_ne!(trained, numbers(&ffn::<L>(5, 1).forward(from_ref(&x)).unwrap()[0]));
    two.block.restore(&one.state(), Fit::Exact).unwrap();
    assert_eq!(numbers(&two.forward(&[x]).unwrap()[0]), trained);
}

/// Parameters, what the optimizer remembers, and the number of steps.
pub fn missing_parts_are_named_and_keep_their_value<L: Learner>() {
    let mut source = ffn::<L>(5, 1);
    train(&mut source);
    let mut state = source.state();
    state.parameters.remove("fc1.bias");
    state.optimizer.remove("exp_avg.fc2.weight");
    state.scalars.clear();
    state.parameters.insert("fc3.bias".to_owned(), state.parameters["fc2.bias"].clone());

    let mut block = ffn::<L>(5, 2);
    let before = block.state();
    let exact = block.block.restore(&state, Fit::Exact).unwrap_err().to_string();
    let expected = r#"it lacks ["exp_avg.fc2.weight", "step", "fc1.bias"] and it has ["fc3.bias"], which the block lacks"#;
    assert_eq!(exact, format!("state does not fit exactly: {expected}"));
    assert_eq!(block.state(), before);
    let unmatched = block.block.restore(&state, Fit::Partial).unwrap();
    assert_eq!(unmatched.missing, ["exp_avg.fc2.weight", "step", "fc1.bias"]);
    assert_eq!(unmatched.unknown, ["fc3.bias"]);
    let after = block.state();
    assert_eq!(after.parameters["fc1.bias"], before.parameters["fc1.bias"]);
    assert_eq!(after.parameters["fc1.weight"], state.parameters["fc1.weight"]);
    assert_eq!(after.optimizer["exp_avg.fc1.weight"], state.optimizer["exp_avg.fc1.weight"]);
    assert_eq!(after.scalars["step"], "0");
}

/// Restores a state that one change made wrong, and looks that nothing was replaced.
fn refused<L: Learner>(spoil: impl FnOnce(&mut BlockState)) -> RestoreError {
    let mut source = ffn::<L>(5, 1);
    train(&mut source);
    let mut state = source.state();
    spoil(&mut state);
    let mut block = ffn::<L>(5, 2);
    let before = block.state();
    let error = block.block.restore(&state, Fit::Exact).unwrap_err();
    assert_eq!(block.state(), before);
    error.downcast_ref::<RestoreError>().unwrap().clone()
}

/// Not even the parts that would fit.
pub fn a_state_that_does_not_fit_replaces_nothing<L: Learner>() {
    let other = ffn::<L>(6, 1).state();
    let error = refused::<L>(|state| {
        state.parameters.insert("fc2.weight".to_owned(), other.parameters["fc2.weight"].clone());
    });
    assert_eq!(error.to_string(), "`fc2.weight` is f32 of dims [2, 6], expected f32 of dims [2, 5]");

    let error = refused::<L>(|state| {
        let name = "exp_avg.fc1.bias".to_owned();
        state.optimizer.insert(name, HostTensor::zeros(DType::F64, &[5]).unwrap());
    });
    assert_eq!(error.to_string(), "`exp_avg.fc1.bias` is f64 of dims [5], expected f32 of dims [5]");

    let error = refused::<L>(|state| {
        state.scalars.insert("step".to_owned(), "-1".to_owned());
    });
    assert_eq!(error.to_string(), "`step` is `-1`, expected a whole number");
}
