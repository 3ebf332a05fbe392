//! The candle backend of text-embeddings-inference, built from a checkout of its sources: they are in no registry.
//!
//! Its crates are copied without what is for GPUs, whose libraries would have to be fetched from elsewhere, and with
//! candle from the registry instead of a commit of candle's repository.

use crate::error::Error;
use crate::machine::process::{cargo, root, run};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that only builds for GPUs need.
const LEFT_OUT: &[&str] = &[
    "accelerate-src",
    "intel-mkl-src",
    "candle-flash-attn",
    "candle-flash-attn-v1",
    "candle-cublaslt",
    "candle-index-select-cu",
    "candle-layer-norm",
    "candle-rotary",
];

/// Features that its sources name.
const FEATURES: &[&str] = &["accelerate", "metal", "mkl", "cuda", "flash-attn-v1", "flash-attn"];

const OURS: &str = "[package]
name = \"skep-compare-tei\"
version = \"0.1.0\"
edition = \"2024\"

[[bin]]
name = \"skep-compare-tei\"
path = \"main.rs\"

[dependencies]
text-embeddings-backend-candle = { path = \"../backends/candle\" }
text-embeddings-backend-core = { path = \"../backends/core\" }
tokenizers = { version = \"0.23\", default-features = false, features = [\"fancy-regex\"] }
serde_json = \"1.0\"
mimalloc = { version = \"0.1\", default-features = false }
";

/// Builds the program, optimised, and returns its path.
pub(crate) fn build(checkout: &Path, target: &Path) -> Result<PathBuf, Error> {
    let folder = target.join("tei");
    for part in ["backends/candle", "backends/core"] {
        copy(&checkout.join(part), &folder.join(part))?;
    }
    let manifest = read(&checkout.join("Cargo.toml"))?;
    write(&folder.join("Cargo.toml"), &workspace(&manifest))?;
    let manifest = read(&checkout.join("backends/candle/Cargo.toml"))?;
    write(&folder.join("backends/candle/Cargo.toml"), &backend(&manifest))?;
    fs::create_dir_all(folder.join("ours")).map_err(Error::file("create", &folder))?;
    write(&folder.join("ours/Cargo.toml"), OURS)?;
    let main = read(&root().join("tests/compare/tei/main.rs"))?;
    write(&folder.join("ours/main.rs"), &main)?;

    let mut command = cargo("build");
    command.args(["--release", "--package", "skep-compare-tei", "--manifest-path"]);
    run(command.arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&folder))?;
    Ok(folder.join("release").join("skep-compare-tei").with_extension(env::consts::EXE_EXTENSION))
}

/// The workspace's manifest with two of its members and ours, without what is left out, and without patches.
fn workspace(manifest: &str) -> String {
    let shared = manifest.find("[workspace.package]").map_or("", |at| &manifest[at..]);
    let shared = shared.split("[patch.crates-io]").next().unwrap_or_default();
    let members =
        "[workspace]\nmembers = [\"backends/candle\", \"backends/core\", \"ours\"]\nresolver = \"2\"\n\n";
    format!("{members}{}", without(shared))
}

/// The backend's manifest without what is left out, and without what its own tests need.
fn backend(manifest: &str) -> String {
    let tests = manifest.split_once("[dev-dependencies]");
    let (before, after) = tests.unwrap_or((manifest, ""));
    let build = after.find("[build-dependencies]").map_or("", |at| &after[at..]);
    let build = build.split("[features]").next().unwrap_or_default();
    let features: Vec<String> = FEATURES.iter().map(|name| format!("{name} = []\n")).collect();
    format!("{}{build}[features]\n{}", without(before), features.concat())
}

fn without(manifest: &str) -> String {
    let kept = manifest.lines().filter(|line| {
        let name = line.split('=').next().unwrap_or_default().trim();
        !LEFT_OUT.contains(&name)
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

fn read(file: &Path) -> Result<String, Error> {
    fs::read_to_string(file).map_err(Error::file("read", file))
}

/// Writes only what is new, so that cargo builds only what has changed.
fn write(file: &Path, text: &str) -> Result<(), Error> {
    if fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(file, text).map_err(Error::file("write", file))
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::file("create", to))?;
    for entry in fs::read_dir(from).map_err(Error::file("read", from))? {
        let entry = entry.map_err(Error::file("read", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else if from.file_name().is_some_and(|name| name != "Cargo.toml") || !to.exists() {
            write(&to, &read(&from)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_gpus_is_left_out() {
        let manifest = "[workspace]\nmembers = [\"router\"]\n\n[workspace.package]\nversion = \"1.9.3\"\n\n\
                        [workspace.dependencies]\ncandle = \"0.8\"\ncandle-rotary = { version = \"0.0.1\" }\n\n\
                        [patch.crates-io]\ncandle = { git = \"x\" }\n";
        let made = workspace(manifest);
        assert!(
            made.starts_with("[workspace]\nmembers = [\"backends/candle\", \"backends/core\", \"ours\"]")
        );
        assert!(made.contains("version = \"1.9.3\"") && made.contains("candle = \"0.8\"\n"));
        assert!(!made.contains("rotary") && !made.contains("git"), "{made}");
        let manifest = "[dependencies]\nanyhow = \"1\"\nintel-mkl-src = { optional = true }\n\n[dev-dependencies]\n\
                        insta = { git = \"x\" }\n\n[build-dependencies]\nanyhow = \"1\"\n\n[features]\nmkl = [\"dep:y\"]\n";
        let made = backend(manifest);
        assert!(made.contains("[build-dependencies]\nanyhow") && made.contains("mkl = []\n"), "{made}");
        assert!(!made.contains("intel") && !made.contains("git") && !made.contains("dep:"), "{made}");
    }
}
