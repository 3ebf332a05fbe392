//! What a pass leaves behind.

use crate::{loaded, noise, values};
use skep_backend_tch::blocks::{Activation, Ffn, Nop};
use skep_backend_tch::prelude::*;
use skep_backend_tch::runtime::DType;
use skep_backend_tch::runtime::sync::guarded;
use skep_backend_tch::tch::{self, TchError};

#[test]
fn inference_leaves_no_graph_behind() {
    let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Relu };
    let mut block = loaded(TchBlock::of("ffn", ffn).unwrap());
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
    let mut block = loaded(TchBlock::of("nop", Nop { size: 2 }).unwrap());
    let gradients = block.backward(&[noise(&[1, 2], 1)], &[noise(&[1, 2], 2)]).unwrap();
    assert_eq!(values(&gradients[0]), values(&noise(&[1, 2], 2)));
}
