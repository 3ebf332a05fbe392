//! The files of `deploy/` ask for what there is.

use crate::program::skep;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The words of a text that begin so.
fn words(text: &str, beginning: &str) -> BTreeSet<String> {
    let separate = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    text.split(separate).filter(|word| word.starts_with(beginning)).map(str::to_owned).collect()
}

#[test]
fn flags_and_variables_are_those_of_the_program() {
    let help = skep().args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (flags, variables) = (words(&help, "--"), words(&help, "SKEP_"));
    let mut seen = 0;
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")).unwrap() {
        let file = file.unwrap().path();
        let text = fs::read_to_string(&file).unwrap();
        let serves = |line: &&str| !line.starts_with('#') && words(line, "serve").contains("serve");
        let starts = text.lines().filter(serves);
        for flag in starts.flat_map(|line| words(line, "--")) {
            assert!(flags.contains(&flag), "{}: {flag}", file.display());
            seen += 1;
        }
        for variable in words(&text, "SKEP_") {
            assert!(variables.contains(&variable), "{}: {variable}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
}
