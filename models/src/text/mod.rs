//! Texts to tensors, and outputs to answers.

pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod error;
mod model;
pub(crate) mod tokens;
mod wait;

pub use model::TextModel;
