//! The matrix: every combination built, tested and benchmarked, and one line for each at the end, which says how
//! well it does or why it cannot.

use crate::bench::{self, rate, time};
use crate::chart::{Bar, Chart, Line, Panel};
use crate::combos::{self, Combination};
use crate::error::Error;
use crate::estimates::Estimate;
use crate::process::{origin, target};
use crate::steps;
use crate::summary::{Summary, table};
use serde_json::{Value, json};
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

/// The benchmark program from which the figures come.
const BENCH: &str = "device";

/// One combination, and what came of it.
#[derive(Debug)]
struct Row {
    combination: &'static Combination,
    built: &'static str,
    tested: &'static str,
    figures: Figures,
    /// Why a step did not go well; empty where all did.
    why: String,
}

/// What the benchmark says of a combination, as far as it ran.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    /// One lone task of one row through the runtime, in nanoseconds.
    round_trip: Option<f64>,
    saturated: Option<Saturated>,
}

/// The runtime under callers that always have more to do.
#[derive(Debug, PartialEq)]
struct Saturated {
    /// Rows in a full batch.
    batch: u64,
    rows_per_second: f64,
    /// Those of the bare call of the same block with whole batches.
    bare_rows_per_second: f64,
}

/// Builds, tests and benchmarks each combination, prints the table, and writes it as JSON and as a plot.
///
/// # Errors
///
/// When the target folder is not known, criterion's files cannot be read, or the results cannot be written; a
/// step that fails is part of the table.
pub(crate) fn run(
    combinations: &[&'static Combination],
    quick: bool,
    summary: &mut Summary,
) -> Result<(), Error> {
    let mut rows = Vec::new();
    for combination in combinations {
        // As the benchmarks are, so that they are built once. The tests build what they need besides.
        steps::build(&[combination], true, summary);
        steps::test(&[combination], NonZeroU32::MIN, summary);
        let estimates = bench::measure(combination, BENCH, quick, None, summary)?;
        rows.push(Row {
            combination,
            built: summary.result(combination, "build"),
            tested: summary.result(combination, "test"),
            figures: Figures::of(&estimates.unwrap_or_default()),
            why: summary.notes(combination).join("; "),
        });
    }
    print!("\n{}", text(&rows));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let about = format!("{}, {cores} cores", origin());
    let folder = target()?.join("matrix");
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    write(&folder.join("matrix.json"), &format!("{:#}\n", to_json(&about, &rows)))?;
    write(&folder.join("matrix.svg"), &chart(about, &rows).to_string())
}

fn write(file: &Path, text: &str) -> Result<(), Error> {
    fs::write(file, text).map_err(Error::file("write", file))?;
    println!("written: {}", file.display());
    Ok(())
}

impl Figures {
    /// Picks them out of everything that the benchmark measured. Where it ran with batches of several sizes, the
    /// largest counts.
    fn of(estimates: &[Estimate]) -> Self {
        let round_trip = estimates
            .iter()
            .find(|it| it.name.starts_with("round_trip_on_") && it.name.ends_with("/runtime"));
        let saturated = estimates.iter().filter_map(|runtime| {
            let (group, batch) = runtime.name.split_once("/runtime/")?;
            let bare = estimates.iter().find(|it| it.name == format!("{group}/bare/{batch}"))?;
            Some(Saturated {
                batch: batch.parse().ok()?,
                rows_per_second: runtime.per_second?,
                bare_rows_per_second: bare.per_second?,
            })
        });
        Self {
            round_trip: round_trip.map(|it| it.median),
            saturated: saturated.max_by_key(|saturated| saturated.batch),
        }
    }
}

impl Saturated {
    fn share(&self) -> f64 {
        self.rows_per_second / self.bare_rows_per_second
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn text(rows: &[Row]) -> String {
    let head =
        ["combination", "built", "tested", "round trip", "rows/s", "of bare call", ""].map(str::to_owned);
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    let lines = rows.iter().map(|row| {
        let saturated = row.figures.saturated.as_ref();
        [
            row.combination.to_string(),
            row.built.to_owned(),
            row.tested.to_owned(),
            or_dash(row.figures.round_trip.map(time)),
            or_dash(saturated.map(|it| rate(it.rows_per_second))),
            or_dash(saturated.map(|it| percent(it.share()))),
            row.why.clone(),
        ]
    });
    let lines: Vec<_> = [head].into_iter().chain(lines).collect();
    table(&lines, &[false, false, false, true, true, true, false])
}

fn to_json(about: &str, rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let saturated = row.figures.saturated.as_ref();
        json!({
            "backend": combos::name(&row.combination.backend),
            "device": combos::name(&row.combination.device),
            "built": row.built,
            "tested": row.tested,
            "round_trip_ns": row.figures.round_trip,
            "batch_rows": saturated.map(|it| it.batch),
            "rows_per_second": saturated.map(|it| it.rows_per_second),
            "bare_rows_per_second": saturated.map(|it| it.bare_rows_per_second),
            "share_of_bare": saturated.map(Saturated::share),
            "why_not": row.why,
        })
    });
    json!({ "about": about, "combinations": rows.collect::<Vec<_>>() })
}

fn chart(about: String, rows: &[Row]) -> Chart {
    let panel = |title: &'static str, hint| Panel { title, hint };
    let lines = rows.iter().map(|row| {
        let saturated = row.figures.saturated.as_ref();
        let bar = |value: f64, label: String| Bar { value, label };
        Line {
            label: row.combination.to_string(),
            bars: vec![
                row.figures.round_trip.map(|it| bar(it, time(it))),
                saturated.map(|it| bar(it.rows_per_second, rate(it.rows_per_second))),
                saturated.map(|it| bar(it.share(), percent(it.share()))),
            ],
            remark: format!("build {}, test {}: {}", row.built, row.tested, row.why),
        }
    });
    Chart {
        title: "Skep on each backend and device",
        about,
        panels: vec![
            panel("round trip of a lone task", "shorter is better"),
            panel("rows per second, saturated", "longer is better"),
            panel("share of the bare call's rows", "longer is better"),
        ],
        lines: lines.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::combos::COMBINATIONS;

    fn estimate(name: &str, median: f64, rows: Option<f64>) -> Estimate {
        Estimate { name: name.to_owned(), median, spread: 0.0, per_second: rows.map(|it| it * 1e9 / median) }
    }

    fn rows() -> Vec<Row> {
        let figures = Figures {
            round_trip: Some(5_500.0),
            saturated: Some(Saturated { batch: 64, rows_per_second: 2_850.0, bare_rows_per_second: 3_000.0 }),
        };
        let row = |at: usize, built, tested, figures, why: &str| Row {
            combination: &COMBINATIONS[at],
            built,
            tested,
            figures,
            why: why.to_owned(),
        };
        vec![
            row(0, "ok", "ok", figures, ""),
            row(1, "ok", "skipped", Figures::default(), "nvidia-smi finds no GPU"),
            row(5, "skipped", "skipped", Figures::default(), "backend tch has no metal device"),
        ]
    }

    #[test]
    fn figures_are_those_of_the_largest_batch_that_has_both() {
        let estimates = [
            estimate("round_trip_on_candle_cuda:0/bare", 300.0, None),
            estimate("round_trip_on_candle_cuda:0/runtime", 3_000.0, None),
            estimate("ffn_on_candle_cuda:0/bare/64", 20e6, Some(64.0)),
            estimate("ffn_on_candle_cuda:0/bare/1024", 160e6, Some(1024.0)),
            estimate("ffn_on_candle_cuda:0/runtime/64", 25e6, Some(64.0)),
            estimate("ffn_on_candle_cuda:0/runtime/1024", 200e6, Some(1024.0)),
            estimate("ffn_on_candle_cuda:0/runtime/4096", 200e6, Some(4096.0)),
        ];
        let figures = Figures::of(&estimates);
        let saturated = Saturated { batch: 1024, rows_per_second: 5120.0, bare_rows_per_second: 6400.0 };
        assert!((saturated.share() - 0.8).abs() < 1e-9);
        assert_eq!(figures, Figures { round_trip: Some(3_000.0), saturated: Some(saturated) });
        assert_eq!(Figures::of(&[]), Figures::default());
    }

    #[test]
    fn the_table_says_how_well_or_why_not() {
        let expected = "\
combination  built    tested   round trip  rows/s  of bare call
candle cpu   ok       ok          5.50 µs  2.85 k          95 %
candle cuda  ok       skipped           -       -             -  nvidia-smi finds no GPU
tch metal    skipped  skipped           -       -             -  backend tch has no metal device
";
        assert_eq!(text(&rows()), expected);
    }

    #[test]
    fn json_has_plain_numbers() {
        let value = to_json("here", &rows());
        assert_eq!(value["about"], "here");
        let [cpu, cuda, _] = &value["combinations"].as_array().unwrap()[..] else { panic!("{value}") };
        assert_eq!((&cpu["backend"], &cpu["device"]), (&json!("candle"), &json!("cpu")));
        assert_eq!((&cpu["round_trip_ns"], &cpu["batch_rows"]), (&json!(5_500.0), &json!(64)));
        assert_eq!((&cpu["share_of_bare"], &cpu["why_not"]), (&json!(0.95), &json!("")));
        assert_eq!((&cuda["tested"], &cuda["rows_per_second"]), (&json!("skipped"), &Value::Null));
        assert_eq!(cuda["why_not"], "nvidia-smi finds no GPU");
    }

    #[test]
    fn the_chart_shows_figures_and_reasons() {
        let svg = chart("here".to_owned(), &rows()).to_string();
        for words in ["5.50 µs", "2.85 k", "95 %", "build ok, test skipped: nvidia-smi finds no GPU"] {
            assert!(svg.contains(words), "{words} is not in {svg}");
        }
    }
}
