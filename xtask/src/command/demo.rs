//! `cargo xtask demo`: an example program of `skep-tests`, built in release and run in this program's place.

use crate::combination::cargo::example;
use crate::combination::choice::{self, Choice};
use crate::combination::need::Need;
use crate::combination::table::{self, Backend, Device, Use};
use crate::demos::{self, DEMOS};
use crate::error::Error;
use crate::fetch::sentence_model;
use crate::machine::process::{replace, tell_cores};
use clap::Args;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

#[derive(Args, Debug)]
pub(crate) struct Demo {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

impl Demo {
    /// Builds the demo and runs it; its exit code is ours.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        let Wanted { name, backend, device, mut arguments } = parse(self.arguments)?;
        let combination = table::select(Choice::One(backend), Choice::One(device))[0];
        if let Some(reason) = combination.obstacle(Use::Run, Need::met) {
            return Err(Error::NoDemo { demo: name, combination: combination.to_string(), reason });
        }
        combination.prepare(Use::Run)?;
        demos::add_model(name, &mut arguments, sentence_model::folder)?;
        let program = example(name, Some(combination))?;
        let mut command = Command::new(program);
        command.args(arguments).env("SKEP_DEVICE", choice::name(&device));
        combination.tell(&mut command);
        replace(tell_cores(&mut command))
    }
}

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Wanted {
    name: &'static str,
    backend: Backend,
    device: Device,
    /// What the demo itself is to read.
    arguments: Vec<OsString>,
}

/// Takes our own arguments out and leaves the demo's, in their order.
fn parse(arguments: Vec<OsString>) -> Result<Wanted, Error> {
    let mut demo =
        Wanted { name: DEMOS[0], backend: Backend::Candle, device: Device::Cpu, arguments: Vec::new() };
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
                demo.name = demos::known(name)?;
            }
            _ => demo.arguments.push(argument),
        }
    }
    Ok(demo)
}

fn text_of(argument: Option<OsString>) -> Option<String> {
    argument.map(|value| value.to_string_lossy().into_owned())
}

fn value<T: clap::ValueEnum>(flag: &str, value: Option<String>) -> Result<T, Error> {
    let given = value.unwrap_or_default();
    choice::one(&given).map_err(|error| Error::Usage(format!("{flag} `{given}` of a demo: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Wanted {
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

    proptest::proptest! {
        #[test]
        fn any_words_are_refused_or_a_demo(words in proptest::collection::vec("(--backend|--device|embed|tch|cpu|.{0,6})=?", 0..7)) {
            parse(words.iter().map(Into::into).collect()).ok();
        }
    }

    #[test]
    fn errors_list_what_is_possible() {
        assert_eq!(error(&["digit"]), "there is no demo `digit`: it is one of digits, embed");
        assert_eq!(error(&["--backend", "all"]), "--backend `all` of a demo: not one of candle, tch, ort");
        assert_eq!(error(&["embed", "--device"]), "--device `` of a demo: not one of cpu, cuda, metal");
    }

    #[test]
    fn a_combination_that_cannot_run_is_an_error() {
        let demo = Demo { arguments: vec!["--backend=tch".into(), "--device=metal".into()] };
        let error = demo.run().unwrap_err().to_string();
        assert_eq!(error, "demo digits cannot run on tch metal: backend tch has no metal device");
    }
}
