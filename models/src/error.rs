//! Refusals of folders. Each refusal names the file, the key, what stands there, and what is known.

use serde_json::Value;
use std::fmt::Display;
use std::path::PathBuf;

/// Longer values are cut in messages.
const SHOWN: usize = 120;

/// The reasons for which a folder is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file that the model needs is not there.
    #[error("{}: there is no such file, expected {expected}", .file.display())]
    NoFile {
        /// The file.
        file: PathBuf,
        /// The file, or the files, that would do.
        expected: String,
    },
    /// A file is there and the system does not let it be read.
    #[error("{}: cannot be read", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is in a form that Skep does not read: pickled, a pointer to git-lfs, torn.
    #[error("{}: is {got}, expected {expected}", .file.display())]
    Form {
        /// The file.
        file: PathBuf,
        /// The form that it has.
        got: String,
        /// The form that it should have.
        expected: String,
    },
    /// A file is not JSON.
    #[error("{}: is not JSON", .file.display())]
    NotJson {
        /// The file.
        file: PathBuf,
        /// The place, and the fault.
        source: serde_json::Error,
    },
    /// A key is needed and not there.
    #[error("{}: `{key}` is missing, expected {expected}", .file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
        /// The key, with dots where it is nested; the name of a tensor in a weights file.
        key: String,
        /// The right one.
        expected: String,
    },
    /// A key holds what Skep cannot do, or what does not go with the rest of the folder.
    #[error("{}: `{key}` is {got}, expected {expected}", .file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key, with dots where it is nested; the name of a tensor in a weights file.
        key: String,
        /// The value that stands there.
        got: String,
        /// The right one.
        expected: String,
    },
    /// A key that Skep does not know, and so can neither honour nor leave out.
    #[error(
        "{}: `{key}` ({got}) is not known, expected one of {known}; if it has no influence on the model's answers, \
         name it in `ReadOptions::ignored_keys`",
        .file.display()
    )]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// The key, with dots where it is nested.
        key: String,
        /// The value that stands there.
        got: String,
        /// The keys that are known there.
        known: String,
    },
    /// The tokenizer's library does not accept its file.
    #[error("{}: is not a tokenizer that can be used: {reason}", .file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// The library's words.
        reason: String,
    },
}

/// What reading gives.
pub(crate) type Result<T> = std::result::Result<T, ModelError>;

impl ModelError {
    pub(crate) fn value(
        file: impl Into<PathBuf>,
        key: impl Into<String>,
        got: impl Display,
        expected: impl Into<String>,
    ) -> Self {
        let got = shortened(got.to_string());
        Self::Value { file: file.into(), key: key.into(), got, expected: expected.into() }
    }

    pub(crate) fn form(file: impl Into<PathBuf>, got: impl Display, expected: impl Into<String>) -> Self {
        Self::Form { file: file.into(), got: shortened(got.to_string()), expected: expected.into() }
    }
}

/// A value as messages show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("an object of {} keys", map.len()),
        Value::Array(list) if list.len() > 8 => format!("a list of {} values", list.len()),
        Value::String(text) if text.len() > SHOWN => format!("\"{}\"", shortened(text.clone())),
        other => shortened(other.to_string()),
    }
}

pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > SHOWN {
        text.truncate(text.floor_char_boundary(SHOWN));
        text.push('…');
    }
    text
}
