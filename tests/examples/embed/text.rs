//! The sentences that are to be embedded.

use crate::common::Result;
use std::path::Path;

/// In the program, so that it runs anywhere.
static OWN: &str = include_str!("sentences.txt");

/// One sentence per line; empty lines are skipped. Without a file, those in the program.
pub(crate) fn read(file: Option<&Path>) -> Result<Vec<String>> {
    let Some(file) = file else { return Ok(sentences(OWN)) };
    let error = |what: String| format!("text {}: {what}", file.display());
    let bytes = std::fs::read(file).map_err(|e| error(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let mut lines = e.as_bytes().split(|byte| *byte == b'\n');
        let line = lines.position(|line| str::from_utf8(line).is_err());
        error(format!("line {} is not UTF-8", 1 + line.unwrap_or(0)))
    })?;
    let sentences = sentences(&text);
    if sentences.is_empty() { Err(error("no sentence in it".to_owned()).into()) } else { Ok(sentences) }
}

fn sentences(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
