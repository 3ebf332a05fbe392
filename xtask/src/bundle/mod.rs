//! Bundles: from cargo's programs to an archive here, and from the archive to results on another machine.

pub(crate) mod archive;
pub(crate) mod contents;
pub(crate) mod folder;
pub(crate) mod manifest;
pub(crate) mod unpacked;
