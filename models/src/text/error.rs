//! Errors of questions.

use crate::description::Kind;
use skep_runtime_core::{DeviceError, SubmitError, TaskError};
use std::path::PathBuf;

/// The reasons for which a text gets no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The folder cannot turn texts into tokens.
    #[error("{}: there is no such file, expected the tokenizer, without which texts cannot be read", .file.display())]
    NoTokenizer {
        /// The file that would do it.
        file: PathBuf,
    },
    /// The model answers another question.
    #[error("the model gives {got}, and was asked to {asked}")]
    OtherKind {
        /// The question.
        asked: &'static str,
        /// The kind of answer that the model gives.
        got: &'static str,
    },
    /// The model was not told to give the vectors of tokens.
    #[error(
        "the model gives a vector for each text alone, and was asked for those of its tokens: `Model::with_token_vectors` has it give them"
    )]
    NoTokenVectors,
    /// The pool takes other tensors than the model does: another model's block is behind it.
    #[error("`{name}` takes the inputs {got:?}, expected {expected:?}")]
    OtherInputs {
        /// The pool.
        name: String,
        /// The names of its inputs.
        got: Vec<String>,
        /// The names of the model's inputs.
        expected: Vec<String>,
    },
    /// A cross-encoder that ranks has one number for each pair.
    #[error("the model has {labels} labels, and pairs are ranked by one")]
    SeveralLabels {
        /// Labels of the model.
        labels: usize,
    },
    /// A text is longer than the model takes, and may not be cut.
    #[error("the text has {tokens} tokens, the model takes at most {limit}")]
    TooLong {
        /// Tokens of the text, those around it included.
        tokens: usize,
        /// The most that the model takes.
        limit: usize,
    },
    /// Windows overlap by as much as they hold.
    #[error("windows overlap by {overlap} tokens, expected less than the {room} that fit")]
    Overlap {
        /// The overlap that was asked for.
        overlap: usize,
        /// Tokens that fit.
        room: usize,
    },
    /// The prompt or the query, which stands before every part of a text, fills the model.
    #[error(
        "{taken} tokens stand around the text, of at most {limit} that the model takes: none of its own fits"
    )]
    NoRoom {
        /// Tokens of the prompt, the query, and those that are put around texts.
        taken: usize,
        /// The most that the model takes.
        limit: usize,
    },
    /// A prompt of this name is not there.
    #[error("the model has no prompt `{name}`, expected one of {known:?}")]
    NoPrompt {
        /// The name.
        name: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// The tokenizer has no form for two texts.
    #[error("the tokenizer has no template for a pair of texts")]
    NoPairs,
    /// Nothing is left of the text, and nothing is put around it.
    #[error("the text has no tokens")]
    NoTokens,
    /// The tokenizer cannot take the text apart.
    #[error("the text cannot be taken apart: {reason}")]
    Tokenizer {
        /// The library's words.
        reason: String,
    },
    /// The task was not taken.
    #[error("the text was refused")]
    Refused(#[source] SubmitError),
    /// The task was taken and has no outputs.
    #[error("the text was not computed")]
    Failed(#[source] TaskError),
    /// The tensors cannot be made or read.
    #[error("the tensors cannot be made or read")]
    Device(#[source] DeviceError),
    /// The output is not one that the model gives.
    #[error("the output is {got}, expected {expected}")]
    Output {
        /// The type and dims that came.
        got: String,
        /// The type and dims of the description.
        expected: String,
    },
}

pub(crate) type Result<T> = std::result::Result<T, TextError>;

/// What a kind of model gives, in words.
pub(crate) fn gives(kind: Kind) -> &'static str {
    match kind {
        Kind::Embedding => "a vector for each text",
        Kind::Sequence => "numbers for the labels of a text",
        Kind::Token => "numbers for the labels of each token",
    }
}
