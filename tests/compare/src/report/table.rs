//! The table, as Markdown that is aligned for reading as it is.

use crate::row::Row;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt::Write;

const HEAD: [&str; 11] = [
    "workload",
    "system",
    "outstanding",
    "tasks/s",
    "p50 µs",
    "p99 µs",
    "CPU µs/task",
    "rows/batch",
    "rows/s ×",
    "p50 ×",
    "CPU ×",
];

/// Columns on the left that are words; the others are figures.
const WORDS: usize = 2;

/// One line for the log.
pub(crate) fn short(row: &Row) -> String {
    format!(
        "{} at {}: {} is {:.2} × {} in rows/s, {:.2} × in p50",
        row.workload, row.outstanding, row.system, row.throughput_ratio, row.baseline, row.p50_ratio
    )
}

/// Settings, table, and what was skipped.
pub(crate) fn markdown(
    settings: &str,
    rows: &[Row],
    notes: &[String],
    skipped: &[(String, String)],
) -> String {
    let arithmetic = rows.iter().any(|row| row.arithmetic.is_some());
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(HEAD.iter().copied().chain(arithmetic.then_some("arithmetic")));
    for column in table.column_iter_mut().skip(WORDS) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        let workload = if row.is_baseline() { row.workload.clone() } else { String::new() };
        let outstanding = if row.system.contains("bare") || row.system.ends_with("Python") {
            "-".to_owned()
        } else {
            row.outstanding.to_string()
        };
        let mut cells = vec![
            workload,
            row.system.clone(),
            outstanding,
            number(row.tasks_per_s),
            number(row.p50_us),
            number(row.p99_us),
            number(row.cpu_us_per_task),
            format!("{:.1}", row.mean_batch_rows),
            ratio(row.throughput_ratio),
            ratio(row.p50_ratio),
            ratio(row.cpu_ratio),
        ];
        if arithmetic {
            cells
                .push(row.arithmetic.map_or_else(|| "-".to_owned(), |part| format!("{:.0} %", part * 100.0)));
        }
        table.add_row(cells);
    }
    let mut text = format!("{settings}.\n\n{}\n", with_sides(&table.to_string()));
    text += "\nEach task has one row. × is the median of the rounds' ratios to the first system of the same workload.\n";
    for row in rows.iter().filter(|row| row.system == "skep") {
        if let Some(busy) = row.device_busy.filter(|_| !row.workload.starts_with("null")) {
            let _ = writeln!(
                text,
                "Skep's device was busy for {:.1} % of {} ({}).",
                busy * 100.0,
                row.workload,
                row.outstanding
            );
        }
    }
    for note in notes {
        let _ = writeln!(text, "{note}");
    }
    for (what, why) in skipped {
        let _ = writeln!(text, "Skipped: {what}: {why}.");
    }
    text
}

/// Says in the second line, by a colon, which columns are figures. comfy-table aligns them and leaves that out, and
/// then a browser aligns them like words.
fn with_sides(table: &str) -> String {
    let line = |(at, line): (usize, &str)| {
        if at != 1 {
            return line.to_owned();
        }
        let cells = line.split('|').enumerate();
        // Before the first bar there is an empty cell.
        let cells = cells.map(|(at, cell)| match cell.strip_suffix('-') {
            Some(rest) if at > WORDS => format!("{rest}:"),
            _ => cell.to_owned(),
        });
        cells.collect::<Vec<_>>().join("|")
    };
    table.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// Three significant digits, with thousands apart.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value < 100.0 {
        return format!("{value:.*}", if value < 10.0 { 2 } else { 1 });
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn ratio(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "-".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_to_the_right_for_browsers_too() {
        let table = "| a | b | c |\n|---|---|---|\n| - | - | - |";
        assert_eq!(with_sides(table), "| a | b | c |\n|---|---|--:|\n| - | - | - |");
    }

    #[test]
    fn numbers_can_be_read() {
        assert_eq!(
            [0.5, 12.34, 123.0, 1_234_567.8, f64::NAN].map(number).join(" "),
            "0.50 12.3 123 1,234,568 -"
        );
    }
}
