//! Blocks of an application's own layers that take tasks laid end to end, and are trained.

use crate::{counted, values};
use skep_backend_candle::candle_core::{DType as CandleDType, Device as Place};
use skep_backend_candle::candle_nn::Init;
use skep_backend_candle::prelude::*;
use skep_backend_candle::runtime::{DType, Dim, OfRows};

/// `y = x · weight`, `x` `[batch, n, 2]` laid end to end, and a weight of 3.
fn block() -> CandleBlock {
    let schema = |name: &str| {
        let dims = [Dim::Batch, Dim::free("n", 8), Dim::Fixed(2)];
        Schema::new(vec![TensorSpec::new(name, DType::F32, dims)]).unwrap()
    };
    let block = CandleBlock::new("laid", schema("x").ragged("offsets").unwrap(), |vb| {
        let weight = vb.get_with_hints(1, "weight", Init::Const(3.0))?;
        Ok(Box::new(move |inputs: &[Tensor]| {
            assert_eq!((inputs.len(), inputs[1].dtype()), (2, CandleDType::I64), "the offsets are the last");
            Ok(vec![inputs[0].broadcast_mul(&weight)?])
        }))
    });
    let block = block.with_outputs(schema("y"));
    let mut block = block.with_optimizer(Optimizer::sgd(Sgd::default().learning_rate(0.125))).unwrap();
    block.load(&CandleDevice::cpu()).unwrap();
    block
}

#[test]
fn offsets_have_no_gradient() {
    let mut block = block();
    let inputs = [counted(&[5, 2]), Tensor::new(vec![0_i64, 3, 5], &Place::Cpu).unwrap()];
    let ones = inputs[0].ones_like().unwrap();
    let gradients = block.backward(&inputs, &[ones]).unwrap();
    assert_eq!(gradients.iter().map(values).collect::<Vec<_>>(), [vec![3.0; 10]]);
    let weight = block.state().unwrap().parameters["weight"].to_f32().unwrap();
    assert_eq!(weight, [3.0 - 0.125 * 45.0], "it has taken a step");
}

/// What stands along dim 0 are elements, which are no rows of anybody's.
#[test]
fn a_step_that_cannot_be_taken_is_nobodys_fault() {
    let mut block = block();
    let inputs = [counted(&[5, 2]), Tensor::new(vec![0_i64, 3, 5], &Place::Cpu).unwrap()];
    let mut numbers = vec![1.0_f32; 10];
    numbers[7] = f32::INFINITY;
    let gradient = Tensor::from_vec(numbers, (5, 2), &Place::Cpu).unwrap();
    let error = block.backward(&inputs, &[gradient]).unwrap_err();
    assert!(error.downcast_ref::<OfRows>().is_none(), "{error}");
    assert_eq!(block.state().unwrap().parameters["weight"].to_f32().unwrap(), [3.0], "it is as it was");
}
