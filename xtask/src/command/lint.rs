//! `cargo xtask lint`: format, clippy, and the dependencies' licences, sources and known faults.

use crate::combination::cargo::workspace;
use crate::combination::table::{Combination, Use};
use crate::command::selection::Selection;
use crate::error::Error;
use crate::machine::process::{cargo, has_subcommand, root, run, target};
use crate::report::summary::{Summary, WORKSPACE};
use clap::Args;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Lint {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

impl Lint {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let mut summary = Summary::default();
        lint(&self.selection.combinations(), &mut summary);
        summary.end(self.selection.strict)
    }
}

pub(crate) fn lint(combinations: &[&Combination], summary: &mut Summary) {
    summary.run(WORKSPACE, "fmt", || run(cargo("fmt").args(["--all", "--check"])));
    // The comparison is a workspace of its own, which nothing else here would miss.
    let comparison = root().join("tests").join("compare").join("Cargo.toml");
    summary.run(WORKSPACE, "clippy of the comparison", || {
        let mut command = cargo("clippy");
        // The same target folder: most of what it depends on is checked there as well.
        command.args(["--locked", "--all-targets", "--target-dir"]).arg(target()?);
        run(command.arg("--manifest-path").arg(&comparison).args(["--", "-D", "warnings"]))
    });
    for combination in combinations {
        summary.step(combination, "clippy", Use::Check, || {
            run(workspace("clippy", combination).args(["--all-targets", "--", "-D", "warnings"]))
        });
    }
    deny(summary);
}

fn deny(summary: &mut Summary) {
    if !has_subcommand("deny") {
        return summary.skip(WORKSPACE, "deny", "cargo-deny is not installed: cargo install cargo-deny");
    }
    let check = ["check", "--hide-inclusion-graph"];
    summary.run(WORKSPACE, "deny", || run(cargo("deny").args(check).args(["licenses", "bans", "sources"])));
    // Only this check needs a network, for its list; it makes do with the one that was fetched last.
    if has_advisories() {
        summary.run(WORKSPACE, "advisories", || {
            run(cargo("deny").arg("--offline").args(check).arg("advisories"))
        });
    } else {
        summary.skip(WORKSPACE, "advisories", "no list of advisories on this machine: cargo deny fetch");
    }
}

/// Whether cargo-deny has ever fetched the list of known faults in published crates.
fn has_advisories() -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    let folders = home.and_then(|home| fs::read_dir(home.join("advisory-dbs")).ok());
    folders.is_some_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir())))
}
