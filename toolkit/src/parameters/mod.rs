//! First values of parameters.

pub(crate) mod head;
pub(crate) mod init;
pub(crate) mod source;
pub(crate) mod weights;
