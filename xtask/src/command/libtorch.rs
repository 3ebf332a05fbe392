//! `cargo xtask libtorch`: gets libtorch and prints its folder.

use crate::error::Error;
use crate::fetch::libtorch;
use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Libtorch {
    /// Take the libtorch of this Python's `torch` package, with CUDA where it has it
    #[arg(long, value_name = "PYTHON", num_args = 0..=1, default_missing_value = "python3")]
    from_python: Option<OsString>,
}

impl Libtorch {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let folder = match &self.from_python {
            Some(python) => libtorch::take_from_python(python)?,
            None => libtorch::get()?,
        };
        println!("{}", folder.display());
        Ok(ExitCode::SUCCESS)
    }
}
