//! What a pass leaves behind.

use crate::counted;
use skep_backend_candle::blocks::{Activation, Ffn};
use skep_backend_candle::candle_nn;
use skep_backend_candle::prelude::*;
use skep_backend_candle::runtime::DType;

#[test]
fn inference_leaves_no_graph_behind() {
    let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Relu };
    let mut block = CandleBlock::of("ffn", ffn).unwrap();
    block.load(&CandleDevice::cpu()).unwrap();
    assert!(!block.forward(&[counted(&[1, 2])]).unwrap()[0].track_op());
    let gradients = block.backward(&[counted(&[1, 2])], &[counted(&[1, 2])]).unwrap();
    assert!(!gradients[0].track_op());
}

/// Gradients end at candle's fused operations, without an error of candle's.
#[test]
fn parameters_before_a_fused_operation_are_named() {
    let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[4])]).unwrap();
    let block = CandleBlock::new("fused", inputs, |vb| {
        let linear = candle_nn::linear(4, 4, vb.pp("linear"))?;
        let (scale, shift) = (vb.get(4, "norm.weight")?, vb.get(4, "norm.bias")?);
        Ok(Box::new(move |inputs: &[Tensor]| {
            let hidden = candle_nn::Module::forward(&linear, &inputs[0])?;
            Ok(vec![candle_nn::ops::layer_norm(&hidden, &scale, &shift, 1e-5)?])
        }))
    });
    let mut block = block.with_optimizer(Optimizer::adamw(AdamW::default())).unwrap();
    block.load(&CandleDevice::cpu()).unwrap();
    let error = block.backward(&[counted(&[2, 4])], &[counted(&[2, 4])]).unwrap_err().to_string();
    assert!(error.contains("`linear.bias`, `linear.weight`"), "{error}");
    assert!(error.contains("got no gradient; no parameter was stepped"), "{error}");
}

/// Beside a residual connection a part of the gradient arrives, so only differences tell.
#[test]
fn parameters_before_a_fused_operation_are_named_beside_a_residual_connection() {
    let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[4])]).unwrap();
    let block = CandleBlock::new("fused", inputs, |vb| {
        let linear = candle_nn::linear(4, 4, vb.pp("linear"))?;
        let norm = candle_nn::layer_norm(4, 1e-5, vb.pp("norm"))?;
        let last = candle_nn::linear(4, 4, vb.pp("last"))?;
        Ok(Box::new(move |inputs: &[Tensor]| {
            let hidden = candle_nn::Module::forward(&linear, &inputs[0])?;
            let normed = candle_nn::Module::forward(&norm, &hidden)?;
            Ok(vec![candle_nn::Module::forward(&last, &(hidden + normed)?)?])
        }))
    });
    let block = block.with_optimizer(Optimizer::adamw(AdamW::default())).unwrap();
    let mut block = block.allow_unused_parameters().with_checked_gradients();
    block.load(&CandleDevice::cpu()).unwrap();
    let error = block.backward(&[counted(&[2, 4])], &[counted(&[2, 4])]).unwrap_err().to_string();
    let expected =
        "gradients of `input x`, `linear.bias`, `linear.weight`, `norm.bias`, `norm.weight` are not those";
    assert!(error.starts_with(expected), "{error}");
}
