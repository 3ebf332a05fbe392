//! What cargo builds of a combination and a bundle holds.

use crate::bundle::manifest::{Kind, Program};
use crate::combination::cargo::workspace;
use crate::combination::table::Combination;
use crate::demos::DEMOS;
use crate::error::Error;
use crate::machine::process::output;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What cargo builds and a bundle leaves out: targets of a package, by folder and name, and why.
pub(crate) const LEFT_OUT: [(&str, &str, &str); 3] = [
    ("xtask", "skep-xtask", "unit tests of xtask: they start cargo and pip"),
    ("tests", "listed", "test `listed`: it reads the sources"),
    ("tests", "tidy", "test `tidy`: it reads the sources"),
];

/// Builds all targets, optimised, and gives those to pack with their files.
pub(crate) fn build(combination: &Combination) -> Result<Vec<(Program, PathBuf)>, Error> {
    let mut command = workspace("build", combination);
    command.args(["--release", "--all-targets", "--message-format=json-render-diagnostics"]);
    let messages = output(&mut command)?;
    Ok(programs(&String::from_utf8_lossy(&messages)))
}

/// The programs among cargo's messages, one per line.
fn programs(messages: &str) -> Vec<(Program, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs: Vec<_> = messages.filter_map(|message| program(&message)).collect();
    programs.sort_by_key(|(program, _)| program.file());
    programs
}

fn program(message: &Value) -> Option<(Program, PathBuf)> {
    let file = PathBuf::from(message["executable"].as_str()?);
    let package = Path::new(message["manifest_path"].as_str()?).parent()?.file_name()?.to_str()?;
    let target = message["target"]["name"].as_str()?;
    if LEFT_OUT.iter().any(|(folder, name, _)| (*folder, *name) == (package, target)) {
        return None;
    }
    let is_test = message["profile"]["test"] == true;
    let (kind, name) = match message["target"]["kind"][0].as_str()? {
        "example" if DEMOS.contains(&target) && !is_test => (Kind::Demo, target.to_owned()),
        "bench" => (Kind::Bench, format!("{package} {target}")),
        "test" => (Kind::Test, format!("{package} {target}")),
        "lib" if is_test => (Kind::Test, package.to_owned()),
        _ => return None,
    };
    Some((Program { kind, name }, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart_by_what_they_are_for() {
        let message = |package: &str, kind: &str, name: &str, test: bool| {
            serde_json::json!({
                "reason": "compiler-artifact",
                "manifest_path": format!("/w/{package}/Cargo.toml"),
                "target": { "name": name, "kind": [kind] },
                "profile": { "test": test },
                "executable": format!("/t/{name}"),
            })
            .to_string()
        };
        let messages = [
            "not json".to_owned(),
            r#"{"reason":"compiler-artifact","target":{"name":"skep_pool","kind":["lib"]},"executable":null}"#.into(),
            message("pool", "lib", "skep_pool", true),
            message("tests", "test", "candle", true),
            message("tests", "test", "listed", true),
            message("tests", "bench", "device", true),
            message("tests", "example", "digits", false),
            message("stats", "example", "prometheus", false),
            message("xtask", "bin", "skep-xtask", true),
        ];
        let found: Vec<_> = programs(&messages.join("\n")).into_iter().map(|(it, _)| it.file()).collect();
        assert_eq!(found, ["bench-tests-device", "demo-digits", "test-pool", "test-tests-candle"]);
    }
}
