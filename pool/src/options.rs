//! The options by which a pool takes tasks and cuts batches.

use skep_runtime_core::{Deadline, FailureRules, Padding, Priority, StartError, SubmitError, Verify};
use std::time::{Duration, Instant};

/// The options by which a pool takes tasks and cuts batches. The defaults serve an interactive model well.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each of them is a setting of its own")]
pub struct PoolOptions {
    /// The most rows of one batch. Default 64. Choose it as large as the device's memory and the callers'
    /// patience allow: past some size, rows per second stop growing and only the latency does.
    pub max_rows: usize,
    /// The most elements of one batch, besides `max_rows`: rows times the sizes of their free dims, padded if they
    /// are. Default none.
    /// Choose it where the device's memory, or its time, is what limits a batch: of texts, so many tokens. A task that has more
    /// is split as one of more than `max_rows` rows is; it is refused where it is not split, or one row of it has more.
    pub max_elements: Option<usize>,
    /// The rule by which tasks whose free dims differ share batches. Default none: they run with tasks of equal sizes, unless the
    /// block takes them [end to end](skep_runtime_core::Schema::ragged), and then there can be no rule.
    pub padding: Option<Padding>,
    /// The rows that a batch should have before it is worth cutting. Default 1: all that waits runs as soon
    /// as the device is free, which is nearly always right, because a busy device lets batches grow by
    /// itself. More than 1 needs `max_delay`.
    pub min_rows: usize,
    /// The longest time that a task waits for company before its batch is cut short of `min_rows`. Default
    /// none; refused while `min_rows` is 1, when nothing waits. A task with a deadline waits for company no longer than
    /// half of its time, and none does that can have no company: in a full queue, or where the device has no room
    /// for `min_rows` rows.
    pub max_delay: Option<Duration>,
    /// The most tasks that may wait. Default 1024. A task that arrives beyond is refused or made to wait, so
    /// this bounds the number of tasks in memory; a task that is split counts once, until its last part has left.
    /// Room goes to the most urgent of the callers who wait for it.
    ///
    /// It does not bound the time that an accepted task waits, because more urgent ones may overtake it. For
    /// that, give the task a [`deadline`](skep_runtime_core::Request::deadline).
    pub capacity: usize,
    /// The most rows that may wait. Default `capacity` times `max_rows`, which is a bound for tasks that are split
    /// and no other. A task of more rows is refused.
    pub capacity_rows: Option<usize>,
    /// The places in the queue, of `capacity`, and with them the same share of `capacity_rows`, that are kept for tasks
    /// more urgent than `priority`. Default 0. With a reserve a flood of ordinary tasks makes no urgent one wait for
    /// room.
    pub reserve: usize,
    /// Lets a task that finds the queue full take the place of the least urgent that wait, if those are less urgent than
    /// it is: they are answered with [`TaskError::Evicted`](skep_runtime_core::TaskError::Evicted). Default no. Of
    /// equals the newest goes first, at most 16 for one, and none of which a part has been cut.
    pub eviction: bool,
    /// Makes a task's deadline the time at which its *answer* must be there. Default no: it is the time at which the task
    /// must start to run. What cannot be answered in time takes no device time: as soon as it is known how long batches
    /// take, such a task is refused when it is handed in, or answered with
    /// [`TaskError::Expired`](skep_runtime_core::TaskError::Expired) when its turn comes, and batches are no larger than
    /// the most urgent of their tasks allows, nor take more than a third of the shortest time that tasks lately had until their
    /// deadlines, where fewer rows cost little more each: who comes while one runs is to be answered in time too.
    pub answer_in_time: bool,
    /// The priority of tasks that name none. Default [`Priority::NORMAL`].
    pub priority: Priority,
    /// The time that a task may wait if its caller sets no [`deadline`](skep_runtime_core::Request::deadline). Default
    /// none: it waits for as long as it takes.
    pub deadline: Option<Duration>,
    /// The longest time that any task may wait, whatever its caller asks for: a later deadline is brought forward to it, and
    /// a task without one gets it. Default none. With it, nothing that waits in this pool is older.
    pub max_deadline: Option<Duration>,
    /// Splits a task of more than `max_rows` rows over several batches and joins its outputs again, instead
    /// of refusing it. Default no. Its parts are cut as their turn comes, and let others of the same priority in
    /// between; it waits, expires and counts as one task. Tasks of a backward pass are not split, unless
    /// `split_backward` asks for it.
    pub split_large_tasks: bool,
    /// Splits those of a backward pass, too. Default no, because each part is a step of the optimizer: what the task
    /// trains is not what it would train as one, and when a part fails, those before it have been learned.
    pub split_backward: bool,
    /// Refuses a task with an input that is infinite or not a number, which costs a look at each element. Default
    /// `None`: yes for the backward pass of a served block, no else. One such gradient would fail the training step of
    /// all tasks in its batch.
    pub finite_inputs: Option<bool>,
    /// The treatment of batches that fail. Default: a failing forward batch is taken apart so that only the
    /// tasks that make it fail get the error, and outputs are not checked for being finite. Switch `rerun`
    /// off if a block has side effects, or if a second run costs more than lost answers.
    pub failures: FailureRules,
    /// Runs a task of a forward batch alone now and then, and compares its outputs with those that it got in company.
    /// Default no. Switch it on in tests; in service, one batch in some thousand costs next to nothing.
    pub verify: Option<Verify>,
}

impl PoolOptions {
    /// Sets [`max_rows`](Self#structfield.max_rows).
    pub fn max_rows(mut self, max_rows: usize) -> Self {
        self.max_rows = max_rows;
        self
    }

    /// Sets [`max_elements`](Self#structfield.max_elements).
    pub fn max_elements(mut self, max_elements: impl Into<Option<usize>>) -> Self {
        self.max_elements = max_elements.into();
        self
    }

    /// Sets [`padding`](Self#structfield.padding).
    ///
    /// ```
    /// use skep_pool::{PoolOptions, Serve, ServeOptions};
    /// use skep_runtime_core::testing::{FakeDevice, FakeTensor, FnBlock};
    /// use skep_runtime_core::{DType, Dim, PadTo, Padding, RuntimeBuilder, Schema, TensorSpec};
    ///
    /// let dims = [Dim::Batch, Dim::free("tokens", 512)];
    /// let schema = |name| Schema::new(vec![TensorSpec::new(name, DType::F32, dims.clone())]);
    /// let double = |x: &[FakeTensor]| Ok(vec![x[0].map(|v| 2.0 * v)]);
    /// let block = FnBlock::new("double", schema("x")?, Some(schema("y")?), double);
    ///
    /// let mut builder = RuntimeBuilder::new(FakeDevice::new());
    /// let options = PoolOptions::default().padding(Padding::new(PadTo::Multiple(4)));
    /// let pool = builder.serve(block, ServeOptions::forward(options))?.forward;
    /// let _runtime = builder.start()?;
    ///
    /// // It runs with four tokens, and comes back with three.
    /// let ticket = pool.submit(vec![FakeTensor::rows(&[[1.0, 2.0, 3.0]])])?;
    /// assert_eq!(ticket.wait()?, [FakeTensor::rows(&[[2.0, 4.0, 6.0]])]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn padding(mut self, padding: impl Into<Option<Padding>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// Sets [`min_rows`](Self#structfield.min_rows).
    pub fn min_rows(mut self, min_rows: usize) -> Self {
        self.min_rows = min_rows;
        self
    }

    /// Sets [`max_delay`](Self#structfield.max_delay).
    pub fn max_delay(mut self, max_delay: impl Into<Option<Duration>>) -> Self {
        self.max_delay = max_delay.into();
        self
    }

    /// Sets [`capacity`](Self#structfield.capacity).
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }

    /// Sets [`capacity_rows`](Self#structfield.capacity_rows).
    pub fn capacity_rows(mut self, capacity_rows: impl Into<Option<usize>>) -> Self {
        self.capacity_rows = capacity_rows.into();
        self
    }

    /// Sets [`reserve`](Self#structfield.reserve).
    pub fn reserve(mut self, reserve: usize) -> Self {
        self.reserve = reserve;
        self
    }

    /// Sets [`eviction`](Self#structfield.eviction).
    pub fn eviction(mut self, eviction: bool) -> Self {
        self.eviction = eviction;
        self
    }

    /// Sets [`answer_in_time`](Self#structfield.answer_in_time).
    pub fn answer_in_time(mut self, answer_in_time: bool) -> Self {
        self.answer_in_time = answer_in_time;
        self
    }

    /// Sets [`priority`](Self#structfield.priority).
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets [`deadline`](Self#structfield.deadline).
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// Sets [`max_deadline`](Self#structfield.max_deadline).
    pub fn max_deadline(mut self, max_deadline: impl Into<Option<Duration>>) -> Self {
        self.max_deadline = max_deadline.into();
        self
    }

    /// Sets [`split_large_tasks`](Self#structfield.split_large_tasks).
    pub fn split_large_tasks(mut self, split_large_tasks: bool) -> Self {
        self.split_large_tasks = split_large_tasks;
        self
    }

    /// Sets [`split_backward`](Self#structfield.split_backward).
    pub fn split_backward(mut self, split_backward: bool) -> Self {
        self.split_backward = split_backward;
        self
    }

    /// Sets [`finite_inputs`](Self#structfield.finite_inputs).
    pub fn finite_inputs(mut self, finite_inputs: impl Into<Option<bool>>) -> Self {
        self.finite_inputs = finite_inputs.into();
        self
    }

    /// Sets [`failures`](Self#structfield.failures).
    pub fn failures(mut self, failures: FailureRules) -> Self {
        self.failures = failures;
        self
    }

    /// Sets [`verify`](Self#structfield.verify).
    pub fn verify(mut self, verify: impl Into<Option<Verify>>) -> Self {
        self.verify = verify.into();
        self
    }
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            max_rows: 64,
            max_elements: None,
            padding: None,
            min_rows: 1,
            max_delay: None,
            capacity: 1024,
            capacity_rows: None,
            reserve: 0,
            eviction: false,
            answer_in_time: false,
            priority: Priority::NORMAL,
            deadline: None,
            max_deadline: None,
            split_large_tasks: false,
            split_backward: false,
            finite_inputs: None,
            failures: FailureRules::default(),
            verify: None,
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
        if self.max_elements == Some(0) {
            return wrong("max_elements", 0, "at least 1");
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
        if let Some(delay) = self.max_delay.filter(|_| self.min_rows == 1) {
            let (of, setting, got) = (format!("pool `{pool}`"), "max_delay", format!("{delay:?}"));
            let expected = "none unless min_rows is above 1, or nothing waits for company";
            return Err(StartError::Setting { of, setting, got, expected });
        }
        let none_at_all = [("deadline", self.deadline), ("max_deadline", self.max_deadline)]
            .into_iter()
            .find(|(_, limit)| limit.is_some_and(|limit| limit.is_zero()));
        if let Some((setting, _)) = none_at_all {
            let (of, got) = (format!("pool `{pool}`"), "0ns".to_owned());
            return Err(StartError::Setting { of, setting, got, expected: "more than no time" });
        }
        if let (Some(deadline), Some(most)) = (self.deadline, self.max_deadline)
            && deadline > most
        {
            let (of, got) = (format!("pool `{pool}`"), format!("{deadline:?}"));
            return Err(StartError::Setting {
                of,
                setting: "deadline",
                got,
                expected: "at most max_deadline",
            });
        }
        if let Some(rows) = self.capacity_rows.filter(|rows| *rows < self.max_rows) {
            return wrong("capacity_rows", rows, "at least max_rows");
        }
        if self.reserve >= self.capacity {
            return wrong("reserve", self.reserve, "less than capacity");
        }
        if let Some(Verify { every, tolerance, .. }) = self.verify {
            let of = format!("pool `{pool}`");
            if every == 0 {
                return wrong("verify.every", 0, "at least 1");
            }
            if !(tolerance.is_finite() && tolerance >= 0.0) {
                let (setting, got, expected) =
                    ("verify.tolerance", tolerance.to_string(), "a finite number, at least 0");
                return Err(StartError::Setting { of, setting, got, expected });
            }
        }
        if self.room(self.priority).rows < self.max_rows {
            return wrong(
                "reserve",
                self.reserve,
                "so few that as many as max_rows of capacity_rows are left",
            );
        }
        Ok(())
    }

    /// The deadline of a task that is handed in at `now` and asks for `asked`.
    #[inline]
    pub(crate) fn deadline_of(&self, asked: Option<Deadline>, now: Instant) -> Option<Instant> {
        let own = asked.or(self.deadline.map(Deadline::In)).and_then(|deadline| deadline.after(now));
        match self.max_deadline.and_then(|most| now.checked_add(most)) {
            Some(last) => Some(own.map_or(last, |own| own.min(last))),
            None => own,
        }
    }

    /// The most rows of a batch of rows of so many elements.
    #[inline]
    pub(crate) fn most_rows(&self, elements: usize) -> usize {
        match self.max_elements {
            Some(max) => self.max_rows.min((max / elements.max(1)).max(1)),
            None => self.max_rows,
        }
    }

    /// Refuses a task of which more must run together than a batch may have.
    #[inline]
    pub(crate) fn check_elements(
        &self,
        rows: usize,
        elements: usize,
        splits: bool,
    ) -> Result<(), SubmitError> {
        let Some(max) = self.max_elements else { return Ok(()) };
        let got = elements.saturating_mul(if splits { 1 } else { rows });
        if got > max { Err(SubmitError::TooManyElements { got, max }) } else { Ok(()) }
    }

    /// The room that there is for tasks of this priority.
    #[inline]
    pub(crate) fn room(&self, priority: Priority) -> Room {
        let rows = self.capacity_rows.unwrap_or_else(|| self.capacity.saturating_mul(self.max_rows));
        if self.reserve == 0 || priority < self.priority {
            return Room { tasks: self.capacity, rows };
        }
        let tasks = self.capacity - self.reserve;
        let share = rows as u128 * tasks as u128 / self.capacity as u128;
        Room { tasks, rows: usize::try_from(share).unwrap_or(rows) }
    }
}

/// The elements of a row of these free dims, as far as they differ.
pub(crate) fn elements(free: &[usize]) -> usize {
    free.iter().fold(1, |all: usize, dim| all.saturating_mul(*dim)).max(1)
}

/// How much of a queue may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) tasks: usize,
    pub(crate) rows: usize,
}

#[cfg(test)]
mod tests;
