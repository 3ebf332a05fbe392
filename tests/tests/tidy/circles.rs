//! Files that import each other in a circle: none of them can be understood without the others.

use crate::Breach;
use crate::house::{Arrow, House, Target};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn circles(house: &House, folders: &[&str]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for of in house.crates(folders) {
        let arrows: Vec<_> = house.arrows(of).into_iter().filter(|arrow| inside(arrow).is_some()).collect();
        let mut to: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for arrow in &arrows {
            to.entry(&arrow.file).or_default().extend(inside(arrow));
        }
        let reach: BTreeMap<_, _> = to.keys().map(|file| (*file, reachable(&to, file))).collect();
        let reaches = |from: &str, file: &str| reach.get(from).is_some_and(|files| files.contains(file));
        // An arrow is part of a circle when there is a way back.
        let mut drawn: BTreeMap<(&str, &str), Vec<&Arrow>> = BTreeMap::new();
        for arrow in &arrows {
            if let Some(file) = inside(arrow).filter(|file| reaches(file, &arrow.file)) {
                drawn.entry((&arrow.file, file)).or_default().push(arrow);
            }
        }
        for ((from, to), arrows) in drawn {
            let mut paths: Vec<_> = arrows.iter().map(|arrow| format!("`{}`", arrow.path)).collect();
            paths.dedup();
            paths.truncate(3);
            let line = arrows.iter().map(|arrow| arrow.line).min().unwrap_or_default();
            let what = format!("a circle of files: {} leads to {to}, which leads back", paths.join(", "));
            breaches.push(Breach::new(from, line, what));
        }
    }
    breaches
}

/// The other file of the same crate, where there is one.
fn inside(arrow: &Arrow) -> Option<&str> {
    let package = |file: &str| file.split_once("/src/").map(|(package, _)| package.to_owned());
    match &arrow.to {
        Target::File { file, .. } if *file != arrow.file && package(file) == package(&arrow.file) => {
            Some(file)
        }
        _ => None,
    }
}

fn reachable<'a>(to: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = to.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = open.pop() {
        if found.insert(file) {
            open.extend(to.get(file).into_iter().flatten());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::{told, tree};

    fn breaches(b: &str) -> Vec<String> {
        let tree = tree(&[
            ("one/Cargo.toml", "[package]\nname = \"one\"\n"),
            ("one/src/lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub use c::C;\n"),
            ("one/src/a.rs", "use crate::b::B;\npub struct A;\n#[cfg(test)]\nmod tests { use super::A; }\n"),
            ("one/src/b.rs", b),
            ("one/src/c.rs", "pub struct C(crate::A);\n"),
        ]);
        told(&circles(&House::read(tree.path()), &["one"]))
    }

    #[test]
    fn a_face_that_hands_names_on_is_no_circle() {
        assert_eq!(breaches("pub struct B;\n"), [""; 0]);
    }

    #[test]
    fn every_arrow_of_a_circle_is_told() {
        let expected = [
            "one/src/a.rs:1: a circle of files: `crate::b::B` leads to one/src/b.rs, which leads back",
            "one/src/b.rs:2: a circle of files: `crate::C` leads to one/src/c.rs, which leads back",
            "one/src/c.rs:1: a circle of files: `crate::A` leads to one/src/a.rs, which leads back",
        ];
        assert_eq!(breaches("pub struct B;\nuse crate::C;\n"), expected);
    }
}
