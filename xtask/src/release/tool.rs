//! The tools that read interfaces. All of them read what rustdoc writes as JSON, which it does on a stable compiler
//! only where it is told that it is not one.

use crate::error::Error;
use crate::machine::process::{cargo, git, root, run};
use std::process::Command;

/// Whether foreign types in a package's interface are those that its manifest allows, under
/// `package.metadata.cargo_check_external_types`.
pub(crate) fn external_types(package: &str) -> Result<(), Error> {
    let mut command = bootstrapped("check-external-types");
    command.arg("--manifest-path").arg(root().join(folder(package)).join("Cargo.toml"));
    run(command.args(features(package)))
}

/// Whether what has changed since a revision fits the packages' versions.
pub(crate) fn semver(packages: &[&str], since: &str) -> Result<(), Error> {
    let mut command = bootstrapped("semver-checks");
    command.args(["--baseline-rev", since]);
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)
}

/// The revision of the last release: the newest tag that is a version.
pub(crate) fn last_release() -> Option<String> {
    let tags = git(root(), &["tag", "--list", "v[0-9]*", "--sort=-version:refname"]).ok()?;
    tags.lines().next().map(str::to_owned)
}

fn bootstrapped(subcommand: &str) -> Command {
    let mut command = cargo(subcommand);
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// As documentation is built of it, where nothing of a vendor is installed.
fn features(package: &str) -> &'static [&'static str] {
    match package {
        "skep-runtime-core" | "skep-stats" => &["--all-features"],
        "skep-backend-tch" => &["--features", "doc-only"],
        _ => &[],
    }
}

/// A package lies in the folder of its name.
fn folder(package: &str) -> &str {
    package.strip_prefix("skep-").unwrap_or(package)
}
