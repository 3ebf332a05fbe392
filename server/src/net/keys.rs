//! API keys: who may ask.

use crate::problem::{Problem, ProblemKind};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The reason why a file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file cannot be read.
    #[error("{}: cannot be read", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line is no key.
    #[error("{}, line {line}: {reason}", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it; the key itself is not shown.
        reason: &'static str,
    },
}

struct Key {
    name: String,
    secret: Vec<u8>,
    /// The most requests at work.
    most: usize,
    at_work: Arc<AtomicUsize>,
}

/// A request that may be answered, counted for its key as long as this lives.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// The name of the key; `None` if nobody needs one.
    pub(crate) name: Option<String>,
    at_work: Option<Arc<AtomicUsize>>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(at_work) = &self.at_work {
            at_work.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Who may ask: everybody, or whoever has one of these.
#[derive(Default)]
pub(crate) struct Keys(Option<Vec<Key>>);

impl Keys {
    /// Reads a file with a line `name key` for each.
    pub(crate) fn read(file: &Path) -> Result<Self, KeysError> {
        let unreadable = |source| KeysError::Unreadable { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        Self::parse(&text).map_err(|(line, reason)| KeysError::Line { file: file.to_owned(), line, reason })
    }

    fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut keys: Vec<Key> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.split_whitespace();
            let (Some(name), Some(secret)) = (parts.next(), parts.next()) else {
                return Err((i + 1, "expected a name and a key with a space between them"));
            };
            let mut most = usize::MAX;
            for limit in parts {
                let number = limit.strip_prefix("requests=").and_then(|number| number.parse().ok());
                let number = number.filter(|number| *number > 0);
                most =
                    number.ok_or((i + 1, "behind the key, expected nothing or `requests=` and a number"))?;
            }
            if secret.len() < 16 {
                return Err((i + 1, "the key is short, expected at least 16 characters"));
            }
            if keys.iter().any(|key| key.name == name) {
                return Err((i + 1, "the name is given twice"));
            }
            let (name, secret) = (name.to_owned(), secret.as_bytes().to_vec());
            keys.push(Key { name, secret, most, at_work: Arc::default() });
        }
        if keys.is_empty() {
            Err((1, "there is no key, so nobody could be served"))
        } else {
            Ok(Self(Some(keys)))
        }
    }

    /// Lets a request in by its key.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Pass, Problem> {
        let Some(keys) = &self.0 else { return Ok(Pass::default()) };
        let refuse = |message: &str| Problem::new(ProblemKind::NoCredentials, message);
        let value = headers
            .get(AUTHORIZATION)
            .ok_or_else(|| refuse("there is no key, expected `Authorization: Bearer …`"))?;
        let (scheme, given) = value.to_str().ok().and_then(|value| value.split_once(' ')).unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refuse("the key has another form, expected `Authorization: Bearer …`"));
        }
        // All are looked at, so that the time says nothing about any of them.
        let mut found = None;
        for key in keys {
            if equal(&key.secret, given.trim().as_bytes()) {
                found = Some(key);
            }
        }
        let key = found.ok_or_else(|| refuse("the key is not known"))?;
        let one_more = |now: usize| (now < key.most).then_some(now + 1);
        key.at_work.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).map_err(|most| {
            let message =
                format!("{most} requests of `{}` are at work, which is as many as it may have", key.name);
            Problem::new(ProblemKind::TooMany, message).retry_after(1)
        })?;
        Ok(Pass { name: Some(key.name.clone()), at_work: Some(Arc::clone(&key.at_work)) })
    }
}

/// Compares in a time that does not depend on where the two differ.
#[inline(never)]
fn equal(secret: &[u8], given: &[u8]) -> bool {
    let mut differs = u8::from(secret.len() != given.len());
    for (i, byte) in given.iter().enumerate() {
        differs |= black_box(byte ^ secret[i % secret.len()]);
    }
    black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn with(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))])
    }

    #[test]
    fn keys_open_the_door() {
        let keys = Keys::parse("# people\nann 0123456789abcdef\n\nbob fedcba9876543210\n").unwrap();
        let name = |value| keys.admit(&with(value)).unwrap().name.clone();
        assert_eq!(name("Bearer fedcba9876543210").as_deref(), Some("bob"));
        assert_eq!(name("bearer 0123456789abcdef").as_deref(), Some("ann"));
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer ",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(keys.admit(&with(wrong)).unwrap_err().status(), 401, "{wrong}");
        }
        assert_eq!(keys.admit(&HeaderMap::new()).unwrap_err().status(), 401);
        assert_eq!(Keys::default().admit(&HeaderMap::new()).unwrap().name, None);
    }

    #[test]
    fn a_key_has_as_many_requests_at_work_as_it_may() {
        let keys = Keys::parse("ann 0123456789abcdef requests=2\nbob fedcba9876543210").unwrap();
        let ann = || keys.admit(&with("Bearer 0123456789abcdef"));
        let (first, second) = (ann().unwrap(), ann().unwrap());
        let refused = ann().unwrap_err();
        assert_eq!((refused.status(), refused.retry_after), (429, Some(1)));
        assert_eq!(refused.message, "2 requests of `ann` are at work, which is as many as it may have");
        assert!(keys.admit(&with("Bearer fedcba9876543210")).is_ok());
        drop(first);
        assert!(ann().is_ok(), "and its own is given back at once");
        drop(second);
    }

    #[test]
    fn lines_that_are_no_keys_are_told_without_the_key() {
        let told = |text| Keys::parse(text).map(drop).unwrap_err();
        assert_eq!(told("ann"), (1, "expected a name and a key with a space between them"));
        assert_eq!(
            told("ann 0123456789abcdef\nbob short"),
            (2, "the key is short, expected at least 16 characters")
        );
        assert_eq!(told("ann 0123456789abcdef\nann 1123456789abcdef"), (2, "the name is given twice"));
        let limit = "behind the key, expected nothing or `requests=` and a number";
        assert_eq!(told("ann 0123456789abcdef requests=0"), (1, limit));
        assert_eq!(told("ann 0123456789abcdef tasks=3"), (1, limit));
        assert_eq!(told("# nobody"), (1, "there is no key, so nobody could be served"));
    }
}
