//! Dependencies that must not be, and those that nobody needs.

use crate::Breach;
use crate::house::House;
use crate::manifest::{Kind, Manifest};
use crate::scan::{Scan, scan};
use crate::tree::{files, packages, read};
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Dependencies of our packages on others of ours that the table does not allow.
pub(crate) fn forbidden(root: &Path, allowed: &[(&str, &[&str])]) -> Vec<Breach> {
    let packages: BTreeMap<_, _> =
        packages(root).into_iter().map(|folder| (Manifest::read(root, &folder).name, folder)).collect();
    let mut breaches = Vec::new();
    for folder in packages.values() {
        let Some((_, allowed)) = allowed.iter().find(|(of, _)| of == folder) else { continue };
        for dependency in Manifest::read(root, folder).dependencies {
            let Some(to) = packages.get(&dependency.name) else { continue };
            if to != folder && !allowed.contains(&&**to) {
                let what = format!("{folder} must not depend on {to}");
                breaches.push(Breach::new(&format!("{folder}/Cargo.toml"), dependency.line, what));
            }
        }
    }
    breaches
}

/// Dependencies that no source of their package names. A package depends on itself to have its own features in tests.
pub(crate) fn unused(root: &Path, house: &House, unnamed: &[(&str, &str)]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for folder in packages(root) {
        let manifest = Manifest::read(root, &folder);
        let script = Names::of(root, &[format!("{folder}/build.rs")]);
        let anywhere = LazyCell::new(|| Names::of(root, &files(root, &folder, ".rs")));
        let code = names_in_code(house, &folder);
        for dependency in &manifest.dependencies {
            let (name, path) = (&*dependency.name, dependency.name.replace('-', "_"));
            let named = match dependency.kind {
                // Programs of a package that has no library are found by cargo alone.
                Kind::Normal => code.contains(&path) || script.has(&path),
                Kind::Development => anywhere.has(&path),
                Kind::Build => script.has(&path),
            };
            if !named && name != manifest.name && !unnamed.contains(&(&folder, name)) {
                let what = format!("no source of {folder} names the dependency `{name}`");
                breaches.push(Breach::new(&format!("{folder}/Cargo.toml"), dependency.line, what));
            }
        }
    }
    breaches
}

/// The first names of all paths in what is compiled for others, which tests are not.
fn names_in_code(house: &House, folder: &str) -> BTreeSet<String> {
    let folder = [folder];
    let scans = house.crates(&folder).flat_map(|it| it.scans.values());
    let paths = scans.flat_map(|scan| &scan.modules).flat_map(|module| &module.paths);
    paths.filter_map(|path| path.names.first().cloned()).collect()
}

/// What files name anywhere, the examples in their documentation included.
struct Names(Vec<Scan>);

impl Names {
    fn of(root: &Path, files: &[String]) -> Self {
        let files = files.iter().filter(|file| root.join(file).is_file());
        Self(
            files
                .map(|file| scan(&read(root, file)).unwrap_or_else(|error| panic!("{file}: {error}")))
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|scan| scan.named.contains(name) || scan.docs.contains(&format!("{name}::")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{told, tree};

    const MANIFEST: &str = r#"[package]
name = "one"

[dependencies]
used-here = "1"
only-in-tests = "1"
unused = "1"

[dev-dependencies]
one = { path = ".", features = ["testing"] }
only-in-tests = "1"
only-in-docs = "1"
unused-too = "1"

[build-dependencies]
builds = "1"
never = "1"
"#;

    #[test]
    fn what_nobody_names_is_found_and_tests_do_not_count_for_others() {
        let tree = tree(&[
            ("one/Cargo.toml", MANIFEST),
            ("one/build.rs", "fn main() { builds::all() }\n"),
            (
                "one/src/lib.rs",
                "//! `unused_too` is a word, [only_in_docs::X] an example.\nuse used_here as _;\n\
                 #[cfg(test)]\nmod tests { use only_in_tests::X; }\n",
            ),
        ]);
        let expected = [
            "one/Cargo.toml:6: no source of one names the dependency `only-in-tests`",
            "one/Cargo.toml:7: no source of one names the dependency `unused`",
            "one/Cargo.toml:13: no source of one names the dependency `unused-too`",
            "one/Cargo.toml:17: no source of one names the dependency `never`",
        ];
        assert_eq!(told(&unused(tree.path(), &House::read(tree.path()), &[])), expected);
        assert_eq!(told(&unused(tree.path(), &House::read(tree.path()), &[("one", "unused")])).len(), 3);
    }

    #[test]
    fn a_crate_of_ours_that_must_not_be_known_is_found() {
        let package = |name: &str, rest: &str| format!("[package]\nname = \"{name}\"\n\n{rest}");
        let tree = tree(&[
            ("low/Cargo.toml", &package("our-low", "[dev-dependencies]\nour-high.workspace = true\n")),
            (
                "high/Cargo.toml",
                &package("our-high", "[dependencies]\nour-low.workspace = true\nserde = \"1\"\n"),
            ),
            ("tests/Cargo.toml", &package("our-tests", "[dependencies]\nour-low = { path = \"../low\" }\n")),
        ]);
        let allowed: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
        assert_eq!(told(&forbidden(tree.path(), allowed)), ["low/Cargo.toml:5: low must not depend on high"]);
    }
}
