//! `cargo xtask test`: every test of the workspace, on each combination.

use crate::combination::cargo::workspace;
use crate::combination::table::{Backend, Combination, Use};
use crate::command::balancers::balancers;
use crate::command::clients::clients;
use crate::command::selection::Selection;
use crate::error::Error;
use crate::fetch::{sentence_model, voice_model};
use crate::machine::process::run;
use crate::report::summary::Summary;
use clap::{Args, ValueEnum};
use std::cell::LazyCell;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// Only these, from packages: other people's clients against a live server, or balancers in front of two
    #[arg(value_enum)]
    only: Option<Only>,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Run the suite this many times without rebuilding, up to the first failure
    #[arg(long, value_name = "N", default_value = "1")]
    repeat: NonZeroU32,
}

/// Tests beside those of the workspace.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Only {
    Balancers,
    Clients,
}

impl Test {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let mut summary = Summary::default();
        match self.only {
            Some(Only::Balancers) => balancers(&mut summary),
            Some(Only::Clients) => clients(&mut summary),
            None => test(&self.selection.combinations(), self.repeat, &mut summary),
        }
        summary.end(self.selection.strict)
    }
}

/// Runs the tests `repeat` times or up to the first run that fails.
pub(crate) fn test(combinations: &[&Combination], repeat: NonZeroU32, summary: &mut Summary) {
    let model = LazyCell::new(sentence_model::folder);
    let voice = LazyCell::new(voice_model::file);
    let step = if repeat == NonZeroU32::MIN { "test".to_owned() } else { format!("test × {repeat}") };
    for combination in combinations {
        let has_scripts = matches!(combination.backend, Backend::Tch);
        let action = || {
            let voice = if has_scripts { voice.as_ref().ok() } else { None };
            repeat_test(combination, repeat.get(), model.as_ref().ok(), voice)
        };
        let ran = summary.step(combination, &step, Use::Run, action);
        if ran && let Err(error) = &*model {
            summary.skip(combination, "test of real embeddings", &error.told());
        }
        if ran
            && has_scripts
            && let Err(error) = &*voice
        {
            summary.skip(combination, "test of a real module with state", &error.told());
        }
    }
}

fn repeat_test(
    combination: &Combination,
    runs: u32,
    model: Option<&PathBuf>,
    voice: Option<&PathBuf>,
) -> Result<(), Error> {
    for number in 1..=runs {
        let mut command = workspace("test", combination);
        command.arg("--no-fail-fast");
        if number > 1 {
            // The first run has tested the documentation, which cargo would compile again each time.
            command.arg("--tests");
        }
        for (variable, value) in [(sentence_model::VARIABLE, model), (voice_model::VARIABLE, voice)] {
            match value {
                Some(path) => command.env(variable, path),
                None => command.env_remove(variable),
            };
        }
        run(&mut command).map_err(|source| Error::Run { number, runs, source: Box::new(source) })?;
    }
    Ok(())
}
