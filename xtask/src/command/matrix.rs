//! `cargo xtask matrix`: every combination built, tested and benchmarked, and one line for each at the end, which
//! says how well it does or why it cannot.

use crate::benchmark::measure::measure;
use crate::combination::table::Combination;
use crate::command::build::build;
use crate::command::selection::{Quick, Selection};
use crate::command::test::test;
use crate::error::Error;
use crate::machine::process::{origin, target};
use crate::matrix::output::{chart, text, to_json};
use crate::matrix::row::{Figures, Row};
use crate::report::summary::Summary;
use clap::Args;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Matrix {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    quick: Quick,
}

/// The benchmark program from which the figures come.
const BENCH: &str = "device";

impl Matrix {
    /// Prints the table, and writes it as JSON and as a plot.
    ///
    /// # Errors
    ///
    /// When the target folder is not known, criterion's files cannot be read, or the results cannot be written; a
    /// step that fails is part of the table.
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let mut summary = Summary::default();
        let rows: Result<Vec<_>, _> =
            self.selection.combinations().into_iter().map(|it| self.row(it, &mut summary)).collect();
        let rows = rows?;
        print!("\n{}", text(&rows));
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let about = format!("{}, {cores} cores", origin());
        let folder = target()?.join("matrix");
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        write(&folder.join("matrix.json"), &format!("{:#}\n", to_json(&about, &rows)))?;
        write(&folder.join("matrix.svg"), &chart(about, &rows).to_svg()?)?;
        summary.end(self.selection.strict)
    }

    fn row(&self, combination: &'static Combination, summary: &mut Summary) -> Result<Row, Error> {
        // As the benchmarks are, so that they are built once. The tests build what they need besides.
        build(&[combination], true, summary);
        test(&[combination], NonZeroU32::MIN, summary);
        let estimates = measure(combination, BENCH, self.quick.quick, None, summary)?;
        Ok(Row {
            combination,
            built: summary.result(combination, "build"),
            tested: summary.result(combination, "test"),
            figures: Figures::of(&estimates.unwrap_or_default()),
            why: summary.notes(combination).join("; "),
        })
    }
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    fs::write(file, text).map_err(Error::file("write", file))?;
    println!("written: {}", file.display());
    Ok(())
}
