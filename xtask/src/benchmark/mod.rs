//! What is measured: times by criterion, instructions by callgrind, and how the latter went over time.

pub(crate) mod comparison;
pub(crate) mod criterion;
pub(crate) mod door;
pub(crate) mod growth;
pub(crate) mod history;
pub(crate) mod instructions;
pub(crate) mod measure;
pub(crate) mod results;
pub(crate) mod tei;
