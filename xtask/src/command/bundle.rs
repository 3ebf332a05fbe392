//! `cargo xtask bundle`: the programs of one combination, packed into one archive that runs on a machine without
//! Rust. On the other side, `packed` does what `test`, `bench` and `demo` do here.

use crate::bundle::archive::told;
use crate::bundle::folder::pack;
use crate::combination::table::Use;
use crate::command::selection::Selection;
use crate::error::Error;
use crate::machine::process::target;
use crate::report::summary::Summary;
use clap::Args;
use std::fs;
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(crate) struct Bundle {
    #[command(flatten)]
    selection: Selection,
}

impl Bundle {
    /// Packs each combination.
    ///
    /// # Errors
    ///
    /// When the target folder is not known; a bundle that fails is a row of the summary.
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let mut summary = Summary::default();
        let home = target()?.join("bundle");
        let mut lines = Vec::new();
        for combination in self.selection.combinations() {
            summary.step(combination, "bundle", Use::Build, || {
                let archive = pack(combination, &home)?;
                let bytes = fs::metadata(&archive).map_err(Error::file("read", &archive))?.len();
                lines.push(told(&archive, bytes));
                Ok(())
            });
        }
        for line in lines {
            print!("\n{line}");
        }
        summary.end(self.selection.strict)
    }
}
