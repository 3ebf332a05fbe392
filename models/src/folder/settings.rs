//! The keys of one file of settings: each is taken once, by whoever honours it, and what nobody takes is refused.

use crate::error::{ModelError, Result, shown};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The largest number that may stand for a size: no model has more of anything, and no product of two overflows.
pub(crate) const MAX_SIZE: usize = 1 << 28;

/// One object of a file of settings.
#[derive(Debug)]
pub(crate) struct Settings {
    file: PathBuf,
    /// Before the keys in messages: the keys around a nested object.
    prefix: String,
    map: Map<String, Value>,
    /// Every key that somebody has asked for: what is known.
    known: Vec<String>,
    ignored: Vec<String>,
}

impl Settings {
    pub(crate) fn of(file: PathBuf, value: Value, ignored: &[String]) -> Result<Self> {
        match value {
            Value::Object(map) => {
                Ok(Self { file, prefix: String::new(), map, known: Vec::new(), ignored: ignored.to_vec() })
            }
            other => Err(ModelError::form(file, shown(&other), "an object of keys and values")),
        }
    }

    pub(crate) fn file(&self) -> &PathBuf {
        &self.file
    }

    pub(crate) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Takes a key out; null is the same as nothing.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        self.map.remove(key).filter(|value| !value.is_null())
    }

    /// What stands there, left for others to take.
    pub(crate) fn look(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// Whether the key is there, and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    pub(crate) fn invalid(&self, key: &str, got: &Value, expected: impl Into<String>) -> ModelError {
        ModelError::value(&self.file, self.full(key), shown(got), expected)
    }

    pub(crate) fn missing(&self, key: &str, expected: impl Into<String>) -> ModelError {
        ModelError::NoKey { file: self.file.clone(), key: self.full(key), expected: expected.into() }
    }

    fn required<T>(&mut self, key: &str, expected: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.missing(key, expected))
    }

    /// A whole number from 1.
    pub(crate) fn size(&mut self, key: &str) -> Result<usize> {
        let value = self.optional_size(key)?;
        self.required(key, "a whole number", value)
    }

    pub(crate) fn optional_size(&mut self, key: &str) -> Result<Option<usize>> {
        let number = |value: &Value| {
            let number = usize::try_from(value.as_u64()?).ok()?;
            (1..=MAX_SIZE).contains(&number).then_some(number)
        };
        self.read(key, number, &format!("a whole number from 1 to {MAX_SIZE}"))
    }

    /// A token's id.
    pub(crate) fn optional_id(&mut self, key: &str) -> Result<Option<u32>> {
        // Some models have none and say so with -1.
        if self.map.get(key).and_then(Value::as_i64) == Some(-1) {
            self.take(key);
        }
        let id = |value: &Value| u32::try_from(value.as_u64()?).ok().filter(|&id| (id as usize) < MAX_SIZE);
        self.read(key, id, "the id of a token")
    }

    /// A number above 0.
    pub(crate) fn optional_number(&mut self, key: &str) -> Result<Option<f64>> {
        let number = |value: &Value| value.as_f64().filter(|number| *number > 0.0 && number.is_finite());
        self.read(key, number, "a number above 0")
    }

    pub(crate) fn optional_flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.read(key, Value::as_bool, "true or false")
    }

    pub(crate) fn flag_or(&mut self, key: &str, default: bool) -> Result<bool> {
        Ok(self.optional_flag(key)?.unwrap_or(default))
    }

    pub(crate) fn text(&mut self, key: &str, expected: &str) -> Result<String> {
        let value = self.optional_text(key)?;
        self.required(key, expected, value)
    }

    pub(crate) fn optional_text(&mut self, key: &str) -> Result<Option<String>> {
        self.read(key, |value| value.as_str().map(str::to_owned), "a text")
    }

    pub(crate) fn optional_list(&mut self, key: &str) -> Result<Option<Vec<Value>>> {
        self.read(key, |value| value.as_array().cloned(), "a list")
    }

    /// A nested object.
    pub(crate) fn optional_inner(&mut self, key: &str) -> Result<Option<Self>> {
        let map = self.read(key, |value| value.as_object().cloned(), "an object of keys and values")?;
        Ok(map.map(|map| Self {
            file: self.file.clone(),
            prefix: format!("{}{key}.", self.prefix),
            map,
            known: Vec::new(),
            ignored: self.ignored.clone(),
        }))
    }

    fn read<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&Value) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(key) else { return Ok(None) };
        read(&value).map(Some).ok_or_else(|| self.invalid(key, &value, expected))
    }

    /// Takes a key that may only have one of these values: Skep computes nothing else.
    pub(crate) fn only(&mut self, key: &str, allowed: &[Value]) -> Result<()> {
        let Some(value) = self.take(key) else { return Ok(()) };
        if allowed.contains(&value) {
            return Ok(());
        }
        let texts: Vec<String> = allowed.iter().map(shown).collect();
        let expected = if texts.is_empty() { "null".to_owned() } else { texts.join(" or ") };
        Err(self.invalid(key, &value, expected))
    }

    /// Takes keys that say nothing about the answers.
    pub(crate) fn skip(&mut self, keys: &[&str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// All that is left.
    pub(crate) fn rest(self) -> Map<String, Value> {
        self.map
    }

    /// Refuses what nobody has taken.
    pub(crate) fn finish(self) -> Result<()> {
        let unknown = |key: &String| {
            let full = self.full(key);
            !self.ignored.contains(&full)
        };
        let Some((key, value)) = self.map.iter().find(|(key, value)| !value.is_null() && unknown(key)) else {
            return Ok(());
        };
        let mut known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        known.sort_unstable();
        Err(ModelError::UnknownKey {
            file: self.file.clone(),
            key: self.full(key),
            got: shown(value),
            known: known.join(", "),
        })
    }
}
