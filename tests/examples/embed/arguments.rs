//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Serves a published text model to many callers at once: embeds sentences and finds those nearest to a query
///
/// A classifier gives its scores, a cross-encoder those of the query with each sentence. A folder that cannot be served
/// as it was meant is refused with status 2.
///
/// `SKEP_DEVICE` chooses the device: cpu, cuda or metal.
#[derive(Parser)]
#[command(name = "embed", allow_negative_numbers = true)]
pub(crate) struct Arguments {
    /// The model: a folder as transformers or sentence-transformers write it
    #[arg(long, value_name = "DIR")]
    pub(crate) model_dir: Option<PathBuf>,
    /// One sentence per line [default: 200 sentences in the program]
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// What to look for
    #[arg(long, value_name = "TEXT", default_value = "How did ships find their way before there were maps?")]
    pub(crate) query: String,
    /// Which of the folder's prompts to put before each sentence [default: the folder's own choice]
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt: Option<String>,
    /// How many of the nearest sentences to print
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_most::<1000>)]
    pub(crate) top: usize,
    /// What the weights are computed in: f32, or stored (as they are in the file)
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub(crate) precision: String,
    /// A key of the folder's settings that is to be left out, if you know it has no influence [can be given again]
    #[arg(long, value_name = "KEY")]
    pub(crate) ignore: Vec<String>,
    /// Threads that hand in one sentence after the other
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = at_most::<1024>)]
    pub(crate) callers: usize,
    /// Sentences are padded to a multiple of this many tokens; those of equal padded length share batches
    #[arg(long, value_name = "TOKENS", default_value_t = 2, value_parser = at_most::<512>)]
    pub(crate) bucket: usize,
    /// The most sentences in one batch: on a CPU, more bring little, and let an urgent one wait longer
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_most::<1024>)]
    pub(crate) max_rows: usize,
    /// Threads that one product of matrices may use on a CPU [default: one per physical core]
    #[arg(long, value_name = "N", value_parser = at_most::<1024>)]
    pub(crate) threads: Option<usize>,
    /// Compare the vectors with those that sentence-transformers computed, and fail where they differ: for
    /// all-MiniLM-L6-v2 and the sentences in the program
    #[arg(long)]
    pub(crate) check: bool,
    /// Print one JSON object on standard output, everything else on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// A whole number from 1 to `MOST`.
fn at_most<const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..) if number <= MOST => Ok(number),
        _ => Err(format!("expected a whole number from 1 to {MOST}")),
    }
}
