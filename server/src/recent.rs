//! The last problems with their reasons, for people who look.

use skep_runtime_core::sync::Mutex;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// Different problems that are kept.
const KEPT: usize = 16;
/// Letters that are kept of what a client has sent: it could have sent any number.
const LETTERS: usize = 300;

/// A problem, and how often it was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What was asked for.
    pub(crate) asked: String,
    /// The status of HTTP, or the code of gRPC in words.
    pub(crate) code: String,
    pub(crate) reason: String,
    /// How often it was met since it is kept.
    pub(crate) times: u64,
    /// The last time, in milliseconds since 1970.
    pub(crate) last_ms: u64,
}

/// The last problems.
#[derive(Default)]
pub(crate) struct Recent(Mutex<VecDeque<Seen>>);

fn short(text: &str) -> String {
    text.char_indices().nth(LETTERS).map_or_else(|| text.to_owned(), |(end, _)| format!("{}…", &text[..end]))
}

impl Recent {
    /// Keeps a problem in the place of the oldest. The same one again is counted, so that whoever repeats a mistake does not
    /// hide what befalls others.
    pub(crate) fn note(&self, asked: &str, code: &str, reason: &str) {
        let (asked, code, reason) = (short(asked), code.to_owned(), short(reason));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let last_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut all = self.0.lock();
        let same = |seen: &Seen| seen.asked == asked && seen.code == code && seen.reason == reason;
        let before = all.iter().position(same).and_then(|place| all.remove(place));
        let times = before.map_or(1, |seen| seen.times + 1);
        all.truncate(KEPT - 1);
        all.push_front(Seen { asked, code, reason, times, last_ms });
    }

    /// All of them, the newest first.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_again_is_counted_and_the_oldest_goes() {
        let recent = Recent::default();
        for i in 0..KEPT {
            recent.note("POST /embed", "400", &format!("reason {i}"));
        }
        recent.note("POST /embed", "400", "reason 3");
        recent.note("POST /rerank", "400", "reason 3");
        let all = recent.all();
        assert_eq!(all.len(), KEPT);
        assert_eq!((all[0].asked.as_str(), all[0].times), ("POST /rerank", 1));
        assert_eq!((all[1].reason.as_str(), all[1].times), ("reason 3", 2));
        assert!(all.iter().all(|seen| seen.reason != "reason 0"));
    }

    #[test]
    fn long_ones_are_cut_between_letters() {
        let recent = Recent::default();
        recent.note(&"ä".repeat(1000), "404", &"é".repeat(LETTERS));
        let seen = recent.all().remove(0);
        assert_eq!(seen.asked, format!("{}…", "ä".repeat(LETTERS)));
        assert_eq!(seen.reason, "é".repeat(LETTERS));
    }
}
