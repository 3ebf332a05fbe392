//! Serves a block of one's own layers.
//!
//! The blocks that come with Skep are a start; a model of one's own is a closure that asks for its parameters
//! by name and returns the arithmetic. All else is the same: batching, training, checkpoints.
//!
//! `cargo run -p skep-backend-candle --example own_layers`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use skep::layers::linear;
use skep::prelude::*;
use skep::runtime::DType;
use skep_backend_candle as skep;
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    // Tasks are checked against this before they are queued, so the layers never see another shape.
    let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[3])])?;
    let block = CandleBlock::new("residual", inputs, |vb| {
        let inner = linear(3, 3, &vb.pp("inner"))?;
        let score = linear(3, 1, &vb.pp("score"))?;
        Ok(Box::new(move |inputs: &[Tensor]| {
            let x = &inputs[0];
            let y = (x + x.apply(&inner)?.tanh()?)?;
            let scores = y.apply(&score)?;
            Ok(vec![y, scores])
        }))
    });

    let mut builder = RuntimeBuilder::new(CandleDevice::cpu());
    let residual = builder.serve(block.with_seed(3), ServeOptions::default())?;
    let runtime = builder.start()?;

    // The schema of the outputs was not given: a dummy run has found it.
    let outputs = residual.info.outputs.as_ref().map_or(&[][..], Schema::tensors);
    println!("the block `{}` has the outputs:", residual.info.name);
    for output in outputs {
        let dims: Vec<String> = output.dims().iter().map(ToString::to_string).collect();
        println!("  {} [{}]", output.name(), dims.join(", "));
    }
    println!("and the parameters, by the names that they have in a checkpoint:");
    let state = runtime.handle().state("residual")?;
    state.parameters.iter().for_each(|(name, value)| println!("  {name} {:?}", value.dims()));

    let device = runtime.handle().device();
    let x = device.from_host(&HostTensor::from_f32(&[1, 3], &[0.5, -1.0, 2.0])?)?;
    let answer = residual.forward.submit(vec![x])?.wait()?;
    for (output, tensor) in outputs.iter().zip(&answer) {
        let values = device.to_host(tensor)?.to_f32().ok_or("outputs are not f32")?;
        println!("{} of [0.5, -1.0, 2.0] is {values:.3?}", output.name());
    }
    runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
    Ok(())
}
