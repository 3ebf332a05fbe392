//! Getting ONNX Runtime, which backend ort loads, and telling cargo where it is.
//!
//! The library is in the `onnxruntime` wheel of the Python package index. It lies in `.onnxruntime` in the workspace. What
//! is written last is a configuration for cargo, which the workspace's own includes where it exists: from then on
//! every program that cargo starts finds the library.

use crate::error::Error;
use crate::fetch::cache::Member;
use crate::fetch::wheel::{self, Files, Wheel};
use crate::machine::process::root;
use crate::machine::python;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names a library that is already there; `ort` and backend ort read it.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The version in the wheel below.
const VERSION: &str = "1.32.0";

const LIBRARY: &str = "libonnxruntime.so.1.32.0";

const FILES: Files = Files {
    wheel: Wheel {
        requirement: "onnxruntime==1.32.0",
        sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
        // The wheel of this one Python and system, whatever runs here, so that everybody gets the same file.
        tags: &[
            "--python-version=3.11",
            "--implementation=cp",
            "--abi=cp311",
            "--platform=manylinux_2_28_x86_64",
        ],
    },
    folder: VERSION,
    members: &[Member { path: "onnxruntime/capi/libonnxruntime.so.1.32.0", bytes: 34_824_680 }],
};

/// Where this workspace keeps ONNX Runtime.
fn home() -> PathBuf {
    root().join(".onnxruntime")
}

/// The library that programs load now, if there is one: the one that the user names, or that of an earlier run.
fn found() -> Option<PathBuf> {
    let named = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(own())).filter(|library| library.is_file())
}

fn own() -> PathBuf {
    home().join(VERSION).join(LIBRARY)
}

/// Whether steps that run can use ONNX Runtime: it is there, or it can be had.
pub(crate) fn available() -> bool {
    found().is_some() || (can_fetch() && python::with_pip().is_ok())
}

/// Whether it is there and has CUDA, which is a library beside it.
pub(crate) fn has_cuda() -> bool {
    found().is_some_and(|library| library.with_file_name("libonnxruntime_providers_cuda.so").is_file())
}

/// Tells a program which library to load, where there is one.
pub(crate) fn tell(command: &mut Command) {
    if let Some(library) = found() {
        command.env(VARIABLE, library);
    }
}

const fn can_fetch() -> bool {
    cfg!(all(target_os = "linux", target_arch = "x86_64"))
}

/// The library, which is fetched where there is none.
pub(crate) fn get() -> Result<PathBuf, Error> {
    if let Some(library) = found() {
        return Ok(library);
    }
    if !can_fetch() {
        return Err(Error::NoOnnxRuntime { version: VERSION });
    }
    wheel::get(&FILES, &home()).map_err(|source| Error::OnnxRuntime {
        source: Box::new(source),
        remedy: format!(
            "it takes a way to the Python package index and 60 MB in {}; where the library is already on this machine, \
             set {VARIABLE} to its path",
            home().display()
        ),
    })?;
    record(&home())?;
    Ok(own())
}

/// Writes what cargo includes, whole or not at all.
fn record(home: &Path) -> Result<(), Error> {
    let (file, part) = (home.join("cargo.toml"), home.join("cargo.toml.part"));
    let text = format!(
        "# Written by `cargo xtask onnxruntime`.\n[env]\n{VARIABLE} = {{ value = \
         \".onnxruntime/{VERSION}/{LIBRARY}\", relative = true }}\n"
    );
    fs::write(&part, text).map_err(Error::file("write", &part))?;
    fs::rename(&part, &file).map_err(Error::file("create", &file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_and_the_library_are_of_one_version() {
        assert_eq!(FILES.wheel.requirement, format!("onnxruntime=={VERSION}"));
        assert!(LIBRARY.ends_with(VERSION) && FILES.members[0].path.ends_with(LIBRARY));
        // What cargo reads must name the library that lies there.
        let folder = tempfile::tempdir().unwrap();
        record(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join("cargo.toml")).unwrap();
        assert!(text.contains(&format!("\".onnxruntime/{VERSION}/{LIBRARY}\"")), "{text}");
        assert!(own().ends_with(format!(".onnxruntime/{VERSION}/{LIBRARY}")));
    }
}
