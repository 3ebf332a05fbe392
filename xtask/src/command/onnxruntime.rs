//! `cargo xtask onnxruntime`: gets ONNX Runtime and prints the path of its library.

use crate::error::Error;
use crate::fetch::onnxruntime;
use std::process::ExitCode;

pub(crate) fn run() -> Result<ExitCode, Error> {
    println!("{}", onnxruntime::get()?.display());
    Ok(ExitCode::SUCCESS)
}
