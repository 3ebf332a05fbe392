//! One run of the benchmarks of one combination, and where criterion keeps what it measures.

use crate::benchmark::criterion::{self, Estimate};
use crate::combination::cargo::workspace;
use crate::combination::table::{Combination, Use};
use crate::error::Error;
use crate::machine::process::{run, target};
use crate::report::summary::Summary;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Runs the benchmarks of one combination whose program matches the glob. `None` where they cannot run.
///
/// # Errors
///
/// When the target folder is not known or criterion's files cannot be read; a benchmark that fails is a row
/// of the summary.
pub(crate) fn measure(
    combination: &Combination,
    programs: &str,
    quick: bool,
    filter: Option<&str>,
    summary: &mut Summary,
) -> Result<Option<Vec<Estimate>>, Error> {
    let folder = folder(&target()?, combination);
    let start = SystemTime::now();
    let ran = summary.step(combination, "bench", Use::Run, || {
        let mut command = workspace("bench", combination);
        command.args(["--no-fail-fast", "--bench", programs, "--"]);
        command.args(arguments(quick, filter)).env(HOME, &folder);
        run(&mut command)
    });
    ran.then(|| criterion::read(&folder, start)).transpose()
}

/// Where criterion puts what it measures.
pub(crate) const HOME: &str = "CRITERION_HOME";

/// A combination's own folder for it.
pub(crate) fn folder(root: &Path, combination: &Combination) -> PathBuf {
    root.join("criterion").join(combination.to_string().replace(' ', "-"))
}

/// Criterion's arguments.
pub(crate) fn arguments(quick: bool, filter: Option<&str>) -> impl Iterator<Item = &str> {
    quick.then_some("--quick").into_iter().chain(filter)
}
