//! How the cost of one operation grows with what waits.

use crate::benchmark::instructions::build;
use crate::error::Error;
use crate::machine::process::run;
use std::process::Command;

/// Builds the program that measures it, and lets it print its table.
pub(crate) fn measure() -> Result<(), Error> {
    run(Command::new(build()?).arg("growth"))
}
