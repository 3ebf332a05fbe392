//! A case that is in no list is a case that never runs, and a test that is named but not there holds nothing.

use std::fs;
use std::path::Path;

#[test]
fn every_case_is_listed() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/suite");
    let lists = fs::read_to_string(suite.join("mod.rs")).unwrap();
    let mut count = 0;
    for file in fs::read_dir(suite).unwrap() {
        let path = file.unwrap().path();
        let topic = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&path).unwrap();
        let cases = source.lines().filter_map(|line| line.strip_prefix("pub fn ")?.split_once('<'));
        for (case, _) in cases {
            let list = lists.split_once(&format!("$subject, {topic}:"));
            let list = list.and_then(|(_, rest)| rest.split_once('}')).map(|(list, _)| list);
            let listed = list.is_some_and(|list| list.split(',').any(|name| name.trim() == case));
            assert!(listed, "case `{case}` of `{topic}` is not in suite/mod.rs");
            count += 1;
        }
    }
    assert!(count > 50, "only {count} cases were found");
}

/// `suite/x::name`, `explore/x::name`, or a file without its ending and a test in it.
#[test]
fn every_test_that_the_guarantees_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guarantees = fs::read_to_string(root.join("docs/guarantees.md")).unwrap();
    // Every second piece stands between backticks.
    let quoted = guarantees.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    let mut count = 0;
    for (path, test) in quoted.filter_map(|quoted| quoted.split_once("::")) {
        if !path.contains('/') {
            continue; // A type and its field.
        }
        let file = match path.split_once('/') {
            Some(("suite", topic)) => format!("tests/src/suite/{topic}.rs"),
            Some(("explore", topic)) => format!("tests/explore/src/{topic}.rs"),
            _ => format!("{path}.rs"),
        };
        let source = fs::read_to_string(root.join(&file));
        let source = source.unwrap_or_else(|error| panic!("`{path}::{test}`: {file}: {error}"));
        let defined = [format!("fn {test}("), format!("fn {test}<")].iter().any(|def| source.contains(def));
        assert!(defined, "`{path}::{test}`: there is no such test in {file}");
        count += 1;
    }
    assert!(count > 100, "only {count} tests were found");
}
