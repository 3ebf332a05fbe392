//! How far the run is, on standard error: indicatif's bar on a terminal, and a line of ours now and then elsewhere,
//! where indicatif shows nothing.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Between two lines where standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(3);

pub(crate) struct Progress {
    /// Draws nothing where standard error is not a terminal.
    bar: ProgressBar,
    what: &'static str,
    last_line: Instant,
}

impl Progress {
    /// Starts at 0 of `total` `what` (a word in plural).
    pub(crate) fn new(total: usize, what: &'static str) -> Self {
        let bar = ProgressBar::new(total as u64);
        let template = "{elapsed_precise} [{bar:30}] {pos}/{len} {prefix}, {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        Self { bar, what, last_line: Instant::now() }
    }

    pub(crate) fn show(&mut self, done: usize, message: String) {
        if self.bar.is_hidden() {
            if self.last_line.elapsed() >= LINE_EVERY {
                self.last_line = Instant::now();
                eprintln!("{done}/{} {}, {message}", self.bar.length().unwrap_or(0), self.what);
            }
        } else {
            self.bar.set_position(done as u64);
            self.bar.set_message(message);
        }
    }

    /// Leaves the bar as it is and goes on below it.
    pub(crate) fn end(self) {
        self.bar.abandon();
    }
}
