//! `cargo xtask cuda-toolkit`: gets CUDA's compiler and prints its folder.

use crate::error::Error;
use crate::fetch::cuda;
use std::process::ExitCode;

pub(crate) fn run() -> Result<ExitCode, Error> {
    println!("{}", cuda::get()?.home().display());
    Ok(ExitCode::SUCCESS)
}
