//! The demos: example programs of `skep-tests`, built in release and run in this program's place.

use crate::combos::{self, Backend, Choice, Combination, Device, Need, Use};
use crate::error::Error;
use crate::model;
use crate::process::{cargo, output, tell_cores};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The demos, the default first.
pub(crate) const DEMOS: [&str; 2] = ["digits", "embed"];

/// What `cargo xtask demo` was asked for.
#[derive(Debug, PartialEq)]
struct Demo {
    name: &'static str,
    backend: Backend,
    device: Device,
    /// What the demo itself is to read.
    arguments: Vec<OsString>,
}

/// Builds the demo and runs it; its exit code is ours.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<ExitCode, Error> {
    let demo = parse(arguments)?;
    let mut arguments = demo.arguments;
    let combination = combos::select(Choice::One(demo.backend), Choice::One(demo.device))[0];
    if let Some(reason) = combination.obstacle(Use::Run, Need::met) {
        return Err(Error::NoDemo { demo: demo.name, combination: combination.to_string(), reason });
    }
    combination.prepare(Use::Run)?;
    add_model(demo.name, &mut arguments, model::folder)?;
    let program = build(demo.name, Some(combination))?;
    let mut command = Command::new(program);
    command.args(arguments).env("SKEP_DEVICE", combos::name(&demo.device));
    replace(tell_cores(&mut command))
}

/// Takes our own arguments out and leaves the demo's, in their order.
fn parse(arguments: Vec<OsString>) -> Result<Demo, Error> {
    let mut demo =
        Demo { name: DEMOS[0], backend: Backend::Candle, device: Device::Cpu, arguments: Vec::new() };
    let mut named = false;
    let mut rest = arguments.into_iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_str().unwrap_or_default();
        let (flag, inline) = match text.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (text, None),
        };
        match flag {
            "--backend" => demo.backend = value(flag, inline.or_else(|| text_of(rest.next())))?,
            "--device" => demo.device = value(flag, inline.or_else(|| text_of(rest.next())))?,
            name if !named && demo.arguments.is_empty() && !name.starts_with('-') => {
                named = true;
                demo.name = known(name)?;
            }
            _ => demo.arguments.push(argument),
        }
    }
    Ok(demo)
}

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

fn text_of(argument: Option<OsString>) -> Option<String> {
    argument.map(|value| value.to_string_lossy().into_owned())
}

fn value<T: clap::ValueEnum>(flag: &str, value: Option<String>) -> Result<T, Error> {
    let given = value.unwrap_or_default();
    combos::one(&given).map_err(|error| Error::Usage(format!("{flag} `{given}` of a demo: {error}")))
}

fn has_any(arguments: &[OsString], flags: &[&str]) -> bool {
    let flag = |argument: &OsStr| {
        let text = argument.to_str().unwrap_or_default();
        text.split_once('=').map_or(text, |(flag, _)| flag).to_owned()
    };
    arguments.iter().any(|argument| flags.contains(&flag(argument).as_str()))
}

/// Builds an example and returns the path of its program. Cargo's progress goes to standard error, so that
/// standard output stays the demo's. Without a combination it has no backend.
pub(crate) fn build(example: &'static str, combination: Option<&Combination>) -> Result<PathBuf, Error> {
    let mut command = cargo("build");
    command
        .args(["--release", "--package", "skep-tests", "--example", example, "--no-default-features"])
        .arg("--message-format=json-render-diagnostics");
    if let Some(combination) = combination {
        command.args(["--features", &combination.features().join(",")]);
        combination.tell(&mut command);
    }
    let messages = output(&mut command)?;
    executable(&String::from_utf8_lossy(&messages), example).ok_or(Error::NoExecutable(example))
}

/// Finds the example's program in cargo's messages.
fn executable(messages: &str, example: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == example && message["target"]["kind"][0] == "example")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Becomes the command, so that signals (Ctrl-C above all) and the exit code are its own.
#[cfg(unix)]
pub(crate) fn replace(command: &mut Command) -> Result<ExitCode, Error> {
    use std::os::unix::process::CommandExt;
    let source = command.exec();
    Err(Error::Start { program: command.get_program().to_string_lossy().into_owned(), source })
}

/// Runs the command to its end, where one process cannot take another's place.
#[cfg(not(unix))]
pub(crate) fn replace(command: &mut Command) -> Result<ExitCode, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|source| Error::Start { program, source })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Demo {
        parse(arguments.iter().map(Into::into).collect()).unwrap()
    }

    fn error(arguments: &[&str]) -> String {
        parse(arguments.iter().map(Into::into).collect()).unwrap_err().to_string()
    }

    #[test]
    fn digits_on_candle_and_the_cpu_is_the_default() {
        let demo = parsed(&[]);
        assert_eq!((demo.name, demo.backend, demo.device), ("digits", Backend::Candle, Device::Cpu));
        assert!(demo.arguments.is_empty());
    }

    #[test]
    fn our_arguments_are_found_anywhere_and_the_others_handed_over_in_order() {
        let demo = parsed(&["--json", "--backend", "tch", "--steps", "5", "--device=cuda", "embed"]);
        assert_eq!((demo.name, demo.backend, demo.device), ("digits", Backend::Tch, Device::Cuda));
        assert_eq!(demo.arguments, ["--json", "--steps", "5", "embed"]);

        let demo = parsed(&["--backend=tch", "embed", "--text", "a=b.txt", "digits"]);
        assert_eq!((demo.name, demo.backend), ("embed", Backend::Tch));
        assert_eq!(demo.arguments, ["--text", "a=b.txt", "digits"]);
    }

    #[test]
    fn errors_list_what_is_possible() {
        assert_eq!(error(&["digit"]), "there is no demo `digit`: it is one of digits, embed");
        assert_eq!(error(&["--backend", "all"]), "--backend `all` of a demo: not one of candle, tch");
        assert_eq!(error(&["embed", "--device"]), "--device `` of a demo: not one of cpu, cuda, metal");
    }

    #[test]
    fn a_combination_that_cannot_run_is_an_error() {
        let error = run(vec!["--backend=tch".into(), "--device=metal".into()]).unwrap_err().to_string();
        assert_eq!(error, "demo digits cannot run on tch metal: backend tch has no metal device");
    }

    #[test]
    fn flags_are_found_with_and_without_a_value() {
        let arguments: Vec<OsString> = vec!["--model-dir=x".into(), "--query".into()];
        assert!(has_any(&arguments, &["--model-dir"]));
        assert!(has_any(&arguments, &["--query"]));
        assert!(!has_any(&arguments, &["--model"]));
    }

    #[test]
    fn the_program_is_found_in_cargos_messages() {
        let messages = r#"not json
{"reason":"compiler-artifact","target":{"name":"digits","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"embed","kind":["example"]},"executable":"/t/embed"}
{"reason":"compiler-artifact","target":{"name":"digits","kind":["example"]},"executable":"/t/digits"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "digits"), Some("/t/digits".into()));
        assert_eq!(executable(messages, "other"), None);
    }
}
