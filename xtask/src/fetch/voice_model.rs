//! silero-vad, a real `TorchScript` module with state inside, with which a test of backend tch runs.

use crate::error::Error;
use crate::fetch::cache::{self, Member};
use crate::fetch::wheel::{self, Files, Wheel};
use crate::machine::process::target;
use std::env;
use std::path::PathBuf;

/// Names the module's file; handed to tests, and respected when it is set.
pub(crate) const VARIABLE: &str = "SKEP_SILERO_VAD";

const SILERO: Files = Files {
    wheel: Wheel {
        requirement: "silero-vad==6.2.0",
        sha256: "8a31f1e58e73cdc20820d842f757e678e0ae1b0ee1cb7b8aa50f20f8fd7f7638",
        tags: &[],
    },
    folder: "silero-vad-6.2.0",
    members: &[Member { path: "silero_vad/data/silero_vad.jit", bytes: 2_272_526 }],
};

/// The module's file: the one that `SKEP_SILERO_VAD` names, or the cache's, into which it is downloaded where it is missing.
pub(crate) fn file() -> Result<PathBuf, Error> {
    if let Some(file) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return Ok(file.into());
    }
    let cache = cache::folder(|name| env::var_os(name), &target()?);
    let folder = wheel::get(&SILERO, &cache).map_err(|source| Error::Model {
        source: Box::new(source),
        remedy: format!(
            "it takes a way to the Python package index; where the file is already on this machine, set {VARIABLE}"
        ),
    })?;
    Ok(folder.join("silero_vad.jit"))
}
