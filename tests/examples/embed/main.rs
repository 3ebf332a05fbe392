//! Sentence embedding for many callers: tasks of different lengths that still share batches.
//!
//! Many threads embed one sentence at a time, as the requests of a server would. What makes them fast
//! together is the pool behind the model in [`embedder`]: it joins sentences of like length into one batch, and pads them
//! as the model wants it. A query is embedded in the middle of it all, and
//! waits for nobody because it is urgent. With `--check`, every vector is compared with that of the library that the
//! model was published with.
//!
//! Read [`embedder`] first, then this file, from [`Demo`] on.
//!
//! ```text
//! cargo xtask demo embed
//! cargo run --release --example embed -- --model-dir DIR --text FILE --query TEXT
//! ```

mod arguments;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod embedder;
mod report;
#[cfg(test)]
mod tests;
mod text;
mod work;

use arguments::Arguments;
use check::largest_difference;
use clap::Parser;
use common::{BAD_INPUT, DemoDevice, Result, device, skep};
use embedder::{Embedder, Settings};
use report::{Report, nearest};
use skep::models::Tokens;
use skep::runtime::{Chain, Device, RunningRuntime, RuntimeBuilder, Shutdown};
use skep::stats::Stats;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::filter::LevelFilter;
use work::work;

/// A large batch's memory is given back and asked for again with every batch. The system's allocator may
/// return it to the operating system each time; this one keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the runtime may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Exit code of a run that fails, or whose vectors are not those that others computed.
const FAILED: u8 = 1;

const NO_MODEL: &str = "--model-dir is missing: name a folder with a published text model, or run \
                        `cargo xtask demo embed`, which gets all-MiniLM-L6-v2";

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(LevelFilter::WARN).init();
    ExitCode::from(run(&Arguments::parse(), &mut std::io::stdout(), &mut std::io::stderr()))
}

/// Everything but the command line; gives the exit code.
fn run(arguments: &Arguments, stdout: &mut impl Write, stderr: &mut impl Write) -> u8 {
    let result = Demo::prepare(arguments).map_err(|error| (error, BAD_INPUT));
    let result = result.and_then(|demo| demo.run(arguments, stdout, stderr).map_err(|error| (error, FAILED)));
    result.unwrap_or_else(|(error, code)| {
        // Without a place to write to there is nobody to tell.
        writeln!(stderr, "error: {}", Chain(&*error)).ok();
        code
    })
}

/// Everything that is needed before the first sentence: what fails until then is wrong with arguments or
/// files.
struct Demo {
    sentences: Vec<String>,
    stats: Stats,
    embedder: Embedder,
    runtime: RunningRuntime<DemoDevice>,
}

impl Demo {
    fn prepare(arguments: &Arguments) -> Result<Self> {
        let directory = arguments.model_dir.as_deref().ok_or(NO_MODEL)?;
        let sentences = text::read(arguments.text.as_deref())?;
        let stats = Stats::new();
        // Gathering ids takes microseconds and a batch takes many milliseconds: gathering ahead would gain
        // nothing, and let an urgent sentence wait for one more batch.
        let builder = RuntimeBuilder::new(device(arguments.threads)?).prefetch(0);
        let mut builder = builder.observer(stats.observer());
        let settings = Settings {
            directory,
            precision: arguments.precision.parse()?,
            ignored_keys: &arguments.ignore,
            bucket: arguments.bucket,
            max_rows: arguments.max_rows,
            query: &arguments.query,
            prompt: arguments.prompt.as_deref(),
        };
        let embedder = Embedder::serve(&mut builder, &settings)?;
        let runtime = builder.start()?;
        Ok(Self { sentences, stats, embedder, runtime })
    }

    fn run(self, arguments: &Arguments, stdout: &mut impl Write, stderr: &mut impl Write) -> Result<u8> {
        let Self { sentences, stats, embedder, runtime } = self;
        let (count, callers) = (sentences.len(), arguments.callers);
        eprintln!("{callers} callers embed {count} sentences on {}", runtime.handle().device().name());
        let outcome = work(&embedder, &sentences, &arguments.query, callers)?;
        runtime.shutdown(Shutdown::Drain, STOP_LIMIT)?;

        let cut = outcome.sentences.iter().filter(|it| it.tokens.left_out > 0).count();
        if cut > 0 {
            let limit = embedder.model().tokens().map_or(0, Tokens::limit);
            writeln!(stderr, "warning: {cut} of {count} sentences were cut: the model takes {limit} tokens")?;
        }
        let check = || largest_difference(arguments.text.as_deref(), &outcome.sentences);
        let report = Report {
            outcome: &outcome,
            stats: &stats.snapshot(),
            query: &arguments.query,
            model: embedder.model(),
            nearest: nearest(&outcome, embedder.similarity(), &sentences, arguments.top),
            cut,
            difference: arguments.check.then(check).transpose()?,
        };
        if arguments.json {
            writeln!(stderr, "{}", report.to_text())?;
            writeln!(stdout, "{}", report.to_json())?;
        } else {
            writeln!(stdout, "{}", report.to_text())?;
        }
        Ok(if report.agrees() { 0 } else { FAILED })
    }
}
