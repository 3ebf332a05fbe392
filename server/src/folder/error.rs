//! What is wrong with a folder of models.

use skep_models::ModelError;
use std::path::PathBuf;

/// The reason why a model cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read", .path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// There is no model.
    #[error("{}: has no model in it, expected config.json, skep.toml, folders with one of them, or .pt and .pt2 files", .path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// The model's own file is not as it should be.
    #[error("{}: {reason}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// Nothing says what the folder is.
    #[error("{}: has neither config.json, nor a `kind` in skep.toml, nor a .pt or .pt2 file, expected one of them", .path.display())]
    Unknown {
        /// The folder.
        path: PathBuf,
    },
    /// Several files of the folder could be the model.
    #[error("{}: has the files {} and {}, expected one of them, or a skep.toml that names a `kind` and `settings.file`", .path.display(), .files[0], .files[1])]
    Several {
        /// The folder.
        path: PathBuf,
        /// The names of two of them.
        files: [String; 2],
    },
    /// The name cannot stand in the path of a request.
    #[error("{}: a model cannot be named `{name}`, expected letters, digits, `-`, `_` and `.`", .path.display())]
    Name {
        /// The folder.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Two models have one name.
    #[error("model name `{name}` is taken by {}", .other.display())]
    NameTwice {
        /// The name.
        name: String,
        /// The folder of the other one.
        other: PathBuf,
    },
    /// The published folder is refused.
    #[error(transparent)]
    Model(Box<ModelError>),
}
