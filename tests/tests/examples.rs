//! The examples of both backends are the same programs: who knows one backend's can read the other's, and a change
//! to one is not forgotten in the other.

#![allow(clippy::unwrap_used, reason = "what is not as expected fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Lines of arithmetic, which each library writes in its own way.
const ARITHMETIC: &[(&str, &str)] = &[
    ("let y = (x + x.apply(&inner)?.tanh()?)?;", "let y = x.f_add(&inner.forward(x)?.f_tanh()?)?;"),
    ("let scores = y.apply(&score)?;", "let scores = score.forward(&y)?;"),
];

/// The examples of a backend by name, their words for the backend's crate and types replaced by those of candle.
fn examples(backend: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../backend-{backend}/examples"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let words =
                [("backend-tch", "backend-candle"), ("backend_tch", "backend_candle"), ("Tch", "Candle")];
            let text = words.iter().fold(text, |text, (tch, candle)| text.replace(tch, candle));
            let text = ARITHMETIC.iter().fold(text, |text, (candle, tch)| text.replace(tch, candle));
            (file.file_name().unwrap().to_str().unwrap().to_owned(), text)
        })
        .collect()
}

#[test]
fn the_examples_of_both_backends_differ_in_the_backend_alone() {
    let (candle, tch) = (examples("candle"), examples("tch"));
    assert!(candle.keys().eq(tch.keys()), "{:?} and {:?}", candle.keys(), tch.keys());
    for (name, text) in &candle {
        let differs = text.lines().zip(tch[name].lines()).find(|(candle, tch)| candle != tch);
        assert_eq!(differs, None, "in {name}");
        assert_eq!(text.lines().count(), tch[name].lines().count(), "lines of {name}");
    }
}

#[test]
fn an_example_has_30_to_60_lines_and_says_how_it_is_run() {
    for (name, text) in examples("candle") {
        let lines = text.lines().count();
        assert!((30..=60).contains(&lines), "{name} has {lines} lines");
        let command =
            format!("//! `cargo run -p skep-backend-candle --example {}`", name.trim_end_matches(".rs"));
        assert!(text.lines().any(|line| line == command), "{name} lacks the line {command}");
    }
}
