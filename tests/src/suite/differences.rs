//! Gradients that differences of the outputs do not agree with are refused by name.

use crate::kit::{Alone, CutOff, Derived, Noisy, Normed, noise};
use crate::subject::Learner;
use skep_toolkit::blocks::{Activation, Ffn, Spec, Transformer};
use skep_toolkit::{Block, BlockError, Computes, Optimizer, Sgd};

fn sgd(rate: f64) -> Optimizer {
    Optimizer::sgd(Sgd::default().learning_rate(rate))
}

/// By their names, when that is asked for, also if a part of them arrives by another way; and nothing is stepped. Blocks
/// whose gradients are right are trained as without being asked.
pub fn gradients_that_are_cut_off_are_named<L: Learner>() {
    let x = noise(&[3, 4], 7);
    let block = || Block::of("cut_off", CutOff).unwrap();
    let mut checked = Alone::<L>::new(block().with_optimizer(sgd(0.1)).unwrap().with_checked_gradients());
    let before = checked.state();
    for _ in 0..2 {
        let error = checked.backward(std::slice::from_ref(&x), std::slice::from_ref(&x)).unwrap_err();
        match error.downcast_ref() {
            Some(BlockError::OtherGradients { tensors, .. }) => {
                assert_eq!(tensors, &["input x", "w"], "{error}");
            }
            _ => panic!("{error}"),
        }
        assert_eq!(checked.state(), before);
    }
    let mut unchecked = Alone::<L>::new(block().with_optimizer(sgd(0.1)).unwrap());
    unchecked.backward(std::slice::from_ref(&x), std::slice::from_ref(&x)).unwrap();
    let mut fixed = Alone::<L>::new(block().with_checked_gradients());
    let error = fixed.backward(std::slice::from_ref(&x), std::slice::from_ref(&x)).unwrap_err();
    assert!(error.to_string().starts_with("gradients of `input x` are not those"), "{error}");

    // What is drawn and what runs along are part of a step, and not of the check before it.
    right::<L, _>(&Noisy, &[3, 4], &[&[3, 4]]);
    right::<L, _>(&Normed, &[3, 3, 2], &[&[3, 3, 2], &[3, 1]]);
    right::<L, _>(&Derived, &[3, 4], &[&[3, 4]]);
    for activation in [Activation::Gelu, Activation::Relu] {
        right::<L, _>(&Ffn { input: 4, hidden: 8, output: 3, activation }, &[3, 4], &[&[3, 3]]);
        let transformer = Transformer { size: 4, heads: 2, hidden: 8, max_positions: 3, activation };
        right::<L, _>(&transformer, &[3, 3, 4], &[&[3, 3, 4]]);
    }
}

/// A block whose gradients agree with differences is stepped as one that was not checked.
fn right<L: Learner, S: Spec + Clone>(spec: &S, x: &[usize], outputs: &[&[usize]])
where
    L::Library: Computes<S>,
{
    let x = noise(x, 7);
    let gradients: Vec<_> = outputs.iter().map(|dims| noise(dims, 8)).collect();
    let block = || Block::of(S::KIND, spec.clone()).unwrap().with_seed(3).with_optimizer(sgd(0.1)).unwrap();
    let mut checked = Alone::<L>::new(block().with_checked_gradients());
    let mut unchecked = Alone::<L>::new(block());
    let before = checked.state();
    for _ in 0..2 {
        let back = [&mut checked, &mut unchecked]
            .map(|block| block.backward(std::slice::from_ref(&x), &gradients).unwrap());
        assert_eq!(back[0], back[1], "{}", S::KIND);
    }
    assert_eq!(checked.state(), unchecked.state(), "{}", S::KIND);
    assert_ne!(checked.state(), before, "{}", S::KIND);
}
