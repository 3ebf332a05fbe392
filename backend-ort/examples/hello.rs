//! Serves one block, asks it once, and prints the answer.
//!
//! Callers do not run a model themselves: they hand rows to its pool, and the runtime joins the rows of all
//! who wait into one batch. A single caller uses it in the same way, and is the place to start.
//!
//! `cargo run -p skep-backend-ort --example hello`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use skep::blocks::{Activation, Ffn};
use skep::prelude::*;
use skep_backend_ort as skep;
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    // Its parameters are drawn from the seed; `with_weights` reads them from a file instead.
    let ffn = Ffn { input: 4, hidden: 16, output: 2, activation: Activation::Gelu };
    let block = OrtBlock::of("scorer", ffn)?.with_seed(7);

    let mut builder = RuntimeBuilder::new(OrtDevice::cpu()?);
    let scorer = builder.serve(block, ServeOptions::default())?;
    let runtime = builder.start()?;

    // Two rows of four numbers. The ticket is the claim to their answer: wait for it, await it, or drop it,
    // which cancels the task.
    let device = runtime.handle().device();
    let rows = [5.1, 3.5, 1.4, 0.2, 6.3, 2.9, 5.6, 1.8];
    let x = device.from_host(&HostTensor::from_f32(&[2, 4], &rows)?)?;
    let ticket = scorer.forward.submit(vec![x])?;
    let outputs = ticket.wait()?;

    let y = device.to_host(&outputs[0])?;
    let answers = y.to_f32().ok_or("scores are not f32")?;
    println!("asked with {} rows of 4 numbers, answered with {} answers for each:", y.dims()[0], y.dims()[1]);
    for (row, answers) in rows.chunks(4).zip(answers.chunks(2)) {
        println!("  {row:?} -> {answers:.3?}");
    }

    // Dropping the runtime would also end it, but without running what still waits.
    runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
    Ok(())
}
