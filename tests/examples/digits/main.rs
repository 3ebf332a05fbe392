//! Skep at work: one device serves a model that is being trained and asked at the same time.
//!
//! A mixture of experts learns handwritten digits. Its gate and its experts are blocks of one runtime. Around
//! them are two kinds of callers, each a thread that could as well be another machine:
//!
//! - **Trainers** ([`train`]) call the blocks forward, compute the loss themselves, and call them backward
//!   with the gradients. Each block steps its own parameters.
//! - **Urgent callers** ([`ask`]) classify held-out images meanwhile, through the same pools, at a higher
//!   priority and with a deadline. Some hang up before they are answered.
//!
//! Read [`mixture`] first: it makes the blocks and calls them. Then this file, from [`run`] on.
//!
//! ```text
//! cargo xtask demo
//! cargo xtask demo --backend tch
//! cargo run --release --example digits
//! cargo run --release --example digits -- --help
//! ```

mod arguments;
mod ask;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod mixture;
mod moving;
mod remote;
mod report;
mod rows;
mod train;
mod work;

use arguments::Arguments;
use clap::Parser;
use common::{BACKEND, BAD_INPUT, Result, device, skep};
use data::Split;
use mixture::Mixture;
use report::Report;
use skep::runtime::{RuntimeBuilder, Shutdown};
use skep::stats::Stats;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tracing_subscriber::filter::LevelFilter;
use work::{STOP_LIMIT, work};

/// A large batch's memory is given back and asked for again with every batch. The system's allocator may
/// return it to the operating system each time; this one keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code after a second Ctrl-C, as of a program that a shell sees interrupted.
const ABORTED: u8 = 130;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(LevelFilter::WARN).init();
    run(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(BAD_INPUT)
    })
}

/// Errors are those of the start. What goes wrong later is told after the summary.
fn run(arguments: &Arguments) -> Result<ExitCode> {
    // The handler only counts: what follows from it is decided where the work is watched.
    let interrupts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&interrupts);
    ctrlc::set_handler(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    })?;

    let split = Split::load()?;
    let stats = Stats::new();
    // The products are too small to be shared among threads, and the inputs too small to be gathered ahead:
    // that would only let an urgent task wait for one more batch.
    let builder = RuntimeBuilder::new(device(Some(1))?).prefetch(0);
    let mut builder = builder.observer(stats.observer());
    let mixture = Mixture::serve(&mut builder, arguments.experts, arguments.hidden, arguments.seed)?;
    let runtime = builder.start()?;
    eprintln!(
        "on {BACKEND}, {} trainers teach {} experts {} digits, {} urgent callers ask about {} others",
        arguments.trainers,
        arguments.experts,
        split.training.len(),
        arguments.callers,
        split.held_out.len(),
    );

    let outcome = work(runtime.handle(), &mixture, &split, arguments, &interrupts);
    let stopped = runtime.shutdown(Shutdown::Drain, STOP_LIMIT);

    let report = Report { outcome: &outcome, stats: &stats.snapshot(), held_out: split.held_out.len() };
    let mut stdout = std::io::stdout();
    if arguments.json {
        eprintln!("{}", report.to_text());
        writeln!(stdout, "{}", report.to_json())?;
    } else {
        writeln!(stdout, "{}", report.to_text())?;
    }

    let mut code = ExitCode::SUCCESS;
    if interrupts.load(Ordering::Relaxed) > 1 {
        code = ExitCode::from(ABORTED);
    }
    let lost = (!report.adds_up()).then(|| "tasks were lost, or answered twice: see the last line".into());
    for error in [outcome.failure, stopped.err().map(Into::into), lost].into_iter().flatten() {
        eprintln!("error: {error}");
        code = ExitCode::FAILURE;
    }
    Ok(code)
}
