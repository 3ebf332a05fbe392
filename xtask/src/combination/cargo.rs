//! What cargo is asked for a combination.
//!
//! All steps of a combination select the same packages and features, because another selection would build
//! the dependencies again.

use crate::combination::choice;
use crate::combination::table::Combination;
use crate::error::Error;
use crate::machine::process::{cargo, output, tell_cores};
use std::path::PathBuf;
use std::process::Command;

/// What is optional in our packages and needs nothing of the machine: always built, linted and tested.
const FEATURES: &[&str] = &["skep-runtime-core/testing", "skep-stats/metrics"];
/// The same of packages that only the combinations with all packages concern.
const FEATURES_OF_ALL: &[&str] = &["skep-server/opentelemetry"];

/// A cargo command over all packages that a combination concerns, with its features. Programs that it starts find
/// the device's name in `SKEP_DEVICE`.
pub(crate) fn workspace(subcommand: &str, combination: &Combination) -> Command {
    let mut command = cargo(subcommand);
    command.args(combination.packages());
    let more = if combination.packages().is_empty() { FEATURES_OF_ALL } else { &[] };
    command.args(["--features", &[FEATURES, more, combination.features()].concat().join(",")]);
    command.env("SKEP_DEVICE", choice::name(&combination.device));
    combination.tell(&mut command);
    tell_cores(&mut command);
    command
}

/// Builds an example of `skep-tests` in release and returns the path of its program. Cargo's progress goes to
/// standard error, so that standard output stays the example's. Without a combination it has no backend.
pub(crate) fn example(name: &'static str, combination: Option<&Combination>) -> Result<PathBuf, Error> {
    let mut command = cargo("build");
    command
        .args(["--release", "--package", "skep-tests", "--example", name, "--no-default-features"])
        .arg("--message-format=json-render-diagnostics");
    if let Some(combination) = combination {
        command.args(["--features", &combination.features().join(",")]);
        combination.tell(&mut command);
    }
    let messages = output(&mut command)?;
    executable(&String::from_utf8_lossy(&messages), name).ok_or(Error::NoExecutable(name))
}

/// Finds the example's program in cargo's messages.
fn executable(messages: &str, example: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == example && message["target"]["kind"][0] == "example")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        let messages = r#"not json
{"reason":"compiler-artifact","target":{"name":"digits","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"embed","kind":["example"]},"executable":"/t/embed"}
{"reason":"compiler-artifact","target":{"name":"digits","kind":["example"]},"executable":"/t/digits"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "digits"), Some("/t/digits".into()));
        assert_eq!(executable(messages, "other"), None);
    }
}
