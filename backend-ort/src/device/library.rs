//! Loading ONNX Runtime, once for a process.

use ort::environment::Environment;
use skep_runtime_core::BoxError;
use std::env;
use std::path::PathBuf;
use std::sync::Mutex;

/// Names the library; `ort` reads it too.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The reason why ONNX Runtime is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// Nothing names the library.
    #[error(
        "{VARIABLE} is not set, expected the path of libonnxruntime.so: `cargo xtask onnxruntime` gets it"
    )]
    Unnamed,
    /// The library is missing, or cannot be used.
    #[error("ONNX Runtime cannot be loaded from {}", .path.display())]
    Load {
        /// What is named.
        path: PathBuf,
        /// The loader's error.
        source: BoxError,
    },
}

/// The library's state, made by whoever needs it first.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// ONNX Runtime's state, which all devices of a process share.
pub(super) fn environment() -> Result<Environment, LibraryError> {
    // A panic while it was loaded left nothing behind.
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    let path = env::var_os(VARIABLE).filter(|path| !path.is_empty()).ok_or(LibraryError::Unnamed)?;
    let path = PathBuf::from(path);
    let failed = |source: BoxError| LibraryError::Load { path: path.clone(), source };
    // Looked for first: the loader's own message names no path that is relative.
    std::fs::metadata(&path).map_err(|error| failed(error.into()))?;
    let builder = ort::init_from(&path).map_err(|error| failed(error.into()))?;
    let environment =
        builder.with_name("skep").with_telemetry(false).build().map_err(|error| failed(error.into()))?;
    // Errors come back from the calls that they belong to.
    environment.set_log_level(ort::logging::LogLevel::Fatal);
    *loaded = Some(environment.clone());
    Ok(environment)
}
