//! The settings of a question.

use crate::text::tokens::TooLong;
use skep_runtime_core::{Flow, Priority};
use std::time::Duration;

/// The words that are put before a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prompt {
    /// The one that the folder names for this, if it does.
    #[default]
    Default,
    /// Nothing.
    None,
    /// The folder's prompt of this name.
    Named(String),
    /// This text.
    Text(String),
}

impl Prompt {
    /// Names one of the folder's prompts.
    pub fn named(name: impl Into<String>) -> Self {
        Self::Named(name.into())
    }
}

/// The settings of a question: prompt, cutting, urgency.
///
/// ```
/// use skep_models::{Ask, Prompt, TooLong};
/// use std::time::Duration;
///
/// let ask = Ask::new().prompt(Prompt::named("query")).too_long(TooLong::Refuse).deadline(Duration::from_secs(1));
/// # let _ = ask;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask {
    /// Put before the text; before the first one of a pair.
    pub prompt: Prompt,
    /// Applied to texts of more tokens than the model takes; texts in parts are never too long.
    pub too_long: TooLong,
    /// Of all texts; `None` for the pool's default.
    pub priority: Option<Priority>,
    /// The account on which all texts run; `None` for the pool's.
    pub flow: Option<Flow>,
    /// The longest that a text may wait before it is computed; `None` for as long as it takes.
    pub deadline: Option<Duration>,
    /// Leaves a classifier's numbers as they are computed, instead of making scores of them by the folder's rule.
    pub raw_scores: bool,
}

impl Ask {
    /// Creates a question with the folder's own prompt, cut where the folder says, as urgent as others.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the words that are put before the text.
    pub fn prompt(mut self, prompt: Prompt) -> Self {
        self.prompt = prompt;
        self
    }

    /// Sets if texts of more tokens than the model takes are cut, and where, or refused.
    pub fn too_long(mut self, too_long: TooLong) -> Self {
        self.too_long = too_long;
        self
    }

    /// Sets the priority of the texts' tasks.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the account on which the texts' tasks run.
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = Some(flow);
        self
    }

    /// Sets if a classifier's numbers are left as they are computed, or become scores by the folder's rule.
    pub fn raw_scores(mut self, raw_scores: bool) -> Self {
        self.raw_scores = raw_scores;
        self
    }

    /// Sets the longest that a text may wait before it is computed.
    pub fn deadline(mut self, from_now: impl Into<Option<Duration>>) -> Self {
        self.deadline = from_now.into();
        self
    }
}
