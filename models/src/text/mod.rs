//! Texts to tensors, and outputs to answers: `tokens.rs` cuts and counts, `hand_in.rs` makes tensors, and each question
//! that a model answers is a file.

pub(crate) mod answer;
pub(crate) mod ask;
mod classify;
mod embed;
pub(crate) mod error;
mod hand_in;
mod label;
mod model;
pub(crate) mod pieces;
pub(crate) mod tokens;
mod wait;

pub use model::TextModel;
