//! Libraries to link with where the real ones are not: the driver's, which only a machine with a GPU has, and
//! those of CUDA that are too large to fetch for their names alone.
//!
//! Each has the symbols that cudarc, through which candle calls CUDA, declares for it, and the name under which a
//! program that was linked with it asks for the real one when it starts. None of them is ever run.

use crate::error::Error;
use crate::fetch::cache;
use crate::machine::process::{cargo, output, run};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library of which the linker has to see the names.
struct Library {
    /// As the linker asks for it: `-lcuda`.
    name: &'static str,
    /// As a program asks for it, in CUDA 13.
    soname: &'static str,
    /// The module of cudarc that declares it.
    module: &'static str,
}

const LIBRARIES: [Library; 5] = [
    Library { name: "cuda", soname: "libcuda.so.1", module: "driver" },
    Library { name: "nvrtc", soname: "libnvrtc.so.13", module: "nvrtc" },
    Library { name: "curand", soname: "libcurand.so.10", module: "curand" },
    Library { name: "cublas", soname: "libcublas.so.13", module: "cublas" },
    Library { name: "cublasLt", soname: "libcublasLt.so.13", module: "cublaslt" },
];

/// Holds the version of cudarc whose symbols the stubs have.
const MARK: &str = "cudarc-version";

/// The folder `stubs` in `lib`, made anew where it is for another cudarc.
pub(crate) fn get(lib: &Path) -> Result<PathBuf, Error> {
    let cudarc = Cudarc::locate()?;
    let is_whole = |folder: &Path| fs::read_to_string(folder.join(MARK)).is_ok_and(|it| it == cudarc.version);
    cache::whole(lib, "stubs", is_whole, |work| {
        eprintln!("making libraries to link with, for cudarc {}", cudarc.version);
        let kept = work.join("kept");
        fs::create_dir(&kept).map_err(Error::file("create", &kept))?;
        for library in &LIBRARIES {
            let declared = cudarc.folder.join("src").join(library.module).join("sys/mod.rs");
            let declared = fs::read_to_string(&declared).map_err(Error::file("read", &declared))?;
            let code = work.join(format!("{}.c", library.name));
            fs::write(&code, source(&symbols(&declared))).map_err(Error::file("write", &code))?;
            run(Command::new("cc")
                .args(["-shared", "-nostdlib", "-o"])
                .arg(kept.join(format!("lib{}.so", library.name)))
                .arg(format!("-Wl,-soname,{}", library.soname))
                .arg(&code))?;
        }
        let mark = kept.join(MARK);
        fs::write(&mark, &cudarc.version).map_err(Error::file("write", &mark))?;
        Ok(kept)
    })
}

/// The package whose declarations decide.
#[derive(Debug, PartialEq)]
struct Cudarc {
    version: String,
    folder: PathBuf,
}

impl Cudarc {
    /// The one that candle uses here.
    fn locate() -> Result<Self, Error> {
        let features = "--features=skep-backend-candle/cuda";
        let metadata = output(cargo("metadata").args(["--locked", "--format-version=1", features]))?;
        Self::among(&serde_json::from_slice(&metadata).unwrap_or_default()).ok_or(Error::NoCudarc)
    }

    fn among(metadata: &Value) -> Option<Self> {
        let package = metadata["packages"].as_array()?.iter().find(|package| package["name"] == "cudarc")?;
        let manifest = Path::new(package["manifest_path"].as_str()?);
        Some(Self { version: package["version"].as_str()?.to_owned(), folder: manifest.parent()?.to_owned() })
    }
}

/// The foreign functions that a module of cudarc declares, which are the indented ones without a body of their own.
fn symbols(module: &str) -> BTreeSet<&str> {
    let declared = module.lines().filter(|line| line.starts_with(' ') && line.trim_end().ends_with(';'));
    declared.filter_map(|line| Some(line.trim_start().strip_prefix("fn ")?.split_once('(')?.0)).collect()
}

/// A C file that defines them.
fn source(symbols: &BTreeSet<&str>) -> String {
    symbols.iter().flat_map(|symbol| ["void ", symbol, "(void) {}\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = r#"
pub unsafe fn curandCreateGenerator(generator: *mut curandGenerator_t) -> curandStatus_t {
    #[cfg(feature = "dynamic-loading")]
    {
        type _F = unsafe extern "C" fn(*mut curandGenerator_t) -> curandStatus_t;
    }
    #[cfg(not(feature = "dynamic-loading"))]
    {
        extern "C" {
            fn curandCreateGenerator(generator: *mut curandGenerator_t) -> curandStatus_t;
        }
        curandCreateGenerator(generator)
    }
}
    fn default() -> Self {
"#;

    #[test]
    fn only_foreign_functions_become_symbols() {
        let symbols = symbols(MODULE);
        assert_eq!(symbols, BTreeSet::from(["curandCreateGenerator"]));
        assert_eq!(source(&symbols), "void curandCreateGenerator(void) {}\n");
    }

    #[test]
    fn cudarc_is_found_among_the_packages() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "candle-core", "version": "0.11.1", "manifest_path": "/r/candle-core/Cargo.toml" },
            { "name": "cudarc", "version": "0.19.10", "manifest_path": "/r/cudarc/Cargo.toml" },
        ]});
        let expected = Cudarc { version: "0.19.10".to_owned(), folder: "/r/cudarc".into() };
        assert_eq!(Cudarc::among(&metadata), Some(expected));
        assert_eq!(Cudarc::among(&serde_json::json!({ "packages": [] })), None);
    }
}
