//! Settings of a block as text, for blocks that are named in a configuration file or on a command line.
//!
//! By hand, because serde's readers of `name=value` (serde-keyvalue, envy) have had no release for years, and defaults
//! that follow from other settings (`hidden` from `input`) would be code with them as well.

use skep_runtime_core::{BoxError, SchemaError};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// Settings by name. A block's constructor reads each of them as the type that it needs, and refuses names
/// that it does not know.
///
/// ```
/// use skep_toolkit::Config;
///
/// let config: Config = "input=64, hidden=128, activation=relu".parse()?;
/// assert_eq!(config, Config::new().with("input", 64).with("hidden", 128).with("activation", "relu"));
/// assert_eq!(config.required::<usize>("hidden")?, 128);
/// assert_eq!(config.or("output", 10_usize)?, 10);
///
/// let error = config.required::<usize>("activation").unwrap_err();
/// assert_eq!(error.to_string(), "`activation` is `relu`, expected a whole number");
/// # Ok::<(), skep_toolkit::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config(BTreeMap<String, String>);

/// The reason why settings cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A setting that the block needs.
    #[error("`{key}` is missing")]
    Missing {
        /// The setting's name.
        key: String,
    },
    /// A setting that cannot be used.
    #[error("`{key}` is `{got}`, expected {expected}")]
    Invalid {
        /// The setting's name.
        key: String,
        /// Its value.
        got: String,
        /// The values that would be right.
        expected: String,
        /// The error that it led to, if there is one.
        source: Option<Arc<dyn StdError + Send + Sync>>,
    },
    /// The settings give tensors of which no schema can be made.
    #[error("settings give no valid schema")]
    Schema(#[from] SchemaError),
    /// A setting that the block does not have.
    #[error("`{key}` is not a setting, expected one of {expected:?}")]
    Unknown {
        /// The setting's name.
        key: String,
        /// The names that there are.
        expected: Vec<String>,
    },
    /// A text that is not a list of settings.
    #[error("`{got}` is not a setting, expected `name=value`")]
    NotASetting {
        /// The part of the text.
        got: String,
    },
}

impl ConfigError {
    /// Creates the error of a setting that cannot be used.
    pub fn invalid(key: &str, got: impl Display, expected: impl Into<String>) -> Self {
        Self::Invalid { key: key.to_owned(), got: got.to_string(), expected: expected.into(), source: None }
    }

    /// Creates the error of a setting that led to another error.
    pub fn caused(
        key: &str,
        got: impl Display,
        expected: impl Into<String>,
        source: impl Into<BoxError>,
    ) -> Self {
        let source = Some(Arc::from(source.into()));
        Self::Invalid { key: key.to_owned(), got: got.to_string(), expected: expected.into(), source }
    }
}

/// A type that a setting can have.
pub trait Setting: FromStr {
    /// The values that there are, for messages: "a whole number".
    const EXPECTED: &'static str;
}

impl Setting for usize {
    const EXPECTED: &'static str = "a whole number";
}
impl Setting for u64 {
    const EXPECTED: &'static str = "a whole number";
}
impl Setting for f64 {
    const EXPECTED: &'static str = "a number";
}
impl Setting for bool {
    const EXPECTED: &'static str = "true or false";
}
impl Setting for String {
    const EXPECTED: &'static str = "a text";
}

impl Config {
    /// Creates a list of no settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a setting, or replaces it.
    pub fn with(mut self, key: impl Into<String>, value: impl Display) -> Self {
        self.0.insert(key.into(), value.to_string());
        self
    }

    /// Returns a setting that must be there.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if it is not there, or is of another type.
    pub fn required<T: Setting>(&self, key: &str) -> Result<T, ConfigError> {
        self.optional(key)?.ok_or_else(|| ConfigError::Missing { key: key.to_owned() })
    }

    /// Returns a setting, or the default if it is not there.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Invalid`] if it is of another type.
    pub fn or<T: Setting>(&self, key: &str, default: T) -> Result<T, ConfigError> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// Returns a setting that may be there.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Invalid`] if it is of another type.
    pub fn optional<T: Setting>(&self, key: &str) -> Result<Option<T>, ConfigError> {
        let parse = |text: &String| text.parse().map_err(|_| ConfigError::invalid(key, text, T::EXPECTED));
        self.0.get(key).map(parse).transpose()
    }

    /// Refuses settings of other names than these.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Unknown`] with the first one.
    pub fn only(&self, known: &[&str]) -> Result<(), ConfigError> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(ConfigError::Unknown {
                key: key.clone(),
                expected: known.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Takes a setting out.
    pub(super) fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// Reads `name=value` pairs with commas between them.
impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).try_fold(
            Self::new(),
            |config, part| {
                let (key, value) =
                    part.split_once('=').ok_or_else(|| ConfigError::NotASetting { got: part.to_owned() })?;
                Ok(config.with(key.trim(), value.trim()))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_setting_is_named() {
        let error = "input=1,hidden".parse::<Config>().unwrap_err();
        assert_eq!(error.to_string(), "`hidden` is not a setting, expected `name=value`");
    }

    #[test]
    fn missing_and_unknown_settings_are_named() {
        let config = Config::new().with("inputs", 3);
        assert_eq!(config.required::<usize>("input").unwrap_err().to_string(), "`input` is missing");
        assert_eq!(
            config.only(&["input", "hidden"]).unwrap_err().to_string(),
            r#"`inputs` is not a setting, expected one of ["input", "hidden"]"#
        );
    }
}
