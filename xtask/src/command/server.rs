//! The server's program, and a folder of models for it.

use crate::combination::cargo::workspace;
use crate::combination::choice::name;
use crate::combination::table::{Backend, Combination};
use crate::error::Error;
use crate::fetch::cache;
use crate::machine::process::{cargo, output};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the program `skep` in release on a backend and returns its path. Cargo's progress goes to standard error.
pub(super) fn build(backend: Backend) -> Result<PathBuf, Error> {
    let mut command = cargo("build");
    command.args(["--release", "--package", "skep-server", "--no-default-features"]);
    command.args(["--features", &name(&backend)]);
    program(&mut command)
}

/// Builds it as the tests of a combination are built, with what they have built already.
pub(super) fn build_as_tested(combination: &Combination) -> Result<PathBuf, Error> {
    program(&mut workspace("build", combination))
}

fn program(command: &mut Command) -> Result<PathBuf, Error> {
    let messages = output(command.args(["--bin", "skep", "--message-format=json-render-diagnostics"]))?;
    let messages = String::from_utf8_lossy(&messages);
    let programs = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "skep" && message["target"]["kind"][0] == "bin");
    let mut programs = programs.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next().ok_or(Error::NoExecutable("skep"))
}

/// Makes a folder of links to these models, by name.
pub(super) fn folder(folder: &Path, models: &[(&str, &Path)]) -> Result<(), Error> {
    cache::remove(folder)?;
    fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    for (name, model) in models {
        let link = folder.join(name);
        symlink(model, &link).map_err(Error::file("create", &link))?;
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(model: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(model, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
