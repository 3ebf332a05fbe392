//! Measured differences, shown by the run that measures them.

use std::io::Write;

/// A largest absolute difference, and how large it may be.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The quantity that differs.
    pub what: &'static str,
    /// The difference.
    pub difference: f32,
    /// The limit that the difference must not pass.
    pub limit: f32,
}

/// Prints figures on one line, then checks them.
///
/// # Panics
///
/// Panics if a difference passes its limit, or is not a number.
pub fn figures(subject: &str, figures: &[Figure]) {
    let told: Vec<_> = figures
        .iter()
        .map(|Figure { what, difference, limit }| format!("{what} {difference:.1e} (limit {limit:.0e})"))
        .collect();
    let line = format!("parity of {subject}, largest absolute differences: {}\n", told.join(", "));
    // Not by `print!`, which a test's harness keeps to itself where the test passes.
    std::io::stdout().write_all(line.as_bytes()).unwrap();
    for Figure { what, difference, limit } in figures {
        assert!(difference <= limit, "{subject}: {what} differ by {difference}, expected at most {limit}");
    }
}
