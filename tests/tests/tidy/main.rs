//! What the architecture forbids, read off the sources, so that whoever draws such an arrow hears of it at once.
//!
//! The rules are the tables below. Each file beside this one holds one kind of rule, and shows on a made-up tree that
//! the rule is broken by what it forbids.

mod arrows;
mod circles;
mod claims;
mod dependencies;
mod house;
mod lengths;
#[cfg(test)]
mod made_up;
mod manifest;
mod scan;
mod tree;

use arrows::Never;
use house::House;
use std::fmt;
use std::path::Path;
use std::sync::LazyLock;

/// Which crate of ours may depend on which, by folder, tests included. What is not listed depends on all.
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("runtime-core", &[]),
    ("toolkit", &["runtime-core"]),
    ("pool", &["runtime-core"]),
    ("stats", &["runtime-core"]),
    ("models", &["runtime-core", "pool"]),
    ("backend-candle", &["runtime-core", "toolkit", "pool", "stats", "models"]),
    ("backend-tch", &["runtime-core", "toolkit", "pool", "stats", "models"]),
    ("backend-ort", &["runtime-core", "toolkit", "pool", "stats", "models"]),
    (
        "server",
        &[
            "runtime-core",
            "toolkit",
            "pool",
            "stats",
            "models",
            "backend-candle",
            "backend-tch",
            "backend-ort",
        ],
    ),
    ("swarm", &["runtime-core", "pool", "stats"]),
    ("xtask", &[]),
];

/// Dependencies that no source names, by folder, and that stand there for something else.
const UNNAMED: &[(&str, &str)] = &[
    // For its feature x86-v4: without it candle's products leave AVX-512 unused.
    ("backend-candle", "gemm"),
    // For the code that is made of the protocol's file, which is included as it is.
    ("server", "tonic-prost"),
    // For the program beside the library, whose sources alone are looked through.
    ("server", "mimalloc"),
];

/// Arrows between files. A `/` makes it a file or folder, `::` a path outside of this workspace, and anything else is
/// the name of an item.
const NEVER: &[Never] = &[
    Never {
        from: "runtime-core/src/contract/",
        to: &["runtime-core/src/runtime/", "runtime-core/src/policy/", "runtime-core/src/testing/"],
        why: "the contract does not rest on those who keep it",
    },
    Never {
        from: "runtime-core/src/sync/",
        to: &[
            "runtime-core/src/contract/",
            "runtime-core/src/policy/",
            "runtime-core/src/runtime/",
            "runtime-core/src/testing/",
        ],
        why: "locks and channels are the ground floor",
    },
    Never {
        from: "runtime-core/src/policy/",
        to: &["runtime-core/src/runtime/", "runtime-core/src/sync/", "Reply", "Clock", "SystemClock", CLOCK],
        why: "a decision is a pure function over plain values",
    },
    Never {
        from: "runtime-core/src/testing/",
        to: &["runtime-core/src/runtime/", "runtime-core/src/policy/"],
        why: "a fake keeps the contract and no more",
    },
    Never {
        from: "pool/src/queue",
        to: &["runtime-core/src/sync/", "Reply", "Clock", "SystemClock", CLOCK],
        why: "the queue is data, which a simulator can run",
    },
    Never {
        from: "server/src/",
        to: &["backend-candle/src/", "backend-tch/src/", "backend-ort/src/"],
        why: "a front end sees no tensor type; the one file that makes a device is server/src/backend.rs",
    },
    Never {
        from: "swarm/src/",
        to: &["backend-candle/src/", "backend-tch/src/", "backend-ort/src/"],
        why: "a front end sees no tensor type",
    },
];

const CLOCK: &str = "std::time::Instant::now";

/// The one file that an arrow of the table may start from all the same.
const EXCEPT: &str = "server/src/backend.rs";

/// Crates in which no file imports another that imports it.
const NO_CIRCLES: &[&str] = &[
    "runtime-core",
    "toolkit",
    "pool",
    "stats",
    "models",
    "backend-candle",
    "backend-tch",
    "backend-ort",
    "server",
    "xtask",
];

/// Where files are short, and how short.
const SHORT: &[&str] =
    &["runtime-core", "pool", "models", "backend-candle", "backend-tch", "backend-ort", "xtask"];
const LONGEST: usize = 400;

/// Whose threads and locks ARCHITECTURE.md lists.
const LISTED: &[&str] =
    &["runtime-core", "toolkit", "pool", "stats", "models", "backend-candle", "backend-tch", "backend-ort"];

/// Where locks are made, and where they are a test's: not in the list.
const UNLISTED: &[&str] = &["runtime-core/src/sync/", "runtime-core/src/testing/"];

/// A rule that a file breaks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Breach {
    file: String,
    line: usize,
    /// The rule, and how it is broken.
    what: String,
}

impl Breach {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

static HOUSE: LazyLock<House> = LazyLock::new(|| House::read(root()));

#[track_caller]
fn assert_kept(breaches: &[Breach]) {
    let lines: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), lines.join("\n"));
}

#[test]
fn no_crate_depends_on_one_that_it_must_not_know() {
    assert_kept(&dependencies::forbidden(root(), DEPENDENCIES));
}

#[test]
fn no_forbidden_arrow_is_drawn() {
    assert_kept(&arrows::forbidden(&HOUSE, NEVER, EXCEPT));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    assert_kept(&circles::circles(&HOUSE, NO_CIRCLES));
}

#[test]
fn every_dependency_is_used() {
    assert_kept(&dependencies::unused(root(), &HOUSE, UNNAMED));
}

#[test]
fn no_file_is_too_long() {
    assert_kept(&lengths::too_long(root(), SHORT, LONGEST));
}

#[test]
fn every_thread_is_named_and_listed() {
    assert_kept(&claims::threads(root(), &HOUSE, LISTED));
}

#[test]
fn every_lock_is_listed() {
    assert_kept(&claims::locks(root(), &HOUSE, LISTED, UNLISTED));
}
