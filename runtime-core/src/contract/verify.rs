//! The rule by which batches are verified, and what came of one.

/// The rule by which a pool's forward batches are verified: once in so many batches of several tasks, one of the tasks is
/// run alone as well, and its outputs are compared with those that it got in company.
///
/// It finds blocks that mix rows up, which nothing else shows: a batch norm in its training mode, a softmax over the wrong
/// dim, padding that is not masked. Answers are given as they are; what was found stands in the log, in
/// [`BatchEvent::verified`](crate::BatchEvent::verified), and from there in stats and metrics. A verified batch takes one
/// more run, of one task.
///
/// ```
/// use skep_runtime_core::Verify;
///
/// let in_tests = Verify::every(1);
/// let in_service = Verify::every(1000).tolerance(1e-3);
/// # assert!(in_tests.tolerance < in_service.tolerance);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verify {
    /// The number of batches of which one is verified, the first to begin with. At least 1.
    pub every: u64,
    /// The largest difference that is no finding, for numbers above 1 in parts of them. Default 1e-4, which suits f32;
    /// f16 needs about 1e-2, and bf16 about 5e-2.
    pub tolerance: f64,
}

impl Verify {
    /// Creates the rule that verifies one batch in `every`.
    pub const fn every(every: u64) -> Self {
        Self { every, tolerance: 1e-4 }
    }

    /// Sets [`tolerance`](Self#structfield.tolerance).
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }
}

/// What came of the verification of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// The largest difference of an element, for numbers above 1 in parts of them. [`f64::MAX`] if the outputs cannot be
    /// compared: the task fails alone, or its outputs have other dims, or numbers where the others have none.
    pub difference: f64,
    /// The largest that is no finding.
    pub tolerance: f64,
}

impl Verified {
    /// Creates the result of a verification.
    pub const fn new(difference: f64, tolerance: f64) -> Self {
        Self { difference, tolerance }
    }

    /// Returns true if the task got the same in company as alone.
    pub fn holds(&self) -> bool {
        self.difference <= self.tolerance
    }
}
