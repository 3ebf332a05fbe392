//! The table, as Markdown that is aligned for reading as it is.

use crate::row::Row;
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

/// One line for the log.
pub(crate) fn short(row: &Row) -> String {
    format!(
        "{} at {}: {} is {:.2} × {} in rows/s, {:.2} × in p50",
        row.workload, row.outstanding, row.system, row.throughput_ratio, row.baseline, row.p50_ratio
    )
}

/// Settings, table, and what was skipped.
pub(crate) fn markdown(settings: &str, rows: &[Row], skipped: &[(String, String)]) -> String {
    let mut lines: Vec<[String; HEAD.len()]> = vec![HEAD.map(str::to_owned)];
    for row in rows {
        let workload = if row.is_baseline() { row.workload.clone() } else { String::new() };
        let outstanding =
            if row.system.starts_with("bare") { "-".to_owned() } else { row.outstanding.to_string() };
        lines.push([
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
        ]);
    }
    let widths: Vec<_> = (0..HEAD.len())
        .map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = format!("{settings}.\n\n");
    for (i, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let mut line = |cells: Vec<_>| text.extend(["| ", &cells.join(" | "), " |\n"]);
        line(cells.collect());
        if i == 0 {
            let rule = widths.iter().enumerate().map(|(column, &width)| {
                if column < 2 { "-".repeat(width) } else { "-".repeat(width.saturating_sub(1)) + ":" }
            });
            line(rule.collect());
        }
    }
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
    for (what, why) in skipped {
        let _ = writeln!(text, "Skipped: {what}: {why}.");
    }
    text
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
    fn numbers_can_be_read() {
        assert_eq!(
            [0.5, 12.34, 123.0, 1_234_567.8, f64::NAN].map(number).join(" "),
            "0.50 12.3 123 1,234,568 -"
        );
    }
}
