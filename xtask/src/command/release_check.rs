//! `cargo xtask release-check`: what a release promises, as far as the tools for it are installed.

use crate::error::Error;
use crate::machine::process::{cargo, has_subcommand, run};
use crate::release::{package, tool};
use crate::report::summary::{Summary, WORKSPACE};
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct ReleaseCheck {
    /// What the last release was built from: the newest tag `v…` unless given
    #[arg(long, value_name = "REVISION")]
    since: Option<String>,
    /// Leave out building each package from its archive, which takes minutes
    #[arg(long)]
    no_verify: bool,
    /// Fail when a step is skipped
    #[arg(long)]
    strict: bool,
}

impl ReleaseCheck {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let packages = package::all()?;
        let published = package::published(&packages);
        let mut summary = Summary::default();
        summary.run(WORKSPACE, "metadata", || package::check(&packages));
        summary.run(WORKSPACE, "package", || self.package(&published));
        external_types(&published, &mut summary);
        self.semver(&published, &mut summary);
        summary.end(self.strict)
    }

    /// Packs all of them together, as they depend on each other's new versions.
    fn package(&self, packages: &[&str]) -> Result<(), Error> {
        let mut command = cargo("package");
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        // Without libtorch, the backend of that name can be compiled and no more.
        command.args(["--features", "skep-backend-tch/doc-only"]);
        run(command.args(self.no_verify.then_some("--no-verify")))
    }

    fn semver(&self, packages: &[&str], summary: &mut Summary) {
        let step = "semver";
        if !has_subcommand("semver-checks") {
            return summary.skip(WORKSPACE, step, "cargo install --locked cargo-semver-checks");
        }
        match self.since.clone().or_else(tool::last_release) {
            Some(since) => summary.run(WORKSPACE, step, || tool::semver(packages, &since)),
            None => summary.skip(WORKSPACE, step, "there is no release yet: --since names another revision"),
        }
    }
}

fn external_types(packages: &[&str], summary: &mut Summary) {
    let step = "external types";
    if !has_subcommand("check-external-types") {
        return summary.skip(WORKSPACE, step, "cargo install --locked cargo-check-external-types");
    }
    for package in packages {
        summary.run(package, step, || tool::external_types(package));
    }
}
