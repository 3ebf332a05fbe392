//! Running other programs, cargo first of all.

use crate::error::Error;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// The cargo that started this program, in the workspace's folder.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand).current_dir(root());
    command
}

/// Whether cargo has this subcommand. Most are programs that may be missing.
pub(crate) fn has_subcommand(name: &str) -> bool {
    let asked = cargo(name).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

/// Tells a program that computes how many cores there are. Left to itself, candle counts them again at every
/// product of matrices, which takes longer than a small product.
pub(crate) fn tell_cores(command: &mut Command) -> &mut Command {
    const VARIABLE: &str = "RAYON_NUM_THREADS";
    if env::var_os(VARIABLE).is_none()
        && let Ok(cores) = std::thread::available_parallelism()
    {
        command.env(VARIABLE, cores.to_string());
    }
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> Result<PathBuf, Error> {
    let metadata = output(cargo("metadata").args(["--no-deps", "--format-version=1", "--offline"]))?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap_or_default();
    Ok(metadata["target_directory"].as_str().map_or_else(|| root().join("target"), PathBuf::from))
}

/// Versions of what is built here, from and with.
pub(crate) fn origin() -> String {
    let told = |program: &str, arguments: &[&str]| {
        let told = output(Command::new(program).args(arguments).current_dir(root()));
        told.map_or_else(
            |_| format!("{program} unknown"),
            |it| String::from_utf8_lossy(&it).trim().to_owned(),
        )
    };
    let commit = told("git", &["describe", "--always", "--dirty"]);
    // Programs run with this version of the C library, and newer ones.
    let libc = told("getconf", &["GNU_LIBC_VERSION"]);
    format!("skep {}, commit {commit}, {}, {libc}", env!("CARGO_PKG_VERSION"), told("rustc", &["--version"]))
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(|source| Error::Start { program: program(command), source })?;
    if status.success() { Ok(()) } else { Err(Error::Ended { program: program(command), status }) }
}

/// Runs a command to its end and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Error::Start { program: program(command), source })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Error::Ended { program: program(command), status: output.status })
    }
}

/// Becomes the command, so that signals (Ctrl-C above all) and the exit code are its own.
#[cfg(unix)]
pub(crate) fn replace(command: &mut Command) -> Result<ExitCode, Error> {
    use std::os::unix::process::CommandExt;
    let source = command.exec();
    Err(Error::Start { program: command.get_program().to_string_lossy().into_owned(), source })
}

/// Runs the command to its end, where one process cannot take another's place.
#[cfg(not(unix))]
pub(crate) fn replace(command: &mut Command) -> Result<ExitCode, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|source| Error::Start { program, source })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// What git answers in a folder.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> Result<String, Error> {
    let answer = output(Command::new("git").args(arguments).current_dir(folder))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The program and its first arguments (`cargo test --workspace`), as messages name it.
fn program(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_stem().unwrap_or(command.get_program());
    let words: Vec<_> =
        [name].into_iter().chain(command.get_args().take(2)).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspace() {
        assert!(root().join("xtask").join("Cargo.toml").is_file());
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = run(Command::new("skep-no-such-program").arg("now")).unwrap_err();
        assert!(error.told().starts_with("cannot start skep-no-such-program now: "), "{error}");
    }

    #[test]
    fn a_program_that_fails_is_named_with_its_status() {
        let error = run(cargo("no-such-subcommand").stderr(Stdio::null())).unwrap_err();
        assert!(error.to_string().starts_with("cargo no-such-subcommand ended with exit "), "{error}");
    }
}
