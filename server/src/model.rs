//! A model that is served, as the doors see it.

use crate::caller::Caller;
use crate::problem::{Problem, ProblemKind};
use crate::settings::WhenFull;
use crate::tally::Tally;
use crate::texts::Texts;
use skep_runtime_core::{Front, Priority, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A model that is served.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) version: String,
    /// What it is called on the device: its name, but for models that came beside another of that name.
    pub(crate) block: String,
    /// What is known of its folder besides the weights, in short.
    pub(crate) fingerprint: u64,
    /// What computes it: `skep_candle`, say.
    pub(crate) platform: String,
    /// What it is computed in, as others call it: `float32`.
    pub(crate) dtype: &'static str,
    pub(crate) front: Arc<dyn Front>,
    pub(crate) texts: Option<Arc<dyn Texts>>,
    pub(crate) rules: Rules,
    pub(crate) tally: Arc<Tally>,
    /// Ends with it.
    pub(crate) life: watch::Sender<()>,
}

/// The rules by which requests for a model are taken.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The most rows of a batch.
    pub(crate) max_rows: usize,
    /// The most tasks that may wait.
    pub(crate) capacity: usize,
    /// Tasks of more rows are split.
    pub(crate) splits: bool,
    pub(crate) when_full: WhenFull,
    /// The longest that a request may wait before it runs.
    pub(crate) wait_limit: Duration,
    /// The priority of those that name none.
    pub(crate) priority: Priority,
}

impl Model {
    /// Waits until nobody has this model any more: neither the catalogue nor a request.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + use<> {
        let mut life = self.life.subscribe();
        async move { while life.changed().await.is_ok() {} }
    }

    /// The labels of its outputs' numbers.
    pub(crate) fn labels(&self) -> &[String] {
        let labels = self.texts.as_ref().and_then(|texts| texts.model().labels());
        labels.map_or(&[], |labels| &labels.names)
    }

    /// The model's answers to questions about texts.
    pub(crate) fn texts(&self) -> Result<&Arc<dyn Texts>, Problem> {
        self.texts
            .as_ref()
            .ok_or_else(|| Problem::unsupported(format!("model `{}` takes tensors, and no texts", self.name)))
    }

    /// The time that a request may wait of which the client says `asked`.
    pub(crate) fn wait(&self, asked: Option<Duration>) -> Duration {
        asked.map_or(self.rules.wait_limit, |asked| asked.min(self.rules.wait_limit))
    }

    /// The priority that the protocol's number stands for: 0 is none, 1 the most urgent. All are less urgent than
    /// nothing but the server's own.
    pub(crate) fn priority(&self, number: u64) -> Option<Priority> {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        (number > 0).then(|| Priority(self.rules.priority.0.saturating_add(number - 1)))
    }

    /// Gives a request its priority, its time, and the account on which it runs.
    pub(crate) fn ruled<T>(
        &self,
        request: Request<T>,
        caller: &Caller,
        priority: u64,
        timeout: Option<Duration>,
    ) -> Request<T> {
        request.priority(self.priority(priority)).deadline(self.wait(timeout)).flow(caller.flow())
    }

    /// Refuses work for which there is no room, if the model refuses at all.
    pub(crate) fn admit(&self, tasks: usize) -> Result<(), Problem> {
        if self.rules.when_full == WhenFull::Wait {
            return Ok(());
        }
        let (waiting, _) = self.tally.waiting();
        if waiting.saturating_add(tasks as u64) <= self.rules.capacity as u64
            || tasks > self.rules.capacity && waiting == 0
        {
            return Ok(());
        }
        let message = format!(
            "Exceeds maximum queue size: {waiting} tasks wait and {tasks} come, of at most {}",
            self.rules.capacity
        );
        Err(self.hinted(Problem::new(ProblemKind::Overloaded, message)))
    }

    /// Adds the time after which it is worth to ask again, of problems that pass.
    pub(crate) fn hinted(&self, problem: Problem) -> Problem {
        match problem.kind {
            ProblemKind::Overloaded | ProblemKind::Expired => problem.retry_after(self.tally.wait_seconds()),
            ProblemKind::Unavailable => problem.retry_after(1),
            _ => problem,
        }
    }
}
