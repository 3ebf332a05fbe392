//! Lets an urgent caller overtake background work, and an impatient one give up.
//!
//! A device that is shared is busy most of the time, so the order matters: the lowest priority value runs
//! first, across all pools. A deadline answers a task whose result would come too late, and spares the run.
//!
//! `cargo run -p skep-backend-ort --example priorities_and_deadlines`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use skep::blocks::NopDelay;
use skep::prelude::*;
use skep_backend_ort as skep;
use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    // A slow model: 50 ms for each batch, and one row to a batch, so that there is something to overtake.
    let nop = NopDelay { size: 1, delay: Duration::from_millis(50) };
    let slow = OrtBlock::of("slow", nop)?;
    let options = PoolOptions::default().max_rows(1);

    // With the default of 1, one batch more would be on its way to the device already.
    let mut builder = RuntimeBuilder::new(OrtDevice::cpu()?).prefetch(0);
    let slow = builder.serve(slow, ServeOptions::forward(options))?;
    let runtime = builder.start()?;

    let device = runtime.handle().device();
    let request = || -> Result<Request<OrtTensor>, Box<dyn Error>> {
        Ok(Request::new(vec![device.from_host(&HostTensor::from_f32(&[1, 1], &[1.0])?)?]))
    };
    let mut requests = Vec::new();
    for part in 1..=6 {
        requests.push((format!("background, part {part} of 6"), request()?.priority(Priority::BACKGROUND)));
    }
    // Submitted last. The first part of the background work runs by then, and is not interrupted.
    requests.push(("within 20 ms or never".to_owned(), request()?.deadline(Duration::from_millis(20))));
    requests.push(("urgent".to_owned(), request()?.priority(Priority::URGENT)));

    let start = Instant::now();
    thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        for (caller, request) in requests {
            let ticket = slow.forward.submit(request)?;
            scope.spawn(move || {
                let answer = ticket.wait().map_or_else(|error| error.to_string(), |_| "answered".to_owned());
                println!("after {:>3} ms  {caller}: {answer}", start.elapsed().as_millis());
            });
        }
        Ok(())
    })?;
    runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))?;
    Ok(())
}
