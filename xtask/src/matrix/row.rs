//! One line of the matrix: how well a combination does, or why it cannot.

use crate::benchmark::criterion::Estimate;
use crate::combination::table::Combination;

/// One combination, and what came of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) combination: &'static Combination,
    pub(crate) built: &'static str,
    pub(crate) tested: &'static str,
    pub(crate) figures: Figures,
    /// Why a step did not go well; empty where all did.
    pub(crate) why: String,
}

/// What the benchmark says of a combination, as far as it ran.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// One lone task of one row through the runtime, in nanoseconds.
    pub(crate) round_trip: Option<f64>,
    pub(crate) saturated: Option<Saturated>,
}

/// The runtime under callers that always have more to do.
#[derive(Debug, PartialEq)]
pub(crate) struct Saturated {
    /// Rows in a full batch.
    pub(crate) batch: u64,
    pub(crate) rows_per_second: f64,
    /// Those of the bare call of the same block with whole batches.
    pub(crate) bare_rows_per_second: f64,
}

impl Figures {
    /// Picks them out of everything that the benchmark measured. Where it ran with batches of several sizes, the
    /// largest counts.
    pub(crate) fn of(estimates: &[Estimate]) -> Self {
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
    pub(crate) fn share(&self) -> f64 {
        self.rows_per_second / self.bare_rows_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimate(name: &str, median: f64, rows: Option<f64>) -> Estimate {
        Estimate { name: name.to_owned(), median, spread: 0.0, per_second: rows.map(|it| it * 1e9 / median) }
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
}
