//! Curves: a time that grows with a number of rows, learned from what was measured.

use std::time::Duration;

/// A line through what was measured lately: a fixed time, and a time per row. Robust: what lies far off counts for
/// little, unless it comes again and again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Curve {
    /// How much was measured, the older the less.
    weight: f64,
    rows: f64,
    time: f64,
    rows_squared: f64,
    rows_times_time: f64,
    /// The part of a batch's time that was not its rows' when batches last differed enough to tell.
    fixed: f64,
    /// How far off measured times usually are.
    spread: f64,
}

/// What is kept of the past with each measurement: the last fifty or so count.
const KEPT: f64 = 0.98;
/// Measurements beyond which one that is far off is doubted.
const ENOUGH: f64 = 4.0;
/// So many spreads off is far.
const FAR: f64 = 4.0;
/// Never far is what differs by no more than this part of what was expected.
const SLACK: f64 = 0.1;
/// Rows must have varied by this part of their mean before a slope is believed.
const VARIED: f64 = 0.05;

impl Curve {
    /// Notes that so many rows took so long.
    pub(crate) fn note(&mut self, rows: usize, time: Duration) {
        let (rows, mut time) = (rows as f64, time.as_secs_f64());
        // Of batches of other rows than ever, nothing is expected.
        let is_known = self.is_a_line() || (rows - self.rows).abs() <= VARIED * self.rows;
        if self.weight >= ENOUGH && is_known {
            let expected = self.seconds(rows);
            let far = FAR * self.spread + SLACK * expected;
            let off = (time - expected).clamp(-far, far);
            time = expected + off;
            self.spread += (off.abs() - self.spread) / 8.0;
        }
        self.weight = self.weight * KEPT + 1.0;
        let away = rows - self.rows;
        self.rows += away / self.weight;
        self.time += (time - self.time) / self.weight;
        self.rows_squared = self.rows_squared * KEPT + away * (rows - self.rows);
        self.rows_times_time = self.rows_times_time * KEPT + away * (time - self.time);
        if self.is_a_line() && self.time > 0.0 {
            let (_, fixed) = self.line();
            self.fixed = fixed / self.time;
        }
    }

    /// Returns how much was measured, at most fifty.
    pub(crate) fn weight(&self) -> f64 {
        self.weight
    }

    /// Returns the time of a row and the fixed time of a batch, in seconds. While all batches are alike, the two have the
    /// parts that they had before; if there was no before, all of the time is the rows'.
    pub(crate) fn line(&self) -> (f64, f64) {
        let most = if self.rows > 0.0 { self.time / self.rows } else { 0.0 };
        let varied = self.rows_squared > self.weight * (VARIED * self.rows).powi(2);
        let per_row = if varied {
            (self.rows_times_time / self.rows_squared).clamp(0.0, most)
        } else {
            most * (1.0 - self.fixed)
        };
        (per_row, self.time - per_row * self.rows)
    }

    /// Returns true if batches have differed enough to tell the rows' time from the fixed one.
    pub(crate) fn is_a_line(&self) -> bool {
        self.weight >= ENOUGH && self.rows_squared > self.weight * (VARIED * self.rows).powi(2)
    }

    fn seconds(&self, rows: f64) -> f64 {
        let (per_row, fixed) = self.line();
        fixed + per_row * rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn micros(curve: &Curve, rows: usize) -> f64 {
        curve.seconds(rows as f64) * 1e6
    }

    proptest! {
        #[test]
        fn a_line_is_found_among_outliers(
            fixed in 0u32..10_000, per_row in 1u32..1000, rows in prop::collection::vec(1usize..65, 60), at in 0usize..7,
        ) {
            let spread = rows.iter().max().unwrap() - rows.iter().min().unwrap();
            prop_assume!(spread > 16);
            let mut curve = Curve::default();
            for (number, &rows) in rows.iter().enumerate() {
                let time = f64::from(fixed) + f64::from(per_row) * rows as f64;
                // One in ten takes twenty times as long.
                let time = if number > 10 && number % 10 == at + 2 { time * 20.0 } else { time };
                curve.note(rows, Duration::from_secs_f64(time / 1e6));
            }
            for rows in [8, 32, 64] {
                let expected = f64::from(fixed) + f64::from(per_row) * rows as f64;
                let found = micros(&curve, rows);
                prop_assert!((found / expected - 1.0).abs() < 0.25, "{rows} rows: {found} instead of {expected}");
            }
        }

        #[test]
        fn a_device_that_became_slower_is_noticed(factor in 2u32..20, rows in prop::collection::vec(1usize..65, 90)) {
            let mut curve = Curve::default();
            let time = |rows: usize, factor| Duration::from_micros(1000 + 100 * rows as u64) * factor;
            rows[..20].iter().for_each(|&rows| curve.note(rows, time(rows, 1)));
            rows[20..].iter().for_each(|&rows| curve.note(rows, time(rows, factor)));
            let expected = time(32, factor).as_secs_f64() * 1e6;
            prop_assert!((micros(&curve, 32) / expected - 1.0).abs() < 0.6, "{} instead of {expected}", micros(&curve, 32));
        }

        #[test]
        fn any_measurements_make_a_curve(noted in prop::collection::vec((any::<u32>(), any::<u64>()), 0..50)) {
            let mut curve = Curve::default();
            for (rows, nanos) in noted {
                curve.note(rows as usize, Duration::from_nanos(nanos));
                let (per_row, fixed) = curve.line();
                prop_assert!(per_row >= 0.0 && per_row.is_finite() && fixed.is_finite(), "{curve:?}");
                prop_assert!(fixed >= -1e-6 * curve.time.abs() - 1e-9, "{curve:?}");
            }
        }
    }

    #[test]
    fn what_was_fixed_stays_fixed_while_all_batches_are_alike() {
        let mut curve = Curve::default();
        let mut note = |rows: u32, factor: u32| {
            let time = (Duration::from_millis(8) + Duration::from_micros(100) * rows) * factor;
            curve.note(rows as usize, time);
            curve
        };
        for rows in 1..=32 {
            note(rows, 1);
        }
        let alike = (0..1000).map(|_| note(32, 1)).last().unwrap();
        assert!(!alike.is_a_line());
        assert!((micros(&alike, 4) / 8_400.0 - 1.0).abs() < 0.02, "{}", micros(&alike, 4));
        let slower = (0..1000).map(|_| note(32, 2)).last().unwrap();
        assert!((micros(&slower, 4) / 16_800.0 - 1.0).abs() < 0.02, "{}", micros(&slower, 4));
    }

    #[test]
    fn batches_that_are_all_alike_tell_no_slope() {
        let mut curve = Curve::default();
        (0..20).for_each(|_| curve.note(16, Duration::from_millis(16)));
        assert!(!curve.is_a_line());
        assert!((micros(&curve, 1) - 1000.0).abs() < 1.0);
        curve.note(1, Duration::from_millis(15));
        curve.note(1, Duration::from_millis(15));
        curve.note(1, Duration::from_millis(15));
        assert!(curve.is_a_line() && micros(&curve, 1) > 3000.0, "{}", micros(&curve, 1));
    }
}
