//! What was done, in one table at the end: a step that was skipped must be as visible as one that failed.

use crate::combination::need::Need;
use crate::combination::table::{Combination, Use};
use crate::error::Error;
use crate::report::table::table;
use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The subject of a step that does not depend on a combination.
pub(crate) const WORKSPACE: &str = "workspace";

/// The table, filled step by step.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    combination: String,
    step: String,
    outcome: Outcome,
    note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok(Duration),
    Failed(Duration),
    Skipped,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok(_) => "ok",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Summary {
    /// Runs a step of a combination, or skips it where it cannot run, and tells whether it ran. What the step
    /// needs and the machine lacks is got first; where it cannot be had, the step is skipped too.
    pub(crate) fn step(
        &mut self,
        combination: &Combination,
        step: &str,
        usage: Use,
        action: impl FnOnce() -> Result<(), Error>,
    ) -> bool {
        let mut obstacle = combination.obstacle(usage, Need::met).map(str::to_owned);
        let mut prepared = Ok(());
        if obstacle.is_none() {
            prepared = combination.prepare(usage);
            obstacle = prepared.as_ref().err().filter(|error| error.is_lack()).map(Error::told);
        }
        match &obstacle {
            Some(reason) => self.skip(combination, step, reason),
            None => self.run(combination, step, || prepared.and_then(|()| action())),
        }
        obstacle.is_none()
    }

    /// Runs a step and records how it went. `subject` is the table's first column.
    pub(crate) fn run(
        &mut self,
        subject: impl fmt::Display,
        step: &str,
        action: impl FnOnce() -> Result<(), Error>,
    ) {
        eprintln!("\n=== {subject}: {step}");
        let start = Instant::now();
        let result = action();
        let took = start.elapsed();
        let (outcome, note) = match result {
            Ok(()) => (Outcome::Ok(took), String::new()),
            Err(error) => (Outcome::Failed(took), error.told()),
        };
        self.push(subject, step, outcome, &note);
    }

    /// Records a step that cannot run here.
    pub(crate) fn skip(&mut self, subject: impl fmt::Display, step: &str, reason: &str) {
        self.push(subject, step, Outcome::Skipped, reason);
    }

    /// Prints the table.
    ///
    /// # Errors
    ///
    /// When a step failed, or was skipped although `strict`.
    pub(crate) fn end(&self, strict: bool) -> Result<ExitCode, Error> {
        print!("\n{self}");
        self.verdict(strict).map(|()| ExitCode::SUCCESS)
    }

    fn verdict(&self, strict: bool) -> Result<(), Error> {
        let steps = self.rows.len();
        let [_, failed, skipped] = self.counts();
        if failed > 0 {
            Err(Error::Failed { failed, steps })
        } else if strict && skipped > 0 {
            Err(Error::Skipped { skipped, steps })
        } else {
            Ok(())
        }
    }

    /// How a combination's step went: `ok`, `failed`, `skipped`, or `-` where there was none of this name.
    pub(crate) fn result(&self, subject: impl fmt::Display, step: &str) -> &'static str {
        let subject = subject.to_string();
        let row = self.rows.iter().find(|row| row.combination == subject && row.step == step);
        row.map_or("-", |row| row.outcome.name())
    }

    /// Why a combination's steps did not go well, each reason once.
    pub(crate) fn notes(&self, subject: impl fmt::Display) -> Vec<&str> {
        let subject = subject.to_string();
        let rows = self.rows.iter().filter(|row| row.combination == subject && !row.note.is_empty());
        rows.fold(Vec::new(), |mut notes, row| {
            if !notes.contains(&&*row.note) {
                notes.push(&row.note);
            }
            notes
        })
    }

    fn push(&mut self, subject: impl fmt::Display, step: &str, outcome: Outcome, note: &str) {
        let (combination, step, note) = (subject.to_string(), step.to_owned(), note.to_owned());
        self.rows.push(Row { combination, step, outcome, note });
    }

    /// Steps that went well, failed, and were skipped.
    fn counts(&self) -> [usize; 3] {
        self.rows.iter().fold([0; 3], |mut counts, row| {
            counts[match row.outcome {
                Outcome::Ok(_) => 0,
                Outcome::Failed(_) => 1,
                Outcome::Skipped => 2,
            }] += 1;
            counts
        })
    }

    /// The table's cells. Steps that one combination skips for one reason share a line.
    fn lines(&self) -> Vec<[String; 5]> {
        let mut lines: Vec<[String; 5]> = Vec::new();
        for row in &self.rows {
            let result = row.outcome.name();
            let time = match row.outcome {
                Outcome::Ok(took) | Outcome::Failed(took) => duration(took),
                Outcome::Skipped => "-".to_owned(),
            };
            let same = lines.iter_mut().find(|[subject, _, shown, _, note]| {
                row.outcome == Outcome::Skipped
                    && shown == result
                    && *subject == row.combination
                    && *note == row.note
            });
            match same {
                Some([_, steps, ..]) => *steps = format!("{steps}, {}", row.step),
                None => lines.push([
                    row.combination.clone(),
                    row.step.clone(),
                    result.to_owned(),
                    time,
                    row.note.clone(),
                ]),
            }
        }
        lines
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["combination", "step", "result", "time", ""].map(str::to_owned);
        let lines: Vec<_> = std::iter::once(head).chain(self.lines()).collect();
        f.write_str(&table(&lines, &[false, false, false, true, false]))?;
        let [ok, failed, skipped] = self.counts();
        writeln!(f, "\n{ok} ok, {failed} failed, {skipped} skipped")
    }
}

fn duration(took: Duration) -> String {
    let minutes = took.as_secs() / 60;
    if minutes == 0 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{minutes} min {:02} s", took.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combination::table::COMBINATIONS;

    fn summary(rows: &[(&str, &str, Outcome, &str)]) -> Summary {
        let mut summary = Summary::default();
        for (subject, step, outcome, note) in rows {
            summary.push(subject, step, *outcome, note);
        }
        summary
    }

    #[test]
    fn the_table_reads_well() {
        let summary = summary(&[
            ("workspace", "fmt", Outcome::Ok(Duration::from_millis(430)), ""),
            ("candle cpu", "clippy", Outcome::Ok(Duration::from_secs(61)), ""),
            ("candle cuda", "clippy", Outcome::Skipped, "no nvcc"),
            ("candle cpu", "test", Outcome::Failed(Duration::from_secs(3)), "cargo test ended"),
            ("candle cuda", "test", Outcome::Skipped, "no nvcc"),
        ]);
        let expected = "\
combination  step          result         time
workspace    fmt           ok            0.4 s
candle cpu   clippy        ok       1 min 01 s
candle cuda  clippy, test  skipped           -  no nvcc
candle cpu   test          failed        3.0 s  cargo test ended

2 ok, 1 failed, 2 skipped
";
        assert_eq!(summary.to_string(), expected);
    }

    #[test]
    fn a_failure_is_an_error_and_a_skip_only_where_it_is_asked_for() {
        let ok = ("a", "s", Outcome::Ok(Duration::ZERO), "");
        let (failed, skipped) =
            (("b", "s", Outcome::Failed(Duration::ZERO), ""), ("c", "s", Outcome::Skipped, "why"));
        summary(&[ok]).verdict(true).unwrap();
        summary(&[ok, skipped]).verdict(false).unwrap();
        assert!(matches!(
            summary(&[ok, skipped]).verdict(true),
            Err(Error::Skipped { skipped: 1, steps: 2 })
        ));
        assert!(matches!(
            summary(&[ok, failed, skipped]).verdict(true),
            Err(Error::Failed { failed: 1, steps: 3 })
        ));
    }

    #[test]
    fn a_step_that_cannot_run_is_not_run() {
        let mut summary = Summary::default();
        let tch = COMBINATIONS.iter().find(|it| it.to_string() == "tch metal").unwrap();
        assert!(!summary.step(tch, "test", Use::Run, || panic!("ran")));
        assert_eq!(summary.counts(), [0, 0, 1]);
        assert!(
            summary.to_string().contains("tch metal    test  skipped     -  backend tch has no metal device")
        );
    }

    #[test]
    fn results_and_reasons_are_found_again() {
        let summary = summary(&[
            ("candle cpu", "build", Outcome::Ok(Duration::ZERO), ""),
            ("candle cuda", "build", Outcome::Failed(Duration::ZERO), "cargo build ended"),
            ("candle cuda", "test", Outcome::Skipped, "no GPU"),
            ("candle cuda", "bench", Outcome::Skipped, "no GPU"),
        ]);
        let results = [
            ("candle cpu", "build"),
            ("candle cuda", "build"),
            ("candle cuda", "test"),
            ("candle cpu", "test"),
        ]
        .map(|(subject, step)| summary.result(subject, step));
        assert_eq!(results, ["ok", "failed", "skipped", "-"]);
        assert_eq!(summary.notes("candle cpu"), Vec::<&str>::new());
        assert_eq!(summary.notes("candle cuda"), ["cargo build ended", "no GPU"]);
    }

    #[test]
    fn a_step_is_recorded_with_its_error() {
        let mut summary = Summary::default();
        summary.run("workspace", "fmt", || Err(Error::NoPython));
        assert_eq!(summary.counts(), [0, 1, 0]);
        assert!(summary.to_string().contains("python"));
    }
}
