//! What comes of `proto/inference.proto`, as `tests/proto.rs` makes it.
// Included, so that it stays as it was made.
include!("inference.rs");
