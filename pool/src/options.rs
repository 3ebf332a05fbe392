//! The options by which a pool takes tasks and cuts batches.

use skep_runtime_core::{FailureRules, Priority, StartError};
use std::time::Duration;

/// The options by which a pool takes tasks and cuts batches. The defaults serve an interactive model well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// The most rows of one batch. Default 64. Choose it as large as the device's memory and the callers'
    /// patience allow: past some size, rows per second stop growing and only the latency does.
    pub max_rows: usize,
    /// The rows that a batch should have before it is worth cutting. Default 1: all that waits runs as soon
    /// as the device is free, which is nearly always right, because a busy device lets batches grow by
    /// itself. More than 1 needs `max_delay`.
    pub min_rows: usize,
    /// The longest time that a task waits for company before its batch is cut short of `min_rows`. Default
    /// none. It has no effect while `min_rows` is 1.
    pub max_delay: Option<Duration>,
    /// The most tasks that may wait. Default 1024. A task that arrives beyond is refused or made to wait, so
    /// this bounds the number of tasks in memory; a task that is split counts once, however many its parts.
    ///
    /// It does not bound the time that an accepted task waits, because more urgent ones may overtake it. For
    /// that, give the task a [`deadline`](skep_runtime_core::Request::deadline).
    pub capacity: usize,
    /// The priority of tasks that name none. Default [`Priority::NORMAL`].
    pub priority: Priority,
    /// Splits a task of more than `max_rows` rows over several batches and joins its outputs again, instead
    /// of refusing it. Default no.
    pub split_large_tasks: bool,
    /// The treatment of batches that fail. Default: a failing forward batch is taken apart so that only the
    /// tasks that make it fail get the error, and outputs are not checked for being finite. Switch `rerun`
    /// off if a block has side effects, or if a second run costs more than lost answers.
    pub failures: FailureRules,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_rows: 64,
            min_rows: 1,
            max_delay: None,
            capacity: 1024,
            priority: Priority::NORMAL,
            split_large_tasks: false,
            failures: FailureRules::default(),
        }
    }
}

impl PoolOptions {
    /// Checks the options of the pool of this name.
    pub(crate) fn check(&self, pool: &str) -> Result<(), StartError> {
        let wrong = |setting, got: usize, expected| {
            let of = format!("pool `{pool}`");
            Err(StartError::Setting { of, setting, got: got.to_string(), expected })
        };
        if self.max_rows == 0 {
            return wrong("max_rows", 0, "at least 1");
        }
        if self.min_rows == 0 || self.min_rows > self.max_rows {
            return wrong("min_rows", self.min_rows, "1 to max_rows");
        }
        if self.capacity == 0 {
            return wrong("capacity", 0, "at least 1");
        }
        if self.min_rows > 1 && self.max_delay.is_none() {
            return wrong("min_rows", self.min_rows, "1 unless max_delay bounds the wait for more");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: &PoolOptions) -> String {
        options.check("x").unwrap_err().to_string()
    }

    #[test]
    fn options_that_would_never_run_are_refused() {
        let good = PoolOptions::default();
        assert!(good.check("x").is_ok());
        assert_eq!(
            message(&PoolOptions { max_rows: 0, ..good.clone() }),
            "pool `x`: max_rows is 0, expected at least 1"
        );
        assert_eq!(
            message(&PoolOptions { min_rows: 65, ..good.clone() }),
            "pool `x`: min_rows is 65, expected 1 to max_rows"
        );
        assert_eq!(
            message(&PoolOptions { capacity: 0, ..good.clone() }),
            "pool `x`: capacity is 0, expected at least 1"
        );
        let alone = PoolOptions { min_rows: 2, ..good };
        assert_eq!(
            message(&alone),
            "pool `x`: min_rows is 2, expected 1 unless max_delay bounds the wait for more"
        );
        assert!(PoolOptions { max_delay: Some(Duration::ZERO), ..alone }.check("x").is_ok());
    }
}
