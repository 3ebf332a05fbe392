//! Small trees that break a rule.

use std::fs;
use tempfile::TempDir;

/// A folder with these files.
pub(crate) fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// What is told of breaches: file, line and rule.
pub(crate) fn told(breaches: &[crate::Breach]) -> Vec<String> {
    breaches.iter().map(ToString::to_string).collect()
}
