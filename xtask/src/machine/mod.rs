//! What this machine has, and how its programs are run. The ground of this program: it knows nothing of Skep but
//! where the workspace is.

pub(crate) mod gpu;
pub(crate) mod libraries;
pub(crate) mod process;
pub(crate) mod python;
