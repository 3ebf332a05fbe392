//! The results as one table, one picture, and rows of JSON.

mod svg;
mod table;

use crate::Result;
use crate::args::Args;
use crate::row::Row;
use crate::{backend, machine};
use serde_json::json;
use std::fs;

#[derive(Default)]
pub(crate) struct Results {
    rows: Vec<Row>,
    skipped: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Results {
    pub(crate) fn push(&mut self, row: Row) {
        eprintln!("  {}", table::short(&row));
        self.rows.push(row);
    }

    pub(crate) fn note(&mut self, note: String) {
        eprintln!("  {note}");
        self.notes.push(note);
    }

    pub(crate) fn skip(&mut self, what: &str, why: &str) {
        let skipped = (what.to_owned(), why.to_owned());
        if !self.skipped.contains(&skipped) {
            self.skipped.push(skipped);
        }
    }
}

/// Prints the table and writes all files.
pub(crate) fn write(args: &Args, results: &Results) -> Result<()> {
    let threads =
        std::env::var("RAYON_NUM_THREADS").unwrap_or_else(|_| "as many as the library likes".to_owned());
    let settings = format!(
        "{}; device cpu, {} with {threads} thread(s) per product; seed {}; {} rounds of {} s (null block) and {} s \
         (models), alternating, after one that does not count",
        machine::describe(),
        backend::NAME,
        backend::SEED,
        args.rounds,
        args.short().as_secs_f64(),
        args.long().as_secs_f64(),
    );
    let table = table::markdown(&settings, &results.rows, &results.notes, &results.skipped);
    print!("{table}");
    fs::create_dir_all(&args.out)?;
    fs::write(args.out.join("table.md"), table)?;
    fs::write(args.out.join("compare.svg"), svg::draw(&results.rows)?)?;
    let skipped: Vec<_> =
        results.skipped.iter().map(|(what, why)| json!({ "what": what, "why": why })).collect();
    let all =
        json!({ "settings": settings, "rows": results.rows, "notes": results.notes, "skipped": skipped });
    fs::write(args.out.join("rows.json"), serde_json::to_string_pretty(&all)? + "\n")?;
    Ok(())
}
