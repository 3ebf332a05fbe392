//! The names that requests go by.

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

const LONGEST: usize = 128;

/// The client's own name for its request if it is fit for a log, else a new one.
pub(crate) fn request_id(given: Option<&HeaderValue>) -> String {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let fit =
        |text: &&str| (1..=LONGEST).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match given.and_then(|value| value.to_str().ok()).filter(fit) {
        Some(text) => text.to_owned(),
        None => format!("{:016x}-{:x}", *START, NEXT.fetch_add(1, Ordering::Relaxed)),
    }
}

/// The trace that a request is part of, for the logs.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    (value.len() <= LONGEST && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
        .then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_if_they_are_fit_for_a_log() {
        let own = |text: &'static str| request_id(Some(&HeaderValue::from_static(text)));
        assert_eq!(own("abc-1"), "abc-1");
        assert_ne!(own("a b"), "a b");
        assert_ne!(request_id(None), request_id(None));
    }
}
