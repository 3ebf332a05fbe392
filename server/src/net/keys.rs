//! API keys: who may ask.

use crate::caller::{Account, Caller, Rate};
use crate::problem::{Problem, ProblemKind};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use skep_runtime_core::Flow;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

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
    secret: Vec<u8>,
    weight: f64,
    account: Arc<Account>,
}

/// Who may ask: everybody, or whoever has one of these.
#[derive(Default)]
pub(crate) struct Keys(Option<Vec<Key>>);

/// What may stand behind a key.
const BEHIND: &str = "behind the key, expected nothing, or `requests=` with a whole number, `rows=` with a number per \
                      second, or `weight=` with a number from 0.001 to 1000";

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
            // The first key is the first flow; 0 would be nobody's.
            let flow = u32::try_from(keys.len() + 1).map_err(|_| (i + 1, "there are too many keys"))?;
            let key = Key::parse(line, Flow(flow)).map_err(|reason| (i + 1, reason))?;
            if keys.iter().any(|other| other.account.name == key.account.name) {
                return Err((i + 1, "the name is given twice"));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            Err((1, "there is no key, so nobody could be served"))
        } else {
            Ok(Self(Some(keys)))
        }
    }

    /// The weights of the keys' flows.
    pub(crate) fn weights(&self) -> impl Iterator<Item = (Flow, f64)> {
        self.0.iter().flatten().map(|key| (key.account.flow, key.weight))
    }

    /// What an account is called: by its key's name, or as a connection.
    pub(crate) fn name(&self, flow: Flow) -> String {
        let key = self.0.iter().flatten().find(|key| key.account.flow == flow);
        match (key, flow) {
            (Some(key), _) => key.account.name.clone(),
            (None, Flow(0)) => "the server itself".to_owned(),
            (None, Flow(number)) => format!("connection {number}"),
        }
    }

    /// Whose request this is: its key's, or if there are no keys that of its connection.
    pub(crate) fn caller(&self, headers: &HeaderMap, connection: Flow) -> Result<Caller, Problem> {
        let Some(keys) = &self.0 else { return Ok(Caller::Connection(connection)) };
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
        Ok(Caller::Key(Arc::clone(&key.account)))
    }
}

impl Key {
    fn parse(line: &str, flow: Flow) -> Result<Self, &'static str> {
        let mut parts = line.split_whitespace();
        let (Some(name), Some(secret)) = (parts.next(), parts.next()) else {
            return Err("expected a name and a key with a space between them");
        };
        if secret.len() < 16 {
            return Err("the key is short, expected at least 16 characters");
        }
        let (mut requests, mut rows, mut weight) = (None, None, None);
        for part in parts {
            let (what, number) = part.split_once('=').ok_or(BEHIND)?;
            let real = || number.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
            let given_before = match what {
                "requests" => requests
                    .replace(number.parse().ok().filter(|number| *number > 0).ok_or(BEHIND)?)
                    .is_some(),
                "rows" => rows.replace(real().ok_or(BEHIND)?).is_some(),
                "weight" => {
                    let weights = 0.001..=1000.0;
                    weight.replace(real().filter(|weight| weights.contains(weight)).ok_or(BEHIND)?).is_some()
                }
                _ => return Err(BEHIND),
            };
            if given_before {
                return Err("a limit is given twice");
            }
        }
        let account = Account {
            name: name.to_owned(),
            flow,
            requests: requests.unwrap_or(usize::MAX),
            at_work: AtomicUsize::new(0),
            rows: rows.map(|rows| Rate::new(rows, Instant::now())),
        };
        let secret = secret.as_bytes().to_vec();
        Ok(Self { secret, weight: weight.unwrap_or(1.0), account: Arc::new(account) })
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
        let caller = |headers: &HeaderMap| keys.caller(headers, Flow(77));
        let refused = |headers: &HeaderMap| caller(headers).map(drop).unwrap_err().status();
        let (ann, bob) = ("bearer 0123456789abcdef", "Bearer fedcba9876543210");
        let named = |value| caller(&with(value)).unwrap().name().map(str::to_owned);
        assert_eq!((named(ann).as_deref(), named(bob).as_deref()), (Some("ann"), Some("bob")));
        let flow = |value| caller(&with(value)).unwrap().flow();
        assert_eq!((flow(ann), flow(bob)), (Flow(1), Flow(2)));
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer ",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(refused(&with(wrong)), 401, "{wrong}");
        }
        assert_eq!(refused(&HeaderMap::new()), 401);
        let name = |flow| keys.name(Flow(flow));
        assert_eq!([name(2), name(0), name(7)], ["bob", "the server itself", "connection 7"]);
        let anybody = Keys::default().caller(&HeaderMap::new(), Flow(77)).unwrap();
        assert_eq!((anybody.name(), anybody.flow()), (None, Flow(77)));
    }

    #[test]
    fn keys_have_limits_and_weights() {
        let keys = Keys::parse(
            "ann 0123456789abcdef requests=1 rows=0.5 weight=2.5\nbob fedcba9876543210 weight=0.001",
        )
        .unwrap();
        assert_eq!(keys.weights().collect::<Vec<_>>(), [(Flow(1), 2.5), (Flow(2), 0.001)]);
        let ann = keys.caller(&with("Bearer 0123456789abcdef"), Flow(0)).unwrap();
        let slot = ann.begin().unwrap();
        assert_eq!(ann.begin().map(drop).unwrap_err().status(), 429);
        drop(slot);
        ann.charge(1).unwrap();
        let told = ann.charge(1).unwrap_err();
        assert_eq!((told.status(), told.retry_after), (429, Some(1)));
        assert_eq!(told.message, "`ann` has asked for its 0.5 rows per second");
    }

    #[test]
    fn lines_that_are_no_keys_are_told_without_the_key() {
        let told = |text: &str| Keys::parse(text).map(drop).unwrap_err();
        assert_eq!(told("ann"), (1, "expected a name and a key with a space between them"));
        assert_eq!(
            told("ann 0123456789abcdef\nbob short"),
            (2, "the key is short, expected at least 16 characters")
        );
        assert_eq!(told("ann 0123456789abcdef\nann 1123456789abcdef"), (2, "the name is given twice"));
        for limit in
            ["requests=0", "requests=1.5", "tasks=3", "rows=0", "rows=inf", "weight=0", "weight=1001", "x"]
        {
            assert_eq!(told(&format!("ann 0123456789abcdef {limit}")), (1, BEHIND), "{limit}");
        }
        assert_eq!(told("ann 0123456789abcdef rows=1 rows=2"), (1, "a limit is given twice"));
        assert_eq!(told("# nobody"), (1, "there is no key, so nobody could be served"));
    }
}
