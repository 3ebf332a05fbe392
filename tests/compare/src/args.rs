//! The arguments.

use crate::scenarios::BY_NAME;
use clap::Parser;
use std::path::PathBuf;
use std::time::Duration;

/// Runs Skep beside what could be used instead of it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask compare")]
pub(crate) struct Args {
    /// Rounds of each contest, of which the medians are reported
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds of one round of one system with the null block; with a model it is four times as long
    #[arg(long, default_value_t = 0.2, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Folder for `rows.json`, `compare.svg` and `table.md`
    #[arg(long, default_value = ".")]
    pub(crate) out: PathBuf,
    /// Folder of all-MiniLM-L6-v2; its contests are skipped without it
    #[arg(long)]
    pub(crate) minilm: Option<PathBuf>,
    /// Python that has hivemind; its contests are skipped without it
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
    /// Why there is no such Python, for the report
    #[arg(long, default_value = "no Python was given", value_name = "REASON")]
    pub(crate) no_python: String,
    /// Program with text-embeddings-inference's candle backend; left out without it
    #[arg(long)]
    pub(crate) tei: Option<PathBuf>,
    /// Only the system of this name, and others given in the same way; the first that is left is the baseline
    #[arg(long = "system", value_name = "NAME")]
    pub(crate) systems: Vec<String>,
    /// Only contests with as many tasks outstanding as one of these
    #[arg(long, value_delimiter = ',')]
    pub(crate) outstanding: Vec<usize>,
    /// One measurement of the scenario `budget`, which runs each in a process of its own
    #[arg(long, hide = true)]
    pub(crate) part: Option<String>,
    /// One system of the scenario `processor`, which runs each in a process of its own: asked for one round after the other
    #[arg(long, hide = true)]
    pub(crate) alone: Option<String>,
    /// Only scenarios whose name contains one of these words
    pub(crate) only: Vec<String>,
}

impl Args {
    pub(crate) fn wants(&self, scenario: &str) -> bool {
        let by_default = self.only.is_empty() && !BY_NAME.contains(&scenario);
        by_default || self.only.iter().any(|word| scenario.contains(word.as_str()))
    }

    /// One round of one system with the null block.
    pub(crate) fn short(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// One round of one system with a model.
    pub(crate) fn long(&self) -> Duration {
        Duration::from_secs_f64(4.0 * self.seconds)
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected 0.01 to 60 seconds".to_owned()),
    }
}
