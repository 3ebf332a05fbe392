//! How the cost of one operation grows with what waits.

use crate::benchmark::comparison;
use crate::error::Error;
use crate::machine::process::{run, target};
use std::process::Command;

/// Builds the program that measures it, and lets it print its table.
pub(crate) fn measure() -> Result<(), Error> {
    let target = target()?.join("compare");
    let program = comparison::build(&target, "skep-growth", &["--no-default-features"])?;
    run(&mut Command::new(program))
}
