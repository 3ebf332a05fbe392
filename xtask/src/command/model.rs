//! `cargo xtask model`: gets the sentence model and prints its folder.

use crate::error::Error;
use crate::fetch::sentence_model;
use std::process::ExitCode;

pub(crate) fn run() -> Result<ExitCode, Error> {
    println!("{}", sentence_model::folder()?.display());
    Ok(ExitCode::SUCCESS)
}
