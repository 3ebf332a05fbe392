//! A snapshot for people: one aligned table.

use crate::snapshot::{
    PartSnapshot, PoolSnapshot, ReloadSnapshot, Snapshot, TrainingSnapshot, VerificationSnapshot,
};
use std::fmt;
use std::time::Duration;

type Cell = fn(&PoolSnapshot) -> String;
type Count = fn(&PoolSnapshot) -> u64;

/// The ends of tasks. Columns in which every pool has 0 are left out.
const COUNTS: [(&str, Count); 9] = [
    ("tasks", |pool| pool.submitted),
    ("succeeded", |pool| pool.succeeded),
    ("failed", |pool| pool.failed),
    ("cancelled", |pool| pool.cancelled),
    ("expired", |pool| pool.expired),
    ("evicted", |pool| pool.evicted),
    ("refused", |pool| pool.refused),
    ("waiting", |pool| pool.waiting),
    ("in flight", |pool| pool.in_flight),
];

const WORK: [(&str, Cell); 9] = [
    ("rows", |pool| pool.rows.to_string()),
    ("batches", |pool| pool.batches.to_string()),
    ("rows/batch", |pool| format!("{:.1}", pool.mean_batch_rows)),
    ("wait p50", |pool| readable(pool.queue_wait.p50)),
    ("wait p99", |pool| readable(pool.queue_wait.p99)),
    ("device p50", |pool| readable(pool.device.p50)),
    ("device p99", |pool| readable(pool.device.p99)),
    ("end to end p50", |pool| readable(pool.end_to_end.p50)),
    ("end to end p99", |pool| readable(pool.end_to_end.p99)),
];

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.device.is_empty() {
            return f.write_str("not started");
        }
        let pools: Vec<&PoolSnapshot> = self.pools.iter().filter(|pool| pool.submitted > 0).collect();
        write_table(f, &pools, &self.total)?;
        let left_out = self.pools.len() - pools.len();
        if left_out > 0 {
            writeln!(f, "without tasks and left out: {left_out} of {} pools", self.pools.len())?;
        }
        write_parts(f, "class", &self.total.classes)?;
        write_parts(f, "flow", &self.total.flows)?;
        for pool in self.pools.iter().filter(|pool| !pool.refusals.is_empty()) {
            let reasons = pool.refusals.iter().map(|(reason, tasks)| format!("{tasks} {reason}"));
            writeln!(f, "{}: refused {}", pool.name, reasons.collect::<Vec<_>>().join(", "))?;
        }
        for pool in &self.pools {
            if pool.padding > 0.0 {
                writeln!(f, "{}: {:.1} % of the elements are padding", pool.name, 100.0 * pool.padding)?;
            }
            if let Some(training) = pool.training {
                let TrainingSnapshot { steps, clipped, refused, learning_rate, gradient_norm } = training;
                let (name, share) = (&pool.name, 100.0 * clipped as f64 / steps.max(1) as f64);
                writeln!(
                    f,
                    "{name}: {steps} steps ({share:.0} % clipped, {refused} refused), learning rate {learning_rate:.2e}, gradient norm {gradient_norm:.2e}"
                )?;
            }
            if let Some(verification) = pool.verification {
                let VerificationSnapshot { batches, differing, largest_difference, tolerance } = verification;
                let name = &pool.name;
                writeln!(
                    f,
                    "{name}: {batches} batches verified, {differing} differ, by at most {largest_difference:.1e} (limit {tolerance:.0e})"
                )?;
            }
        }
        if let Some(ReloadSnapshot { failed, times }) = self.reloads {
            let (p50, p99) = (readable(times.p50), readable(times.p99));
            writeln!(f, "reloads: {}, of which {failed} failed, p50 {p50}, p99 {p99}", times.count)?;
        }
        let (elapsed, busy) = (readable(self.elapsed), self.device_busy * 100.0);
        write!(f, "device {}: busy {busy:.1} % of {elapsed}", self.device)
    }
}

/// Names to the left, everything else to the right.
// By hand: a library for these ten lines would bring three crates into every application.
fn write_table(f: &mut fmt::Formatter<'_>, pools: &[&PoolSnapshot], total: &PoolSnapshot) -> fmt::Result {
    let shown: Vec<(&str, Count)> = COUNTS.into_iter().filter(|(_, count)| count(total) > 0).collect();
    let titles = shown.iter().map(|(title, _)| *title).chain(WORK.map(|(title, _)| title));
    let mut lines = vec![std::iter::once("pool").chain(titles).map(str::to_owned).collect::<Vec<_>>()];
    for pool in pools.iter().copied().chain([total]) {
        let counts = shown.iter().map(|(_, count)| count(pool).to_string());
        let work = WORK.iter().map(|(_, cell)| cell(pool));
        lines.push(std::iter::once(pool.name.clone()).chain(counts).chain(work).collect());
    }
    write_lines(f, &lines)
}

/// Most that are shown of classes, and of flows.
const MOST_PARTS: usize = 20;

/// The tasks of several pools by class or by flow.
fn write_parts(f: &mut fmt::Formatter<'_>, title: &str, parts: &[PartSnapshot]) -> fmt::Result {
    if parts.len() < 2 {
        return Ok(());
    }
    let titles =
        [title, "tasks", "rows", "device", "wait p50", "wait p99", "end to end p50", "end to end p99"];
    let mut lines = vec![titles.map(str::to_owned).to_vec()];
    for part in parts.iter().take(MOST_PARTS) {
        let name = part.of.map_or_else(|| "others".to_owned(), |of| of.to_string());
        let (wait, whole) = (part.queue_wait, part.end_to_end);
        let times = [part.device, wait.p50, wait.p99, whole.p50, whole.p99].map(readable);
        let numbers = [whole.count, part.rows].map(|number| number.to_string());
        lines.push(std::iter::once(name).chain(numbers).chain(times).collect());
    }
    write_lines(f, &lines)?;
    match parts.len().saturating_sub(MOST_PARTS) {
        0 => Ok(()),
        more => writeln!(f, "and {more} more"),
    }
}

fn write_lines(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for line in lines {
        write!(f, "{:<1$}", line[0], widths[0])?;
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            write!(f, "  {cell:>width$}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

/// A duration with three digits, in the unit that suits it.
fn readable(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    // The limits are where rounding to three digits carries into the next unit.
    let (value, unit) = match seconds {
        s if s < 999.5e-6 => (s * 1e6, "µs"),
        s if s < 999.5e-3 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let decimals = match value {
        v if v == 0.0 || v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Summary;

    fn time(p50_us: u64, p99_us: u64) -> Summary {
        let (p50, p99) = (Duration::from_micros(p50_us), Duration::from_micros(p99_us));
        Summary { p50, p99, ..Summary::default() }
    }

    fn pool(name: &str, tasks: u64) -> PoolSnapshot {
        PoolSnapshot { name: name.to_owned(), submitted: tasks, succeeded: tasks, ..PoolSnapshot::default() }
    }

    #[test]
    fn a_snapshot_is_one_aligned_table() {
        let forward = PoolSnapshot {
            rows: 1200,
            batches: 100,
            mean_batch_rows: 12.0,
            queue_wait: time(250, 1500),
            device: time(80, 95),
            end_to_end: time(400, 2100),
            padding: 0.0314,
            ..pool("ffn_forward", 1200)
        };
        let backward = PoolSnapshot { succeeded: 0, waiting: 3, ..pool("épaule", 3) };
        let total = PoolSnapshot { name: "total".to_owned(), submitted: 1203, waiting: 3, ..forward.clone() };
        let snapshot = Snapshot {
            device: "cpu".to_owned(),
            elapsed: Duration::from_millis(12_340),
            device_busy: 0.8125,
            total,
            pools: vec![forward, pool("idle", 0), backward],
            reloads: Some(ReloadSnapshot { failed: 1, times: Summary { count: 7, ..time(3000, 9000) } }),
        };
        let expected = "\
pool         tasks  succeeded  waiting  rows  batches  rows/batch  wait p50  wait p99  device p50  device p99  end to end p50  end to end p99
ffn_forward   1200       1200        0  1200      100        12.0    250 µs   1.50 ms     80.0 µs     95.0 µs          400 µs         2.10 ms
épaule           3          0        3     0        0         0.0      0 µs      0 µs        0 µs        0 µs            0 µs            0 µs
total         1203       1200        3  1200      100        12.0    250 µs   1.50 ms     80.0 µs     95.0 µs          400 µs         2.10 ms
without tasks and left out: 1 of 3 pools
ffn_forward: 3.1 % of the elements are padding
reloads: 7, of which 1 failed, p50 3.00 ms, p99 9.00 ms
device cpu: busy 81.2 % of 12.3 s";
        assert_eq!(snapshot.to_string(), expected);
    }

    #[test]
    fn before_the_start_there_is_no_table() {
        assert_eq!(Snapshot::default().to_string(), "not started");
    }

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        let cases = [
            (0, "0 µs"),
            (5, "0.01 µs"),
            (850, "0.85 µs"),
            (9_994, "9.99 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_400, "999 µs"),
            (999_600, "1.00 ms"),
            (1_234_000_000, "1.23 s"),
            (5_000_000_000_000, "5000 s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(readable(Duration::from_nanos(ns)), expected, "{ns} ns");
        }
    }
}
