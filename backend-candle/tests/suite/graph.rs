//! What a pass leaves behind.

use crate::counted;
use skep_backend_candle::blocks::{Activation, Ffn};
use skep_backend_candle::prelude::*;

#[test]
fn inference_leaves_no_graph_behind() {
    let ffn = Ffn { input: 2, hidden: 3, output: 2, activation: Activation::Relu };
    let mut block = CandleBlock::of("ffn", ffn).unwrap();
    block.load(&CandleDevice::cpu()).unwrap();
    assert!(!block.forward(&[counted(&[1, 2])]).unwrap()[0].track_op());
    let gradients = block.backward(&[counted(&[1, 2])], &[counted(&[1, 2])]).unwrap();
    assert!(!gradients[0].track_op());
}
