//! `cargo xtask ci`: what CI runs, as [`STEPS`] says.

use crate::benchmark::instructions;
use crate::combination::table::Combination;
use crate::command::balancers::balancers;
use crate::command::clients::clients;
use crate::command::doc::doc;
use crate::command::explore::some_interleavings;
use crate::command::lint::lint;
use crate::command::selection::Selection;
use crate::command::test::test;
use crate::error::Error;
use crate::report::summary::Summary;
use clap::Args;
use std::num::NonZeroU32;
use std::process::ExitCode;

type Step = fn(&[&Combination], &mut Summary);

/// Each step as one would ask for it alone. `.ci/run` asks for the same in the same order.
const STEPS: [(&str, Step); 7] = [
    ("lint", lint),
    ("doc", doc),
    ("explore --schedules 20000", |_, summary| some_interleavings(summary)),
    ("bench --check", |_, summary| instructions::check(false, summary)),
    ("test clients", |_, summary| clients(summary)),
    ("test balancers", |_, summary| balancers(summary)),
    // The last, as its result is what one looks for at the end of a log.
    ("test", |combinations, summary| test(combinations, NonZeroU32::MIN, summary)),
];

#[derive(Args, Debug)]
pub(crate) struct Ci {
    #[command(flatten)]
    selection: Selection,
}

impl Ci {
    pub(crate) fn run(&self) -> Result<ExitCode, Error> {
        let combinations = self.selection.combinations();
        let mut summary = Summary::default();
        for (_, step) in STEPS {
            step(&combinations, &mut summary);
        }
        summary.end(self.selection.strict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::process::root;

    fn steps_of(script: &str) -> Vec<&str> {
        script.lines().filter_map(|line| line.strip_prefix("cargo xtask ")).map(str::trim_end).collect()
    }

    #[test]
    fn the_script_has_the_same_steps_in_the_same_order() {
        let script = std::fs::read_to_string(root().join(".ci").join("run")).unwrap();
        assert_eq!(steps_of(&script), STEPS.map(|(step, _)| step));
    }

    #[test]
    fn a_step_that_a_script_leaves_out_or_moves_is_seen() {
        let asks =
            |steps: &[&str]| steps.iter().fold(String::new(), |all, it| all + "cargo xtask " + it + "\n");
        let names = STEPS.map(|(step, _)| step);
        assert_eq!(steps_of(&asks(&names)), names);
        assert_ne!(steps_of(&asks(&names[1..])), names);
        let turned: Vec<_> = names.into_iter().rev().collect();
        assert_ne!(steps_of(&asks(&turned)), names);
    }

    #[test]
    fn the_last_step_is_the_readmes_test_command() {
        let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
        let last = format!("cargo xtask {}", STEPS[STEPS.len() - 1].0);
        assert!(readme.lines().any(|line| line.split('#').next().unwrap_or_default().trim() == last));
    }
}
