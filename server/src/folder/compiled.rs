//! Files that are models by themselves, as `PyTorch` writes them.

use crate::folder::error::PlanError;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// How their names end, and the kinds of their blocks.
const FILES: [(&str, &str); 2] = [("pt", "torch_script"), ("pt2", "package")];
/// The kind of those that do not say what they take.
pub(crate) const SILENT: &str = "torch_script";

/// The kind of the block in a file; `None` if it is no such file.
pub(crate) fn kind(file: &Path) -> Option<&'static str> {
    let ends = |(end, _): &&(&str, &str)| file.extension() == Some(OsStr::new(end));
    FILES.iter().find(ends).map(|(_, kind)| *kind)
}

/// The one such file of a folder; `None` if there is none.
pub(crate) fn alone_in(folder: &Path) -> Result<Option<PathBuf>, PlanError> {
    let unreadable = |source| PlanError::Unreadable { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if kind(&path).is_some() && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if let [first, second, ..] = &files[..] {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(PlanError::Several { path: folder.to_owned(), files: [name(first), name(second)] });
    }
    Ok(files.pop())
}
