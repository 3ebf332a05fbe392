//! How results are shown: tables, pictures, and a summary of what was done.

pub(crate) mod bar_chart;
pub(crate) mod line_chart;
pub(crate) mod picture;
pub(crate) mod summary;
pub(crate) mod table;
pub(crate) mod units;
