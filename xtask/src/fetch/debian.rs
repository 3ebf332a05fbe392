//! Programs of Debian's packages, for steps that need one.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The path of a program. In CI its package is installed where it is missing; elsewhere the machine is left as it is, and
/// the reason says what to install.
pub(crate) fn program(name: &str, package: &str) -> Result<PathBuf, String> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    if env::var_os("CI").is_some() {
        install(package);
    }
    find(name).ok_or_else(|| format!("{name} is not installed: apt-get install {package}"))
}

fn find(name: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    // Where programs of administrators are, which the path of others leaves out.
    let all = env::split_paths(&paths).chain(["/usr/sbin".into()]);
    all.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// What comes of it is seen by looking for the program.
fn install(package: &str) {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-q", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if apt(&["update"]) {
        apt(&["install", "--no-install-recommends", package]);
    }
}
