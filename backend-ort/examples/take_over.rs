//! Goes on after the loss of a device: another runtime takes the pools over.
//!
//! Drivers hang and devices fall off their bus. The callers of a lost device are answered with the reason, and
//! those who come next need not notice: they keep the pools that they have, now fed to another device.
//!
//! `cargo run -p skep-backend-ort --example take_over`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use skep::blocks::NopDelay;
use skep::prelude::*;
use skep::runtime::{Chain, Health};
use skep_backend_ort as skep;
use std::error::Error;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    // A device that hangs, here because its block sleeps. The limit should be far above the slowest batch.
    let nop = NopDelay { size: 1, delay: Duration::from_millis(600) };
    let hangs = OrtBlock::of("echo", nop)?;
    let mut builder = RuntimeBuilder::new(OrtDevice::cpu()?).batch_limit(Duration::from_millis(100));
    let echo = builder.serve(hangs, ServeOptions::default())?;
    let first = builder.start()?;

    let device = OrtDevice::cpu()?;
    let ask = || -> Result<Vec<f32>, Box<dyn Error>> {
        let x = device.from_host(&HostTensor::from_f32(&[1, 1], &[42.0])?)?;
        let outputs = echo.forward.submit(vec![x])?.wait()?;
        Ok(device.to_host(&outputs[0])?.to_f32().ok_or("outputs are not f32")?)
    };
    let start = Instant::now();
    match ask() {
        Ok(answer) => println!("the device works after all: it answers {answer:?}"),
        Err(error) => println!("after {} ms, no answer: {}", start.elapsed().as_millis(), Chain(&*error)),
    }

    // A service asks for its runtime's health from time to time, or hears of the loss as an observer.
    if let Health::Lost(_) = first.handle().health() {
        let mut builder = RuntimeBuilder::new(OrtDevice::cpu()?);
        // A new block: a real one would load its weights, or restore the last checkpoint.
        let nop = NopDelay { size: 1, delay: Duration::ZERO };
        let works = OrtBlock::of("echo", nop)?;
        builder.take_over(works, &echo)?;
        let second = builder.start()?;
        println!("another runtime has taken the pool over, which answers {:?}", ask()?);
        second.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
    }
    Ok(())
}
