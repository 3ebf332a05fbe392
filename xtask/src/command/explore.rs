//! `cargo xtask explore`: looking for what tests meet by chance at most, interleavings of the threads and wrong
//! uses of memory.

use crate::error::Error;
use crate::machine::process::{cargo, run, target};
use crate::report::summary::{Summary, WORKSPACE};
use clap::Args;
use std::env;
use std::num::NonZeroU32;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Explore {
    /// Only programs whose name contains this: `devices` or `runtime::an_abort`. Each runs as many schedules as it would
    /// among all
    #[arg(conflicts_with = "valgrind")]
    program: Option<String>,
    /// Schedules, over all programs
    #[arg(long, value_name = "N", default_value = "1000000")]
    schedules: NonZeroU32,
    /// Instead, run the tests under valgrind's memcheck
    #[arg(long, conflicts_with = "schedules")]
    valgrind: bool,
}

impl Explore {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        if self.valgrind { memcheck() } else { interleavings(self.schedules, self.program.as_deref()) }
            .map(|()| ExitCode::SUCCESS)
    }
}

/// As many as leave CI some time for the rest.
pub(crate) fn some_interleavings(summary: &mut Summary) {
    const SCHEDULES: NonZeroU32 = NonZeroU32::new(20_000).expect("it is not zero");
    summary.run(WORKSPACE, "explore", || interleavings(SCHEDULES, None));
}

/// Runs `skep-explore`, in which a scheduler has every thread in its hands, with as many schedules over all of
/// its programs. A build with its flag shares nothing with others, so it has a folder of its own.
fn interleavings(schedules: NonZeroU32, program: Option<&str>) -> Result<(), Error> {
    let flags = [env::var("RUSTFLAGS").unwrap_or_default(), "--cfg shuttle".to_owned()].join(" ");
    run(cargo("test")
        .args(["--release", "--package", "skep-explore", "--lib", "--target-dir"])
        .arg(target()?.join("explore"))
        .args(["--", "--nocapture"])
        .args(program)
        .env("RUSTFLAGS", flags.trim())
        .env("SKEP_SCHEDULES", schedules.to_string()))
}

/// Runs the suite on the fake device and the unit tests beside it under valgrind's memcheck: no wrong access,
/// nothing definitely lost. Its tools for threads, helgrind and DRD, are of no use here: they do not know the
/// locks and parking of Rust's standard library, and report every one of them.
fn memcheck() -> Result<(), Error> {
    let tool = [
        "valgrind",
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--show-leak-kinds=definite",
    ];
    let runner = format!("target.'cfg(all())'.runner={tool:?}");
    run(cargo("test")
        .args(["--config", &runner])
        .args(["--package", "skep-runtime-core", "--package", "skep-pool", "--package", "skep-tests"])
        .args(["--no-default-features", "--features", "skep-runtime-core/testing", "--lib", "--test", "fake"])
        // Hundreds of thousands of tasks are too many at a fiftieth of the speed.
        .args(["--", "--skip", "stress::"]))
}
