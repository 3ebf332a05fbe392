//! Gradients beside central differences, and what a backward pass leaves behind.

use crate::{assert_close, copies, dims, ids, loaded, noise, tensor, values};
use skep_backend_tch::blocks::{Activation, DetDropout, Ffn, Nop, NopDelay, Transformer};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::sync::guarded;
use skep_backend_tch::tch::{self, Kind, TchError};
use skep_backend_tch::{BlockError, StepError};
use std::slice::from_ref;
use std::time::Duration;

/// `sum(outputs * weights)` in f64, so that the difference of two of them keeps its digits.
fn weighed(block: &mut TchBlock, inputs: &[Tensor], weights: &Tensor) -> f64 {
    let outputs = block.forward(inputs).unwrap();
    let pairs = values(&outputs[0]).into_iter().zip(values(weights));
    pairs.map(|(y, w)| f64::from(y) * f64::from(w)).sum()
}

/// The central difference for each of some elements of `at`, which `put` writes back.
fn check(got: &[f32], at: &Tensor, mut loss_at: impl FnMut(Tensor) -> f64) {
    const STEP: f32 = 5e-3;
    let start = values(at);
    // Every third element keeps large tensors quick, and meets every row and column.
    for i in (0..start.len()).step_by(3) {
        let moved = |by: f32| {
            let mut moved = start.clone();
            moved[i] += by;
            tensor(&dims(at), &moved)
        };
        let difference = (loss_at(moved(STEP)) - loss_at(moved(-STEP))) / f64::from(2.0 * STEP);
        let error = (f64::from(got[i]) - difference).abs();
        assert!(error <= 2e-3 + 5e-3 * difference.abs(), "element {i} is {}, expected {difference}", got[i]);
    }
}

/// Compares the gradients of all inputs and, through one step of gradient descent, of all parameters.
fn check_block(make: impl Fn() -> TchBlock, inputs: &[Tensor], outputs: &[usize]) {
    let weights = noise(outputs, 99);
    let mut block = loaded(make());
    let of_inputs = block.backward(inputs, from_ref(&weights)).unwrap();
    for (i, gradient) in of_inputs.iter().enumerate() {
        assert_eq!(gradient.size(), inputs[i].size());
        check(&values(gradient), &inputs[i], |moved| {
            let mut inputs = copies(inputs);
            inputs[i] = moved;
            weighed(&mut block, &inputs, &weights)
        });
    }

    // With a learning rate of 1, the step is the gradient.
    let device = TchDevice::cpu();
    let before = block.state().unwrap();
    let sgd = Optimizer::sgd(Sgd { learning_rate: 1.0, ..Sgd::default() });
    let mut stepped = loaded(make().with_optimizer(sgd));
    stepped.backward(inputs, from_ref(&weights)).unwrap();
    let after = stepped.state().unwrap();
    for (name, value) in &before.parameters {
        let value = device.from_host(value).unwrap();
        let moved = device.from_host(&after.parameters[name]).unwrap();
        let gradient = values(&value.f_sub(&moved).unwrap());
        check(&gradient, &value, |moved| {
            let mut state = before.clone();
            state.parameters.insert(name.clone(), device.to_host(&moved).unwrap());
            block.restore(&state).unwrap();
            weighed(&mut block, inputs, &weights)
        });
        block.restore(&before).unwrap();
    }
}

#[test]
fn ffn() {
    let ffn = Ffn { input: 5, hidden: 7, output: 3, activation: Activation::Gelu };
    check_block(|| ffn.block("ffn").unwrap(), &[noise(&[4, 5], 1)], &[4, 3]);
}

#[test]
fn transformer() {
    let layer = Transformer { size: 8, heads: 2, hidden: 12, max_positions: 6, activation: Activation::Gelu };
    check_block(|| layer.block("layer").unwrap(), &[noise(&[2, 5, 8], 1)], &[2, 5, 8]);
}

#[test]
fn det_dropout() {
    let block = DetDropout { input: 4, hidden: 6, output: 3, probability: 0.25 };
    let mask = noise(&[5, 6], 2).f_ge(-0.5).unwrap().f_to_kind(Kind::Float);
    check_block(|| block.block("dropout").unwrap(), &[noise(&[5, 4], 1), mask.unwrap()], &[5, 3]);
}

#[test]
fn nop_passes_inputs_and_gradients_on() {
    let x = noise(&[2, 3], 1);
    let gradient = noise(&[2, 3], 2);
    for block in [
        Nop { size: 3 }.block("nop").unwrap(),
        NopDelay { size: 3, delay: Duration::from_micros(1) }.block("nop_delay").unwrap(),
    ] {
        let mut block = loaded(block);
        assert_eq!(values(&block.forward(from_ref(&x)).unwrap()[0]), values(&x));
        assert_eq!(values(&block.backward(from_ref(&x), from_ref(&gradient)).unwrap()[0]), values(&gradient));
    }
}

#[test]
fn dropped_features_do_not_reach_the_output() {
    let mut block =
        loaded(DetDropout { input: 4, hidden: 6, output: 3, probability: 0.5 }.block("dropout").unwrap());
    let nothing = tensor(&[2, 6], &[0.0; 12]);
    let outputs = block.forward(&[noise(&[2, 4], 1), nothing]).unwrap();
    let bias = &block.state().unwrap().parameters["fc2.bias"].to_f32().unwrap();
    assert_close(&values(&outputs[0]), &[bias.as_slice(), bias].concat(), 0.0);
}

#[test]
fn a_batch_gives_the_gradients_of_its_rows_alone() {
    let layer = Transformer { size: 8, heads: 4, hidden: 16, max_positions: 6, activation: Activation::Relu };
    let mut block = loaded(layer.block("layer").unwrap());
    let (x, gradient) = (noise(&[3, 4, 8], 1), noise(&[3, 4, 8], 2));
    let together = block.backward(from_ref(&x), from_ref(&gradient)).unwrap();
    let outputs = block.forward(from_ref(&x)).unwrap();
    for row in 0..3 {
        let alone = |t: &Tensor| t.f_narrow(0, row, 1).unwrap();
        let gradients = block.backward(&[alone(&x)], &[alone(&gradient)]).unwrap();
        assert_close(&values(&gradients[0]), &values(&alone(&together[0])), 1e-5);
        let output = block.forward(&[alone(&x)]).unwrap();
        assert_close(&values(&output[0]), &values(&alone(&outputs[0])), 1e-5);
    }
}

#[test]
fn inference_leaves_no_graph_behind() {
    let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Relu };
    let mut block = loaded(ffn.block("ffn").unwrap());
    assert!(!block.forward(&[noise(&[1, 2], 1)]).unwrap()[0].requires_grad());
    let gradients = block.backward(&[noise(&[1, 2], 1)], &[noise(&[1, 2], 2)]).unwrap();
    assert!(!gradients[0].requires_grad());
}

#[test]
fn a_panic_in_a_block_leaves_the_thread_as_it_was() {
    let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[2])]).unwrap();
    let mut block = loaded(TchBlock::new("panics", inputs, |_| {
        Ok(Box::new(|_: &[Tensor]| -> Result<Vec<Tensor>, TchError> { panic!("on purpose") }))
    }));
    let records = || noise(&[1], 1).f_set_requires_grad(true).unwrap().f_neg().unwrap().requires_grad();
    assert!(records());
    assert!(guarded(|| block.forward(&[noise(&[1, 2], 1)])).is_err());
    assert!(records());
    // A thread that records nothing, as an application may have it, trains all the same.
    let _no_grad = tch::no_grad_guard();
    assert!(guarded(|| block.backward(&[noise(&[1, 2], 1)], &[noise(&[1, 2], 1)])).is_err());
    assert!(!records());
    let mut block = loaded(Nop { size: 2 }.block("nop").unwrap());
    let gradients = block.backward(&[noise(&[1, 2], 1)], &[noise(&[1, 2], 2)]).unwrap();
    assert_eq!(values(&gradients[0]), values(&noise(&[1, 2], 2)));
}

#[test]
fn without_an_optimizer_nothing_changes() {
    let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Gelu };
    let mut block = loaded(ffn.block("ffn").unwrap());
    let before = block.state().unwrap();
    let first = block.backward(&[noise(&[4, 2], 1)], &[noise(&[4, 2], 2)]).unwrap();
    let second = block.backward(&[noise(&[4, 2], 1)], &[noise(&[4, 2], 2)]).unwrap();
    assert_eq!(values(&first[0]), values(&second[0]));
    assert_eq!(block.state().unwrap(), before);
}

#[test]
fn inputs_without_a_gradient_get_zeros() {
    let inputs = Schema::new(vec![
        TensorSpec::rows("x", DType::F32, &[2]),
        TensorSpec::rows("unused", DType::F32, &[3]),
        TensorSpec::rows("ids", DType::U32, &[1]),
    ]);
    let mut block = loaded(TchBlock::new("odd", inputs.unwrap(), |_| {
        Ok(Box::new(|inputs: &[Tensor]| Ok(vec![inputs[0].f_mul_scalar(2.0)?, inputs[2].shallow_clone()])))
    }));
    let ids = || ids(&[1, 1], &[5]);
    let inputs = [noise(&[1, 2], 1), noise(&[1, 3], 2), ids()];
    let gradients = block.backward(&inputs, &[noise(&[1, 2], 3), ids()]).unwrap();
    assert_close(&values(&gradients[0]), &values(&noise(&[1, 2], 3).f_mul_scalar(2.0).unwrap()), 0.0);
    assert_eq!(values(&gradients[1]), [0.0; 3]);
    let zero = TchDevice::cpu().to_host(&gradients[2]).unwrap();
    assert_eq!(zero, HostTensor::zeros(DType::U32, &[1, 1]).unwrap());
}

#[test]
fn wrong_gradients_are_refused() {
    let mut block = loaded(Nop { size: 2 }.block("nop").unwrap());
    let x = noise(&[3, 2], 1);
    let error = block.backward(from_ref(&x), &[]).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&BlockError::WrongGradients { expected: 1, got: 0 }));
    let error = block.backward(&[x], &[noise(&[2, 2], 1)]).unwrap_err();
    assert_eq!(error.to_string(), "gradient 0 has dims [2, 2], expected [3, 2]");
}

#[test]
fn a_gradient_that_is_not_a_number_does_not_touch_the_parameters() {
    let ffn = Ffn { input: 2, hidden: 3, output: 1, activation: Activation::Gelu };
    let mut block = loaded(ffn.block("ffn").unwrap().with_optimizer(Optimizer::adamw(AdamW::default())));
    let before = block.state().unwrap();
    let poison = tensor(&[1, 1], &[f32::NAN]);
    let error = block.backward(&[noise(&[1, 2], 1)], &[poison]).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(StepError::NotFinite { .. })), "{error}");
    assert_eq!(block.state().unwrap(), before);
}

#[test]
fn a_block_that_is_not_loaded_says_so() {
    let mut block = Nop { size: 2 }.block("nop").unwrap();
    let error = block.forward(&[noise(&[1, 2], 1)]).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&BlockError::NotLoaded));
    assert!(block.state().is_err());
}

#[test]
fn a_block_for_inference_refuses_a_backward_pass() {
    let mut block = loaded(Nop { size: 2 }.block("nop").unwrap().inference_only());
    assert!(!block.info().backward);
    let error = block.backward(&[noise(&[1, 2], 1)], &[noise(&[1, 2], 1)]).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&BlockError::InferenceOnly));
}
