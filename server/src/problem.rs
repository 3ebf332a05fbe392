//! The reasons why a request has no answer, in the words of no protocol: each door makes its own status of them.

use skep_models::TextError;
use skep_runtime_core::{Chain, ErrorKind, FrontError, SubmitError};
use std::fmt;

/// The kind of a [`Problem`], of which status codes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The request is wrong, and would be refused again.
    Invalid,
    /// There is no model, version or page of this name.
    NotFound,
    /// The page has other methods.
    Method,
    /// The client has not said who it is.
    NoCredentials,
    /// The client may not do this.
    Forbidden,
    /// The client sent too slowly.
    TooSlow,
    /// The request has more bytes than the server takes.
    TooLarge,
    /// The caller asks for more than its share.
    TooMany,
    /// There is no room at the moment.
    Overloaded,
    /// The time of the request was up before it ran.
    Expired,
    /// The server, the model or the device takes no work, or not yet.
    Unavailable,
    /// The caller has gone.
    Cancelled,
    /// What is asked for is not offered.
    Unsupported,
    /// The model failed.
    Failed,
}

/// The reason why a request has no answer.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What status codes are made of.
    pub kind: ProblemKind,
    /// What was wrong, and what would be right.
    pub message: String,
    /// Seconds after which it is worth to ask again.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// Creates a problem.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    /// Creates the problem of a request that is wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Invalid, message)
    }

    /// Creates the problem of a name that nothing has.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::NotFound, message)
    }

    /// Creates the problem of something that is not offered.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unsupported, message)
    }

    /// Sets the seconds after which it is worth to ask again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Returns the status code of HTTP.
    pub fn status(&self) -> u16 {
        match self.kind {
            ProblemKind::Invalid => 400,
            ProblemKind::NoCredentials => 401,
            ProblemKind::Forbidden => 403,
            ProblemKind::NotFound => 404,
            ProblemKind::Method => 405,
            ProblemKind::TooSlow => 408,
            ProblemKind::TooLarge => 413,
            ProblemKind::TooMany => 429,
            ProblemKind::Cancelled => 499,
            ProblemKind::Failed => 500,
            ProblemKind::Unsupported => 501,
            ProblemKind::Overloaded | ProblemKind::Expired | ProblemKind::Unavailable => 503,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

fn kind(kind: ErrorKind) -> ProblemKind {
    match kind {
        ErrorKind::InvalidInput => ProblemKind::Invalid,
        ErrorKind::NotFound => ProblemKind::NotFound,
        ErrorKind::Overloaded => ProblemKind::Overloaded,
        ErrorKind::DeadlineExceeded => ProblemKind::Expired,
        ErrorKind::Unavailable => ProblemKind::Unavailable,
        ErrorKind::Cancelled => ProblemKind::Cancelled,
        _ => ProblemKind::Failed,
    }
}

/// Clients look for the first words of these.
fn words(kind: ProblemKind, error: &(dyn std::error::Error + 'static)) -> String {
    match kind {
        ProblemKind::Overloaded => format!("Exceeds maximum queue size: {}", Chain(error)),
        ProblemKind::Expired => format!("Request timeout expired: {}", Chain(error)),
        _ => Chain(error).to_string(),
    }
}

impl From<&SubmitError> for Problem {
    fn from(error: &SubmitError) -> Self {
        let kind = kind(error.kind());
        Self::new(kind, words(kind, error))
    }
}

impl From<FrontError> for Problem {
    fn from(error: FrontError) -> Self {
        let kind = kind(error.kind());
        Self::new(kind, words(kind, &error))
    }
}

impl From<TextError> for Problem {
    fn from(error: TextError) -> Self {
        let kind = match &error {
            TextError::Refused(error) => kind(error.kind()),
            TextError::Failed(error) => kind(error.kind()),
            TextError::Device(_) | TextError::Output { .. } | TextError::OtherInputs { .. } => {
                ProblemKind::Failed
            }
            TextError::NoTokenizer { .. } => ProblemKind::Unsupported,
            _ => ProblemKind::Invalid,
        };
        Self::new(kind, words(kind, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_words() {
        let full = SubmitError::Full { tasks: 4, capacity: 4, rows: 4, capacity_rows: 16, wait: None };
        let problem = Problem::from(&full);
        assert_eq!((problem.status(), problem.kind), (503, ProblemKind::Overloaded));
        assert!(
            problem.message.starts_with("Exceeds maximum queue size: queue is full: 4 tasks"),
            "{problem}"
        );
        assert_eq!(Problem::from(&SubmitError::NoRows).message, "task has 0 rows, expected at least 1");
        assert_eq!(Problem::from(&SubmitError::ShutDown).status(), 503);
    }

    #[test]
    fn questions_about_texts_keep_their_kind() {
        assert_eq!(Problem::from(TextError::TooLong { tokens: 9, limit: 4 }).status(), 400);
        assert_eq!(Problem::from(TextError::Refused(SubmitError::DeadlinePassed)).status(), 503);
    }
}
