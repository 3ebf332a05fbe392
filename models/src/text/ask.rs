//! What is asked of a model besides the text.

use crate::text::tokens::TooLong;
use skep_runtime_core::Priority;
use std::time::Duration;

/// What is put before a text.
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
    /// The folder's prompt of this name.
    pub fn named(name: impl Into<String>) -> Self {
        Self::Named(name.into())
    }
}

/// How texts are asked about.
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
    /// What is put before the text; before the first one of a pair.
    pub prompt: Prompt,
    /// What is done with texts of more tokens than the model takes.
    pub too_long: TooLong,
    /// How urgent the texts are; `None` for the pool's default.
    pub priority: Option<Priority>,
    /// How long a text may wait before it is computed; `None` for as long as it takes.
    pub deadline: Option<Duration>,
}

impl Ask {
    /// The folder's own prompt, cut where it says, as urgent as others.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is put before the text.
    pub fn prompt(mut self, prompt: Prompt) -> Self {
        self.prompt = prompt;
        self
    }

    /// Sets what is done with texts of more tokens than the model takes.
    pub fn too_long(mut self, too_long: TooLong) -> Self {
        self.too_long = too_long;
        self
    }

    /// Sets how urgent the texts are.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets how long a text may wait before it is computed.
    pub fn deadline(mut self, from_now: impl Into<Option<Duration>>) -> Self {
        self.deadline = from_now.into();
        self
    }
}
