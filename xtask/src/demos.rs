//! The demos by name, and the model that one of them needs.

use crate::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The demos, the default first.
pub(crate) const DEMOS: [&str; 2] = ["digits", "embed"];

/// The demo of this name.
pub(crate) fn known(name: &str) -> Result<&'static str, Error> {
    DEMOS
        .into_iter()
        .find(|known| *known == name)
        .ok_or_else(|| Error::Usage(format!("there is no demo `{name}`: it is one of {}", DEMOS.join(", "))))
}

/// Tells a demo that needs the model where it is, unless the user does.
pub(crate) fn add_model(
    demo: &str,
    arguments: &mut Vec<OsString>,
    folder: impl FnOnce() -> Result<PathBuf, Error>,
) -> Result<(), Error> {
    if demo == "embed" && !has_any(arguments, &["--model-dir", "--help", "-h"]) {
        arguments.extend(["--model-dir".into(), folder()?.into()]);
    }
    Ok(())
}

fn has_any(arguments: &[OsString], flags: &[&str]) -> bool {
    let flag = |argument: &OsStr| {
        let text = argument.to_str().unwrap_or_default();
        text.split_once('=').map_or(text, |(flag, _)| flag).to_owned()
    };
    arguments.iter().any(|argument| flags.contains(&flag(argument).as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_with_and_without_a_value() {
        let arguments: Vec<OsString> = vec!["--model-dir=x".into(), "--query".into()];
        assert!(has_any(&arguments, &["--model-dir"]));
        assert!(has_any(&arguments, &["--query"]));
        assert!(!has_any(&arguments, &["--model"]));
    }
}
