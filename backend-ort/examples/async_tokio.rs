//! Awaits 500 concurrent requests on one thread of tokio.
//!
//! A service has many callers and few threads. Submitting and waiting are futures that need no executor of
//! their own, so any will do; the device has its own threads, and no model runs on those of the executor.
//!
//! `cargo run -p skep-backend-ort --example async_tokio`
#![allow(clippy::print_stdout, reason = "printing is what this program is for")]

use skep::blocks::{Activation, Ffn};
use skep::pool::TaskPool;
use skep::prelude::*;
use skep::runtime::{BoxError, SubmitError};
use skep::stats::Stats;
use skep_backend_ort as skep;
use std::time::Duration;
use tokio::task::{JoinSet, spawn_blocking};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let stats = Stats::new();
    let mut builder = RuntimeBuilder::new(OrtDevice::cpu()?).observer(stats.observer());
    let ffn = Ffn { input: 8, hidden: 32, output: 1, activation: Activation::Relu };
    let scorer = builder.serve(OrtBlock::of("scorer", ffn)?, ServeOptions::default())?;
    let runtime = builder.start()?;

    let mut requests = JoinSet::new();
    for number in 0..500_u16 {
        let x = HostTensor::from_f32(&[1, 8], &[f32::from(number) / 500.0; 8])?;
        let x = runtime.handle().device().from_host(&x)?;
        requests.spawn(ask(scorer.forward.clone(), x));
    }
    while let Some(answer) = requests.join_next().await {
        answer??;
    }

    // A shutdown blocks while it drains, so it is not for a thread of the executor.
    spawn_blocking(move || runtime.shutdown(Shutdown::Drain, Duration::from_secs(5))).await??;
    let total = stats.snapshot().total;
    println!("{} of {} requests answered", total.succeeded, total.submitted);
    println!("in {} batches of {:.1} rows on average", total.batches, total.mean_batch_rows);
    Ok(())
}

async fn ask(pool: TaskPool<OrtDevice>, x: OrtTensor) -> Result<Vec<OrtTensor>, BoxError> {
    // Awaits room in the queue if it is full. A refusal would give the tensors back, which are not needed.
    let ticket = pool.submit_async(vec![x]).await.map_err(SubmitError::from)?;
    Ok(ticket.await?)
}
