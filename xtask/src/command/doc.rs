//! `cargo xtask doc`: the documentation of our own packages, where a warning is an error.

use crate::combination::cargo::workspace;
use crate::combination::table::{Combination, Use};
use crate::command::selection::Selection;
use crate::error::Error;
use crate::machine::process::run;
use crate::report::summary::Summary;
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Doc {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

impl Doc {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let mut summary = Summary::default();
        doc(&self.selection.combinations(), &mut summary);
        summary.end(self.selection.strict)
    }
}

pub(crate) fn doc(combinations: &[&Combination], summary: &mut Summary) {
    for combination in combinations {
        summary.step(combination, "doc", Use::Check, || {
            run(workspace("doc", combination).arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings"))
        });
    }
}
