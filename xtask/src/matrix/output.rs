//! The matrix for people and for programs.

use crate::combination::choice;
use crate::matrix::row::{Row, Saturated};
use crate::report::bar_chart::{Bar, Chart, Line, Panel};
use crate::report::table::table;
use crate::report::units::{percent, rate, time};
use serde_json::{Value, json};

/// As a table for a terminal.
pub(crate) fn text(rows: &[Row]) -> String {
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

/// As JSON with plain numbers.
pub(crate) fn to_json(about: &str, rows: &[Row]) -> Value {
    let rows = rows.iter().map(|row| {
        let saturated = row.figures.saturated.as_ref();
        json!({
            "backend": choice::name(&row.combination.backend),
            "device": choice::name(&row.combination.device),
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

/// As a picture.
pub(crate) fn chart(about: String, rows: &[Row]) -> Chart {
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
    use crate::combination::table::COMBINATIONS;
    use crate::matrix::row::{Figures, Saturated};

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
        let svg = chart("here".to_owned(), &rows()).to_svg().unwrap();
        for words in ["5.50 µs", "2.85 k", "95 %", "build ok, test skipped: nvidia-smi finds no GPU"] {
            assert!(svg.contains(words), "{words} is not in {svg}");
        }
    }
}
