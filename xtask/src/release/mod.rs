//! What a release promises: that packages are whole, that nothing foreign is part of an interface by accident, and that
//! what has changed fits the new version. See `docs/release.md`.

pub(crate) mod package;
pub(crate) mod tool;
