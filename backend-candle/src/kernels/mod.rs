//! Arithmetic of inference in f32 on the processor.
//!
//! candle's operations are each a pass over memory, and lay out the right side of every product anew. Here right sides
//! are laid out once, what follows a product is done in place, and nothing is copied to be transposed. Which
//! instructions there are is asked at run time. Nothing of it has a backward pass: training has candle's operations.
#![allow(
    clippy::inline_always,
    reason = "what is not inlined is not compiled for the instructions that were found"
)]

pub(crate) mod attention;
pub(crate) mod linear;
pub(crate) mod panels;
pub(crate) mod pointwise;
pub(crate) mod processor;
mod product;
