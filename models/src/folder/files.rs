//! Files of a folder, read no further than is agreed on: what a folder holds may come from anybody.

use crate::error::{ModelError, Result};
use crate::folder::settings::Settings;
use serde_json::Value;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The most bytes of a file of settings. Those that are published have less than a hundredth of it.
const MAX_SETTINGS: u64 = 4 << 20;

/// The first words of what git leaves in a file's place when git-lfs is not installed.
const LFS: &[u8] = b"version https://git-lfs";

/// A folder that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Keys that the caller has taken on himself.
    ignored: Vec<String>,
}

impl Folder {
    pub(crate) fn new(path: &Path, ignored: &[String]) -> Self {
        Self { path: path.to_owned(), ignored: ignored.to_vec() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file(name).is_file()
    }

    /// Whether the caller has taken this key on himself.
    pub(crate) fn ignores(&self, key: &str) -> bool {
        self.ignored.iter().any(|ignored| ignored == key)
    }

    /// The folder of this name in it.
    pub(crate) fn inner(&self, name: &str) -> Self {
        Self { path: self.path.join(name), ignored: self.ignored.clone() }
    }

    /// The settings in this file.
    pub(crate) fn settings(&self, name: &str, expected: &str) -> Result<Settings> {
        match self.json(name)? {
            Some(value) => Settings::of(self.file(name), value, &self.ignored),
            None => Err(ModelError::NoFile { file: self.file(name), expected: expected.to_owned() }),
        }
    }

    /// The settings in this file, if it is there; an empty file is one without settings.
    pub(crate) fn optional_settings(&self, name: &str) -> Result<Option<Settings>> {
        self.json(name)?.map(|value| Settings::of(self.file(name), value, &self.ignored)).transpose()
    }

    /// What is in a file of settings, if it is there.
    pub(crate) fn json(&self, name: &str) -> Result<Option<Value>> {
        let file = self.file(name);
        let Some(bytes) = read(&file, MAX_SETTINGS)? else { return Ok(None) };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(Value::Object(serde_json::Map::new())));
        }
        parse(&file, &bytes).map(Some)
    }
}

pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|source| ModelError::NotJson { file: file.to_owned(), source })
}

/// All of a file of at most so many bytes; `None` if there is no such file.
pub(crate) fn read(file: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some((mut opened, length)) = open(file)? else { return Ok(None) };
    if length > limit {
        let expected = format!("at most {limit}");
        return Err(ModelError::form(file, format!("of {length} bytes"), expected));
    }
    // The size was that of a moment ago: a file that grows meanwhile is not followed.
    let mut bytes = Vec::new();
    opened.by_ref().take(limit).read_to_end(&mut bytes).map_err(unreadable(file))?;
    refuse_pointer(file, &bytes)?;
    Ok(Some(bytes))
}

/// A file and its length; `None` if there is no such file.
pub(crate) fn open(file: &Path) -> Result<Option<(File, u64)>> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(unreadable(file)(source)),
    };
    let meta = opened.metadata().map_err(unreadable(file))?;
    if !meta.is_file() {
        return Err(ModelError::form(file, "no plain file", "a file"));
    }
    Ok(Some((opened, meta.len())))
}

pub(crate) fn unreadable(file: &Path) -> impl Fn(std::io::Error) -> ModelError {
    let file = file.to_owned();
    move |source| ModelError::Unreadable { file: file.clone(), source }
}

/// Refuses what git leaves in a large file's place when git-lfs is not installed.
pub(crate) fn refuse_pointer(file: &Path, start: &[u8]) -> Result<()> {
    if start.starts_with(LFS) {
        let expected = "the file itself: `git lfs pull` in the folder gets it";
        return Err(ModelError::form(file, "a pointer of git-lfs", expected));
    }
    Ok(())
}
