//! The steps: what cargo is asked to do, for the workspace or for one combination.
//!
//! All steps of a combination select the same packages and features, because another selection would build
//! the dependencies again.

use crate::combos::{self, Combination, Use};
use crate::error::Error;
use crate::explore;
use crate::model;
use crate::process::{cargo, root, run, target, tell_cores};
use crate::summary::Summary;
use std::cell::LazyCell;
use std::env;
use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What is optional in our packages and needs nothing of the machine: always built, linted and tested.
const FEATURES: &[&str] = &["skep-runtime-core/testing", "skep-stats/metrics"];

/// The row of the summary for what does not depend on a combination.
const WORKSPACE: &str = "workspace";

/// Compiles and links every target.
pub(crate) fn build(combinations: &[&Combination], release: bool, summary: &mut Summary) {
    for combination in combinations {
        summary.step(combination, "build", Use::Build, || {
            let mut command = workspace("build", combination);
            command.arg("--all-targets").args(release.then_some("--release"));
            run(&mut command)
        });
    }
}

/// Runs every test of the workspace, `repeat` times or up to the first run that fails.
pub(crate) fn test(combinations: &[&Combination], repeat: NonZeroU32, summary: &mut Summary) {
    let model = LazyCell::new(model::folder);
    let step = if repeat == NonZeroU32::MIN { "test".to_owned() } else { format!("test × {repeat}") };
    for combination in combinations {
        let action = || repeat_test(combination, repeat.get(), model.as_ref().ok());
        let ran = summary.step(combination, &step, Use::Run, action);
        if ran && let Err(error) = &*model {
            summary.skip(combination, "test of real embeddings", &error.to_string());
        }
    }
}

fn repeat_test(combination: &Combination, runs: u32, model: Option<&PathBuf>) -> Result<(), Error> {
    for number in 1..=runs {
        let mut command = workspace("test", combination);
        command.arg("--no-fail-fast");
        if number > 1 {
            // The first run has tested the documentation, which cargo would compile again each time.
            command.arg("--tests");
        }
        match model {
            Some(folder) => command.env(model::VARIABLE, folder),
            None => command.env_remove(model::VARIABLE),
        };
        run(&mut command).map_err(|source| Error::Run { number, runs, source: Box::new(source) })?;
    }
    Ok(())
}

/// Format, clippy, and the dependencies' licences, sources and known faults.
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

/// The documentation of our own packages.
pub(crate) fn doc(combinations: &[&Combination], summary: &mut Summary) {
    for combination in combinations {
        summary.step(combination, "doc", Use::Check, || {
            run(workspace("doc", combination).arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"))
        });
    }
}

/// Some of the interleavings that `cargo xtask explore` goes through.
pub(crate) fn explore(summary: &mut Summary) {
    const SCHEDULES: NonZeroU32 = NonZeroU32::new(20_000).expect("it is not zero");
    summary.run(WORKSPACE, "explore", || explore::interleavings(SCHEDULES));
}

/// A cargo command over all packages that a combination concerns, with its features. Programs that it starts find
/// the device's name in `SKEP_DEVICE`.
pub(crate) fn workspace(subcommand: &str, combination: &Combination) -> Command {
    let mut command = cargo(subcommand);
    command.args(combination.packages());
    command.args(["--features", &[FEATURES, combination.features()].concat().join(",")]);
    command.env("SKEP_DEVICE", combos::name(&combination.device));
    combination.tell(&mut command);
    tell_cores(&mut command);
    command
}

fn deny(summary: &mut Summary) {
    let installed = cargo("deny").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
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
