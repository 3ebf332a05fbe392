//! The matrix: every combination built, tested and benchmarked, with one line for each.

pub(crate) mod output;
pub(crate) mod row;
