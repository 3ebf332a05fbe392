//! The crates of a workspace with their modules, and where a path leads: to the file that has the item, however many
//! imports it is handed on by.

use crate::manifest::Manifest;
use crate::scan::{Scan, scan};
use crate::tree::{packages, read};
use std::collections::BTreeMap;
use std::path::Path;

/// All crates, without their tests.
pub(crate) struct House {
    crates: Vec<Crate>,
}

pub(crate) struct Crate {
    pub(crate) folder: String,
    /// As paths begin with it.
    name: String,
    modules: Vec<Module>,
    pub(crate) scans: BTreeMap<String, Scan>,
}

struct Module {
    parent: usize,
    file: String,
    /// Which module of the file's scan.
    part: usize,
    children: BTreeMap<String, usize>,
}

/// A file names something.
#[derive(Debug)]
pub(crate) struct Arrow {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// As it is written.
    pub(crate) path: String,
    pub(crate) to: Target,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// A file of the workspace, and the item in it, where the path goes that far.
    File { file: String, item: Option<String> },
    /// Something outside, by its whole path.
    Outside(String),
}

impl House {
    /// All packages that lie in a folder of the root or one below.
    pub(crate) fn read(root: &Path) -> Self {
        let crates = packages(root).into_iter().filter_map(|folder| Crate::read(root, folder));
        Self { crates: crates.collect() }
    }

    pub(crate) fn crates(&self, folders: &[&str]) -> impl Iterator<Item = &Crate> {
        self.crates.iter().filter(move |it| folders.contains(&&*it.folder))
    }

    pub(crate) fn all_arrows(&self) -> Vec<Arrow> {
        self.crates.iter().flat_map(|it| self.arrows(it)).collect()
    }

    pub(crate) fn arrows(&self, of: &Crate) -> Vec<Arrow> {
        let modules = (0..).zip(&of.modules);
        let paths = modules.flat_map(|(at, module)| of.part(module).paths.iter().map(move |path| (at, path)));
        let arrows = paths.map(|(at, path)| Arrow {
            file: of.modules[at].file.clone(),
            line: path.line,
            path: path.names.join("::"),
            to: self.resolve(of, at, &path.names, 0),
        });
        arrows.collect()
    }

    fn resolve(&self, of: &Crate, from: usize, names: &[String], depth: usize) -> Target {
        let outside = || Target::Outside(names.join("::"));
        let Some((first, rest)) = names.split_first() else { return outside() };
        // Imports that lead in a circle lead nowhere.
        if depth > 16 {
            return outside();
        }
        match &**first {
            "crate" => self.descend(of, 0, rest, depth),
            "self" => self.descend(of, from, rest, depth),
            "super" => {
                let (mut module, mut rest) = (of.modules[from].parent, rest);
                while let Some((_, after)) = rest.split_first().filter(|(name, _)| *name == "super") {
                    (module, rest) = (of.modules[module].parent, after);
                }
                self.descend(of, module, rest, depth)
            }
            name => {
                let module = &of.modules[from];
                if let Some(child) = module.children.get(name) {
                    return self.descend(of, *child, rest, depth);
                }
                match of.part(module).bindings.get(name) {
                    Some(path) if path.first().is_some_and(|first| first != name) => {
                        self.resolve(of, from, &[path, rest].concat(), depth + 1)
                    }
                    Some(path) if path.len() > 1 => self.outside(&[path, rest].concat(), depth),
                    _ => self.outside(names, depth),
                }
            }
        }
    }

    /// Goes on in a module: through its own modules, and what it hands on.
    fn descend(&self, of: &Crate, mut module: usize, mut names: &[String], depth: usize) -> Target {
        loop {
            let here = &of.modules[module];
            let Some((first, rest)) = names.split_first() else {
                return Target::File { file: here.file.clone(), item: None };
            };
            let part = of.part(here);
            if let Some(child) = here.children.get(first) {
                (module, names) = (*child, rest);
            } else if part.items.contains(first) {
                return Target::File { file: here.file.clone(), item: Some(first.clone()) };
            } else if let Some(path) = part.bindings.get(first) {
                return self.resolve(of, module, &[path, rest].concat(), depth + 1);
            } else {
                let star = part.stars.iter().map(|star| {
                    let path: Vec<_> = star.iter().chain(names).cloned().collect();
                    self.resolve(of, module, &path, depth + 1)
                });
                let found = star.into_iter().find(|to| matches!(to, Target::File { item: Some(_), .. }));
                // What a macro defines, for one, is not seen, and is this module's.
                return found.unwrap_or(Target::File { file: here.file.clone(), item: None });
            }
        }
    }

    /// Goes on in another crate, if it is one of ours.
    fn outside(&self, names: &[String], depth: usize) -> Target {
        match names
            .split_first()
            .and_then(|(name, rest)| Some((self.crates.iter().find(|it| it.name == *name)?, rest)))
        {
            Some((of, rest)) => self.descend(of, 0, rest, depth + 1),
            None => Target::Outside(names.join("::")),
        }
    }
}

impl Crate {
    fn read(root: &Path, folder: String) -> Option<Self> {
        let name = Manifest::read(root, &folder).name.replace('-', "_");
        let files = ["lib.rs", "main.rs"].map(|file| format!("{folder}/src/{file}"));
        let first = files.into_iter().find(|file| root.join(file).is_file())?;
        let mut house = Self { folder, name, modules: Vec::new(), scans: BTreeMap::new() };
        let source = format!("{}/src", house.folder);
        house.add(root, first, &source, 0);
        Some(house)
    }

    fn part(&self, module: &Module) -> &crate::scan::Module {
        &self.scans[&module.file].modules[module.part]
    }

    /// Adds a file's modules; `folder` is where the files of its own modules lie. Gives the number of the first.
    fn add(&mut self, root: &Path, file: String, folder: &str, parent: usize) -> usize {
        let scan = scan(&read(root, &file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let first = self.modules.len();
        let parts: Vec<_> = scan.modules.iter().map(|it| (it.name.clone(), it.files.clone())).collect();
        for (part, (name, _)) in parts.iter().enumerate() {
            // The outer module of one that is written into a file has been added before.
            let outer = name.len().checked_sub(1).map(|outside| &name[..outside]);
            let outer = outer.and_then(|outer| parts[..part].iter().rposition(|(name, _)| name == outer));
            let module = Module {
                parent: outer.map_or(parent, |outer| first + outer),
                file: file.clone(),
                part,
                children: BTreeMap::new(),
            };
            if let (Some(outer), Some(name)) = (outer, name.last()) {
                self.modules[first + outer].children.insert(name.clone(), first + part);
            }
            self.modules.push(module);
        }
        self.scans.insert(file, scan);
        for (part, (inner, names)) in parts.into_iter().enumerate() {
            let folder = [&[folder.to_owned()][..], &inner].concat().join("/");
            for name in names {
                let file = [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")];
                // Where it lies elsewhere, by an attribute, it is not ours to find.
                let Some(file) = file.into_iter().find(|file| root.join(file).is_file()) else { continue };
                let child = self.add(root, file, &format!("{folder}/{name}"), first + part);
                self.modules[first + part].children.insert(name, child);
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::made_up::tree;

    #[test]
    fn a_path_leads_to_the_file_that_has_the_item() {
        let tree = tree(&[
            ("one/Cargo.toml", "[package]\nname = \"our-one\"\n"),
            ("one/src/lib.rs", "mod a;\nmod b;\npub use a::Deep;\npub mod c { pub use crate::b::*; }\n"),
            ("one/src/a/mod.rs", "mod deep;\npub use deep::Deep;\n"),
            ("one/src/a/deep.rs", "pub struct Deep;\nuse super::super::b::Plain;\n"),
            ("one/src/b.rs", "pub struct Plain;\nuse std::time;\nfn f() { time::Instant::now(); }\n"),
            ("two/Cargo.toml", "[package]\nname = \"our-two\"\n"),
            (
                "two/src/main.rs",
                "use our_one::{Deep, c};\nuse our_one as one;\nfn f(_: c::Plain, _: one::b::Plain) {}\n",
            ),
        ]);
        let told: Vec<_> = House::read(tree.path())
            .all_arrows()
            .into_iter()
            .map(|arrow| {
                let to = match arrow.to {
                    Target::File { file, item } => [file, item.unwrap_or_default()].join(" "),
                    Target::Outside(path) => path,
                };
                format!("{}:{} {} -> {}", arrow.file, arrow.line, arrow.path, to.trim())
            })
            .collect();
        let expected = [
            "one/src/lib.rs:3 a::Deep -> one/src/a/deep.rs Deep",
            "one/src/lib.rs:4 crate::b -> one/src/b.rs",
            "one/src/a/mod.rs:2 deep::Deep -> one/src/a/deep.rs Deep",
            "one/src/a/deep.rs:2 super::super::b::Plain -> one/src/b.rs Plain",
            "one/src/b.rs:2 std::time -> std::time",
            "one/src/b.rs:3 time::Instant::now -> std::time::Instant::now",
            "two/src/main.rs:1 our_one::Deep -> one/src/a/deep.rs Deep",
            "two/src/main.rs:1 our_one::c -> one/src/lib.rs",
            "two/src/main.rs:2 our_one -> one/src/lib.rs",
            "two/src/main.rs:3 c::Plain -> one/src/b.rs Plain",
            "two/src/main.rs:3 one::b::Plain -> one/src/b.rs Plain",
        ];
        assert_eq!(told, expected);
    }
}
