//! Files that were damaged, and anything else that a property goes over.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fmt::Debug;
use std::fs;
use std::path::Path;

/// Checks a property of all that a strategy makes: 256 of them, or as many as `PROPTEST_CASES` says.
///
/// # Panics
///
/// With the simplest one for which the check panics.
pub fn for_all<T: Debug>(values: impl Strategy<Value = T>, check: impl Fn(T)) {
    let config = Config { failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&values, |value| {
        check(value);
        Ok(())
    });
    checked.unwrap();
}

/// A file that another process, or a disk, has written over and cut.
#[derive(Clone, Debug)]
pub struct Damage {
    at: prop::sample::Index,
    over: Vec<u8>,
    cut: prop::sample::Index,
}

/// Any damage.
pub fn damage() -> impl Strategy<Value = Damage> {
    let over = prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..24),
        // What a number may become in a text.
        1 => "[0-9,.:e\\[\\]{}\"-]{1,12}".prop_map(String::into_bytes),
    ];
    (any::<prop::sample::Index>(), over, any::<prop::sample::Index>()).prop_map(|(at, over, cut)| Damage {
        at,
        over,
        cut,
    })
}

impl Damage {
    /// Damages a file. `length` stands in the first eight bytes of a weights file.
    pub fn to(&self, file: &Path, length: Option<u64>) {
        let mut bytes = fs::read(file).unwrap();
        let at = self.at.index(bytes.len());
        let end = bytes.len().min(at + self.over.len());
        bytes[at..end].copy_from_slice(&self.over[..end - at]);
        if let Some(length) = length {
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        bytes.truncate(1 + self.cut.index(4 * bytes.len()));
        fs::write(file, &bytes).unwrap();
    }
}
