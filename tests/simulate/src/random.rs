//! Random numbers that are the same everywhere: the same seed gives the same bytes.

/// `SplitMix64` (Steele, Lea, Flood: OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number from 0 to below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(end)) >> 32).unwrap_or(0)
    }

    /// A time between two events that happen so often a second, on average and independently.
    pub(crate) fn gap(&mut self, per_second: f64) -> f64 {
        -(1.0 - self.unit()).ln() / per_second
    }

    /// A number from 0 to below `ranks.len()`, by weights that have been added up.
    pub(crate) fn by_weight(&mut self, sums: &[f64]) -> u32 {
        let most = sums.last().copied().unwrap_or(0.0);
        let at = self.unit() * most;
        u32::try_from(sums.partition_point(|&sum| sum <= at).min(sums.len().saturating_sub(1))).unwrap_or(0)
    }
}
