//! All that criterion measured, in one table.

use crate::benchmark::criterion::Estimate;
use crate::combination::table::Combination;
use crate::report::table::table;
use crate::report::units::{rate, time};
use std::fmt;
use std::path::{Path, PathBuf};

/// One table of all that was measured, and where criterion's own report is.
#[derive(Default)]
pub(crate) struct Results {
    lines: Vec<[String; 5]>,
    pages: Vec<PathBuf>,
}

impl Results {
    pub(crate) fn add(&mut self, combination: &Combination, estimates: &[Estimate], folder: &Path) {
        self.lines.extend(estimates.iter().map(|it| line(combination, it)));
        self.pages.extend(Some(folder.join("report").join("index.html")).filter(|page| page.is_file()));
    }
}

impl fmt::Display for Results {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combination::table::COMBINATIONS;

    #[test]
    fn a_line_shows_a_dash_where_there_is_no_rate() {
        let estimate = Estimate { name: "a/b".to_owned(), median: 10.0, spread: 1.0, per_second: None };
        let line = line(&COMBINATIONS[0], &estimate);
        assert_eq!(line, ["candle cpu", "a/b", "10.0 ns", "1.0 ns", "-"]);
    }
}
