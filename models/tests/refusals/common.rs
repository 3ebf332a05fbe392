//! Copies of published folders, to be damaged.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests, of which none uses all")]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The folders of the suite.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join("tests")
        .join("data")
        .join("models")
        .join("fixtures")
}

/// A copy of one of them.
pub(crate) struct Copy {
    folder: TempDir,
}

impl Copy {
    pub(crate) fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy_all(&fixtures().join(name), folder.path());
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        fs::write(self.file(name), bytes).unwrap();
        self
    }

    pub(crate) fn remove(self, name: &str) -> Self {
        let file = self.file(name);
        if file.is_dir() {
            fs::remove_dir_all(file).unwrap();
        } else {
            fs::remove_file(file).unwrap();
        }
        self
    }

    pub(crate) fn rename(self, from: &str, to: &str) -> Self {
        fs::rename(self.file(from), self.file(to)).unwrap();
        self
    }

    /// Changes a file of settings; one that is not there is an empty object at first.
    pub(crate) fn edit(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let file = self.file(name);
        let text = fs::read(&file).unwrap_or_else(|_| b"{}".to_vec());
        let mut value = serde_json::from_slice(&text).unwrap();
        change(&mut value);
        fs::write(file, value.to_string()).unwrap();
        self
    }

    /// Changes the head of a weights file; the data stay.
    pub(crate) fn edit_head(self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let file = self.file(name);
        let bytes = fs::read(&file).unwrap();
        let length = usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
        let mut head: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        change(&mut head);
        let head = head.to_string().into_bytes();
        let mut changed = (head.len() as u64).to_le_bytes().to_vec();
        changed.extend(&head);
        changed.extend(&bytes[8 + length..]);
        fs::write(file, changed).unwrap();
        self
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
