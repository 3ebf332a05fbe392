//! Trains a block to compute "exclusive or", and prints the loss as it falls.
//!
//! A training step is two tasks: forward gives the outputs, of which the caller makes the gradient of the
//! loss; backward takes the inputs and that gradient, steps the optimizer, and gives the gradients of the
//! inputs. So a model can be spread over many blocks, and many callers can train one block at the same time.
//!
//! `cargo run -p skep-backend-tch --example training`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use skep::blocks::{Activation, Ffn};
use skep::prelude::*;
use skep_backend_tch as skep;
use std::error::Error;
use std::time::Duration;

const INPUTS: [f32; 8] = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
const TARGETS: [f32; 4] = [0.0, 1.0, 1.0, 0.0];

fn main() -> Result<(), Box<dyn Error>> {
    let ffn = Ffn { input: 2, hidden: 16, output: 1, activation: Activation::Gelu };
    let adamw = Optimizer::adamw(AdamW::default().learning_rate(0.03));
    let block = TchBlock::of("xor", ffn)?.with_seed(1).with_optimizer(adamw)?;

    let mut builder = RuntimeBuilder::new(TchDevice::cpu());
    let xor = builder.serve(block, ServeOptions::default())?;
    let backward = xor.backward.as_ref().ok_or("the block cannot be trained")?;
    let runtime = builder.start()?;
    let device = runtime.handle().device();

    let mut outputs = Vec::new();
    for step in 0..=100 {
        let x = || HostTensor::from_f32(&[4, 2], &INPUTS);
        let y = xor.forward.submit(vec![device.from_host(&x()?)?])?.wait()?;
        outputs = device.to_host(&y[0])?.to_f32().ok_or("outputs are not f32")?;

        // The loss is the mean of (y - target)², its gradient by each y is 2 (y - target) / 4.
        let errors: Vec<f32> = outputs.iter().zip(TARGETS).map(|(y, target)| y - target).collect();
        if step % 20 == 0 {
            let loss = errors.iter().map(|error| error * error).sum::<f32>() / 4.0;
            println!("step {step:>3}: loss {loss:.5}");
        }
        let gradient: Vec<f32> = errors.iter().map(|error| error / 2.0).collect();
        let gradient = device.from_host(&HostTensor::from_f32(&[4, 1], &gradient)?)?;
        backward.submit(vec![device.from_host(&x()?)?, gradient])?.wait()?;
    }
    for (x, y) in INPUTS.chunks(2).zip(&outputs) {
        println!("{} xor {} = {y:.2}", x[0], x[1]);
    }
    runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
    Ok(())
}
