//! `cargo xtask build`: compiles and links every target.

use crate::combination::cargo::workspace;
use crate::combination::table::{Combination, Use};
use crate::command::selection::Selection;
use crate::error::Error;
use crate::machine::process::run;
use crate::report::summary::Summary;
use clap::Args;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Build {
    #[command(flatten)]
    selection: Selection,
    /// Build optimised
    #[arg(long)]
    release: bool,
}

impl Build {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let mut summary = Summary::default();
        build(&self.selection.combinations(), self.release, &mut summary);
        summary.end(self.selection.strict)
    }
}

pub(crate) fn build(combinations: &[&Combination], release: bool, summary: &mut Summary) {
    for combination in combinations {
        summary.step(combination, "build", Use::Build, || {
            let mut command = workspace("build", combination);
            command.arg("--all-targets").args(release.then_some("--release"));
            run(&mut command)
        });
    }
}
