//! Files of a tree, by their path from its root, with `/` whatever the system writes.

use std::fs;
use std::path::Path;

/// All files under a folder whose names end so, in order. Folders with a manifest of their own below it are other
/// packages', and what begins with a dot or is built is nobody's.
pub(crate) fn files(root: &Path, folder: &str, ending: &str) -> Vec<String> {
    let mut files = Vec::new();
    collect(root, folder, ending, &mut files);
    files.sort();
    files
}

fn collect(root: &Path, folder: &str, ending: &str, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if entry.path().is_dir() {
            let is_ours = !name.starts_with('.') && name != "target";
            if is_ours && !entry.path().join("Cargo.toml").is_file() {
                collect(root, &path, ending, files);
            }
        } else if name.ends_with(ending) {
            files.push(path);
        }
    }
}

/// The folders that hold a package, down to the second level: ours lie no deeper.
pub(crate) fn packages(root: &Path) -> Vec<String> {
    let folders = |of: &str| {
        let entries = fs::read_dir(root.join(of)).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.path().is_dir());
        let names: Vec<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.into_iter().filter(|name| !name.starts_with('.') && name != "target")
    };
    let first: Vec<_> = folders("").collect();
    let second = first.iter().flat_map(|folder| folders(folder).map(move |name| format!("{folder}/{name}")));
    let mut packages: Vec<_> = first.iter().cloned().chain(second).collect();
    packages.retain(|folder| root.join(folder).join("Cargo.toml").is_file());
    packages.sort();
    packages
}

/// The text of a file; a test reads only what it has found.
pub(crate) fn read(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
