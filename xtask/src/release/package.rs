//! The packages of this workspace: those that are published, and whether each tells of itself what a stranger asks.

use crate::error::Error;
use crate::machine::process::{cargo, output};
use serde_json::Value;

/// What is for this workspace only, and says so itself.
const NOT_PUBLISHED: [&str; 5] = ["skep-counts", "skep-explore", "skep-simulate", "skep-tests", "skep-xtask"];

/// What a package that is published tells of itself, as cargo calls it.
const TOLD: [&str; 6] = ["description", "license", "rust_version", "readme", "keywords", "categories"];

/// All packages of the workspace, as cargo knows them.
pub(crate) fn all() -> Result<Vec<Value>, Error> {
    let metadata = output(cargo("metadata").args(["--no-deps", "--format-version=1", "--offline"]))?;
    let metadata: Value = serde_json::from_slice(&metadata).unwrap_or_default();
    Ok(metadata["packages"].as_array().cloned().unwrap_or_default())
}

/// The names of those that are published.
pub(crate) fn published(packages: &[Value]) -> Vec<&str> {
    packages
        .iter()
        .filter(|package| is_published(package))
        .filter_map(|package| package["name"].as_str())
        .collect()
}

/// cargo has a list of registries there, which is empty where none may have the package.
fn is_published(package: &Value) -> bool {
    package["publish"].is_null()
}

/// Whether all packages tell what they have to.
pub(crate) fn check(packages: &[Value]) -> Result<(), Error> {
    let lacks: Vec<_> = packages.iter().flat_map(lacks).collect();
    if lacks.is_empty() { Ok(()) } else { Err(Error::Packages { lacks }) }
}

fn lacks(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    if NOT_PUBLISHED.contains(&name) {
        let lack = is_published(package).then(|| format!("{name} does not say `publish = false`"));
        return lack.into_iter().collect();
    }
    if !is_published(package) {
        return vec![format!("{name} says `publish = false`")];
    }
    let is_empty = |value: &Value| match value {
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        _ => true,
    };
    let told =
        TOLD.into_iter().filter(|key| is_empty(&package[key])).map(|key| format!("{name} has no {key}"));
    let docs = package["metadata"]["docs"]["rs"].is_null();
    told.chain(docs.then(|| format!("{name} has no `package.metadata.docs.rs`"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn our_packages_tell_what_they_have_to() {
        let packages = all().unwrap();
        check(&packages).unwrap();
        assert!(published(&packages).contains(&"skep-runtime-core"));
        assert!(!published(&packages).contains(&"skep-tests"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let told = json!({
            "name": "skep-pool", "publish": null, "description": "d", "license": "l", "rust_version": "1.95",
            "readme": "r", "keywords": ["k"], "categories": ["c"], "metadata": {"docs": {"rs": {}}},
        });
        check(std::slice::from_ref(&told)).unwrap();
        let mut silent = told.clone();
        (silent["readme"], silent["keywords"], silent["metadata"]) = (Value::Null, json!([]), Value::Null);
        let packages = [
            silent,
            json!({ "name": "skep-tests", "publish": null }),
            json!({ "name": "skep-stats", "publish": [] }),
        ];
        let Err(Error::Packages { lacks }) = check(&packages) else { panic!() };
        let expected = [
            "skep-pool has no readme",
            "skep-pool has no keywords",
            "skep-pool has no `package.metadata.docs.rs`",
            "skep-tests does not say `publish = false`",
            "skep-stats says `publish = false`",
        ];
        assert_eq!(lacks, expected);
    }
}
