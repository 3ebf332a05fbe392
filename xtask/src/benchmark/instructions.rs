//! The guard against work that creeps in: instructions per task, counted by callgrind, beside those that are
//! stored in the repository. Instructions, because time differs from machine to machine and hour to hour.

use crate::error::Error;
use crate::machine::process::{cargo, output, root, run, target};
use crate::report::summary::{Summary, WORKSPACE};
use crate::report::table::table;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How much a count may differ from the stored one. Compilers and allocators differ by less, and a forgotten
/// copy of a task costs more.
const TOLERANCE: f64 = 0.05;

/// One piece of work, run with two numbers of tasks per pool: the difference leaves out starting and stopping.
struct Scenario {
    name: &'static str,
    pools: u64,
    tasks: [u64; 2],
}

const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "lone", pools: 1, tasks: [2000, 4000] },
    Scenario { name: "batched", pools: 1, tasks: [2048, 4096] },
    Scenario { name: "choice", pools: 1000, tasks: [10, 50] },
];

/// By scenario.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The file with the stored counts, from the workspace's folder.
pub(crate) const STORED: &str = "tests/counts/counts.json";

/// Reads the file's text.
pub(crate) fn read(text: &str) -> Result<Counts, serde_json::Error> {
    serde_json::from_str(text)
}

/// Compares the counts with the stored ones, or stores them.
pub(crate) fn check(store: bool, summary: &mut Summary) {
    let has_valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !has_valgrind.is_ok_and(|status| status.success()) {
        return summary.skip(WORKSPACE, "counts", "no valgrind: install the system's valgrind package");
    }
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return summary.skip(WORKSPACE, "counts", "the stored counts are of Linux on x86-64");
    }
    summary.run(WORKSPACE, "counts", || {
        let counts = count_all()?;
        if store {
            let file = root().join(STORED);
            let text = serde_json::to_string_pretty(&counts).unwrap_or_default() + "\n";
            return fs::write(&file, text).map_err(Error::file("write", &file));
        }
        let stored = stored()?;
        print!("\n{}", lines(&stored, &counts));
        verdict(&stored, &counts)
    });
}

fn stored() -> Result<Counts, Error> {
    let file = root().join(STORED);
    let text = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
    read(&text).map_err(|source| Error::Json { path: file, source })
}

/// Builds the program of `tests/counts`, optimised, and returns its path.
pub(crate) fn build() -> Result<PathBuf, Error> {
    run(cargo("build").args(["--release", "--package", "skep-counts"]))?;
    Ok(target()?.join("release").join("skep-counts").with_extension(env::consts::EXE_EXTENSION))
}

fn count_all() -> Result<Counts, Error> {
    let target = target()?;
    let program = build()?;
    let count = |scenario: &Scenario| {
        let [few, many] = scenario.tasks;
        let [less, more] = [few, many].map(|tasks| instructions(&program, scenario.name, tasks, &target));
        Ok((scenario.name.to_owned(), more?.saturating_sub(less?) / ((many - few) * scenario.pools)))
    };
    SCENARIOS.iter().map(count).collect()
}

/// Instructions of one run.
fn instructions(program: &Path, scenario: &str, tasks: u64, folder: &Path) -> Result<u64, Error> {
    let file = folder.join("callgrind.out");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", file.display()));
    command.arg(program).arg(scenario).arg(tasks.to_string());
    output(&mut command)?;
    let text = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
    total(&text).ok_or_else(|| Error::Content { path: file, reason: "no line with the totals".to_owned() })
}

/// The instructions that a file of callgrind's adds up to.
fn total(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("totals:")?.trim().parse().ok())
}

fn change(stored: u64, got: u64) -> f64 {
    got as f64 / stored.max(1) as f64 - 1.0
}

fn lines(stored: &Counts, counts: &Counts) -> String {
    let head = ["instructions per task", "stored", "now", "change"].map(str::to_owned);
    let rows = counts.iter().map(|(name, got)| {
        let before = stored.get(name).copied().unwrap_or_default();
        [name.clone(), before.to_string(), got.to_string(), format!("{:+.1} %", 100.0 * change(before, *got))]
    });
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), &[false, true, true, true])
}

/// Fewer instructions are no failure, but the stored counts are to follow, or the next step up is not seen.
fn verdict(stored: &Counts, counts: &Counts) -> Result<(), Error> {
    for (name, got) in counts {
        let before = stored.get(name).copied().unwrap_or_default();
        if change(before, *got).abs() > TOLERANCE {
            return Err(Error::Counts { name: name.clone(), got: *got, stored: before });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(lone: u64) -> Counts {
        Counts::from([("lone".to_owned(), lone)])
    }

    #[test]
    fn totals_are_read_from_callgrinds_file() {
        assert_eq!(total("events: Ir\nsummary: 5\n\ntotals: 123456\n"), Some(123_456));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_count_may_differ_a_little() {
        verdict(&counts(1000), &counts(1049)).unwrap();
        verdict(&counts(1000), &counts(951)).unwrap();
        let error = verdict(&counts(1000), &counts(1051)).unwrap_err().to_string();
        assert!(error.starts_with("lone takes 1051 instructions per task, 1000 are stored"), "{error}");
        assert!(verdict(&counts(1000), &counts(949)).is_err());
        assert!(verdict(&Counts::new(), &counts(1000)).is_err());
    }

    #[test]
    fn every_scenario_has_a_stored_count() {
        let stored = stored().unwrap();
        let names: Vec<_> = stored.keys().map(String::as_str).collect();
        let mut expected = SCENARIOS.map(|scenario| scenario.name);
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
