//! Benchmarks: criterion runs them, and one table at the end shows them all.

use crate::combos::{Combination, Use};
use crate::error::Error;
use crate::estimates::{self, Estimate};
use crate::process::{run, target};
use crate::steps::workspace;
use crate::summary::{Summary, table};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Runs the benchmarks of each combination and prints what criterion measured.
///
/// # Errors
///
/// When the target folder is not known or criterion's files cannot be read; a benchmark that fails is a row
/// of the summary.
pub(crate) fn run_all(
    combinations: &[&Combination],
    quick: bool,
    filter: Option<&str>,
    summary: &mut Summary,
) -> Result<(), Error> {
    let mut report = Report::default();
    for combination in combinations {
        // The glob leaves out the libraries, whose unit tests would not understand criterion's arguments.
        if let Some(estimates) = measure(combination, "*", quick, filter, summary)? {
            report.add(combination, &estimates, &folder(&target()?, combination));
        }
    }
    print!("{report}");
    Ok(())
}

/// Runs the benchmarks of one combination whose program matches the glob. `None` where they cannot run.
///
/// # Errors
///
/// Those of [`run_all`].
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
    ran.then(|| estimates::read(&folder, start)).transpose()
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

/// One table of all that was measured, and where criterion's own report is.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<[String; 5]>,
    pages: Vec<PathBuf>,
}

impl Report {
    pub(crate) fn add(&mut self, combination: &Combination, estimates: &[Estimate], folder: &Path) {
        self.lines.extend(estimates.iter().map(|it| line(combination, it)));
        self.pages.extend(Some(folder.join("report").join("index.html")).filter(|page| page.is_file()));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lines.is_empty() {
            return Ok(());
        }
        let head = ["combination", "benchmark", "median", "±", "per second"].map(str::to_owned);
        let lines: Vec<_> = std::iter::once(&head).chain(&self.lines).cloned().collect();
        write!(f, "\n{}", table(&lines, &[false, false, true, true, true]))?;
        self.pages.iter().try_for_each(|page| writeln!(f, "report: {}", page.display()))
    }
}

fn line(combination: &Combination, estimate: &Estimate) -> [String; 5] {
    [
        combination.to_string(),
        estimate.name.clone(),
        time(estimate.median),
        time(estimate.spread),
        estimate.per_second.map_or_else(|| "-".to_owned(), rate),
    ]
}

/// Nanoseconds, in the unit that leaves one to three digits before the point.
pub(crate) fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// A number per second, with the prefix that leaves one to three digits before the point.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 1e3 => format!("{rate:.1}"),
        rate if rate < 1e6 => format!("{:.2} k", rate / 1e3),
        rate if rate < 1e9 => format!("{:.2} M", rate / 1e6),
        rate => format!("{:.2} G", rate / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_have_a_unit_that_fits() {
        assert_eq!(
            [0.5, 999.9, 5_500.0, 2.5e6, 61e9].map(time).join(" | "),
            "0.5 ns | 999.9 ns | 5.50 µs | 2.50 ms | 61.00 s"
        );
        assert_eq!([12.0, 2_100.0, 2.1e6, 3e9].map(rate).join(" | "), "12.0 | 2.10 k | 2.10 M | 3.00 G");
    }

    #[test]
    fn a_line_shows_a_dash_where_there_is_no_rate() {
        let estimate = Estimate { name: "a/b".to_owned(), median: 10.0, spread: 1.0, per_second: None };
        let line = line(&crate::combos::COMBINATIONS[0], &estimate);
        assert_eq!(line, ["candle cpu", "a/b", "10.0 ns", "1.0 ns", "-"]);
    }
}
