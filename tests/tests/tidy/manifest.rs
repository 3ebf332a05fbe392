//! What a `Cargo.toml` says of dependencies, with the lines where it says so: our own are plain enough to be read line
//! by line.

use crate::tree::read;
use std::path::Path;

#[derive(Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Normal,
    Development,
    Build,
}

impl Manifest {
    pub(crate) fn read(root: &Path, folder: &str) -> Self {
        Self::parse(&read(root, &format!("{folder}/Cargo.toml")))
    }

    fn parse(text: &str) -> Self {
        let mut manifest = Self::default();
        let mut section = String::new();
        for (line, text) in (1..).zip(text.lines()) {
            let header = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if let Some(header) = header {
                header.trim_matches(['[', ']']).clone_into(&mut section);
                continue;
            }
            let Some((key, value)) = text.split_once('=').filter(|_| !text.starts_with([' ', '#'])) else {
                continue;
            };
            // `name.workspace = true` has a key of two words.
            let key = key.trim().split('.').next().unwrap_or_default();
            if section == "package" && key == "name" {
                value.trim().trim_matches('"').clone_into(&mut manifest.name);
            } else if let Some(kind) = kind(&section) {
                manifest.dependencies.push(Dependency { name: key.to_owned(), kind, line });
            }
        }
        manifest
    }
}

/// What a section, also that of a target, lists.
fn kind(section: &str) -> Option<Kind> {
    match section.rsplit('.').next()? {
        "dependencies" if section != "workspace.dependencies" => Some(Kind::Normal),
        "dev-dependencies" => Some(Kind::Development),
        "build-dependencies" => Some(Kind::Build),
        _ => None,
    }
}

#[test]
fn dependencies_are_read_with_their_lines() {
    let manifest = Manifest::parse(
        r#"[package]
name = "our-pool"

[dependencies]
# a = "1"
b.workspace = true
c-d = { version = "1", features = [
    "e",
] }

[target.'cfg(shuttle)'.dev-dependencies]
f = "1"

[build-dependencies]
g = "1"

[features]
h = []
"#,
    );
    let told: Vec<_> = manifest.dependencies.iter().map(|it| (&*it.name, it.kind, it.line)).collect();
    assert_eq!(manifest.name, "our-pool");
    assert_eq!(
        told,
        [
            ("b", Kind::Normal, 6),
            ("c-d", Kind::Normal, 7),
            ("f", Kind::Development, 12),
            ("g", Kind::Build, 15)
        ]
    );
}
