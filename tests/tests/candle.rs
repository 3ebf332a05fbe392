//! The suite on candle.
#![cfg(feature = "candle")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use skep_backend_candle::blocks::{Activation, Ffn};
use skep_backend_candle::{AdamW, CandleDevice, Optimizer, Schedule, Sgd};
use skep_runtime_core::Backend;
use skep_tests::{Learner, Learning, Subject, conformance, training};

struct Candle;

impl Subject for Candle {
    type Device = CandleDevice;

    fn device() -> CandleDevice {
        CandleDevice::cpu()
    }
}

impl Learner for Candle {
    fn ffn(name: &str, seed: u64, learning: Learning) -> impl Backend<CandleDevice> {
        let ffn = Ffn { input: 4, hidden: 8, output: 3, activation: Activation::Gelu };
        let block = ffn.block(name).unwrap().with_seed(seed);
        match learning {
            Learning::Off => block,
            Learning::Sgd { rate } => {
                block.with_optimizer(Optimizer::sgd(Sgd { learning_rate: rate, ..Sgd::default() }))
            }
            Learning::AdamW => {
                let adamw = AdamW { learning_rate: 0.05, ..AdamW::default() };
                let schedule = Schedule::WarmupLinear { warmup: 4, total: 40 };
                block.with_optimizer(Optimizer::adamw(adamw).with_schedule(schedule).with_max_norm(1.0))
            }
        }
    }
}

conformance!(Candle);
training!(Candle);
