//! A case that is in no list is a case that never runs.

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
