//! Files that nobody reads in one sitting.

use crate::Breach;
use crate::tree::{files, read};
use std::path::Path;

pub(crate) fn too_long(root: &Path, folders: &[&str], longest: usize) -> Vec<Breach> {
    let files = folders.iter().flat_map(|folder| files(root, folder, ".rs"));
    let lines = files.map(|file| (read(root, &file).lines().count(), file));
    lines
        .filter(|(lines, _)| *lines > longest)
        .map(|(lines, file)| {
            Breach::new(&file, lines, format!("a file has at most {longest} lines, not {lines}"))
        })
        .collect()
}

#[test]
fn a_file_that_is_a_line_too_long_is_found() {
    let text = |lines: usize| "//\n".repeat(lines);
    let tree = crate::made_up::tree(&[("a/src/short.rs", &text(4)), ("a/src/b/long.rs", &text(5))]);
    let told = crate::made_up::told(&too_long(tree.path(), &["a", "none"], 4));
    assert_eq!(told, ["a/src/b/long.rs:5: a file has at most 4 lines, not 5"]);
}
