//! A caller: hands tasks in, in every way there is, and holds each answer against its input.

use super::device::{Faulty, Tracked, WIDTH, exact, whole};
use super::faults::{Fault, LATEST};
use super::ledger::{Answer, Row, Told};
use super::report::Report;
use crate::kit::{LIMIT, block_on, eat_wake_up, poll_once};
use rand::Rng;
use rand::rngs::StdRng;
use skep_pool::TaskPool;
use skep_runtime_core::{
    BatchError, Device, FailureRules, Flow, Pass, Priority, Refused, Request, Submit, SubmitError, TaskError,
    TaskResult, Ticket,
};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// A pool under load.
pub(super) struct Served<D: Device> {
    pub(super) pool: TaskPool<Faulty<D>>,
    pub(super) number: u32,
    pub(super) pass: Pass,
}

/// The result of handing a task in.
type Submitted<T> = Result<Ticket<T>, Refused<T>>;

/// A task that waits for its answer.
struct Open<D: Device> {
    ticket: Ticket<Tracked<D::Tensor>>,
    task: Task,
}

/// A task as its caller remembers it.
struct Task {
    first: Row,
    rows: u32,
    doom: Option<Fault>,
    pass: Pass,
    /// The pool's rules for failures.
    rules: FailureRules,
    /// It fits into one batch. Of one that is split, some parts may run although it has expired.
    whole: bool,
}

/// The bounds for the tasks of one caller.
#[derive(Clone, Copy)]
pub(super) struct Habits {
    /// The probability of each fault of a task's own.
    pub(super) doom: f64,
    /// The most tasks that wait for an answer at a time.
    pub(super) open: usize,
    /// Other devices go on when one is lost, and nobody is told.
    pub(super) goes_on: bool,
}

pub(super) struct Caller<D: Device> {
    number: u32,
    rng: StdRng,
    habits: Habits,
    device: Arc<Faulty<D>>,
    pools: Arc<[Served<D>]>,
    open: Vec<Open<D>>,
    serial: u32,
    /// Tasks refused because the runtime has stopped.
    turned_away: u32,
    pub(super) report: Report,
    pub(super) answers: Vec<Answer>,
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        eat_wake_up();
        panic!("on purpose: waker");
    }
}

impl<D: Device> Caller<D> {
    pub(super) fn new(
        number: u32,
        rng: StdRng,
        habits: Habits,
        device: Arc<Faulty<D>>,
        pools: Arc<[Served<D>]>,
    ) -> Self {
        let (open, answers, report) = (Vec::new(), Vec::new(), Report::default());
        Self { number, rng, habits, device, pools, open, serial: 0, turned_away: 0, report, answers }
    }

    /// Hands one task in, waiting for room in one of the ways there are, and maybe waits for another one's
    /// answer. Returns false if that is of no more use: the runtime has stopped, and has said so a few times.
    pub(super) fn act(&mut self) -> bool {
        let pools = Arc::clone(&self.pools);
        let served = &pools[self.rng.random_range(0..pools.len())];
        let (request, task) = self.task(served);
        let pool = &served.pool;
        let submitted = match self.rng.random_range(0..5) {
            0 | 1 => pool.submit(request),
            2 => pool.try_submit(request),
            3 => block_on(Submit::submit_async(pool, request)),
            _ => {
                let patience = self.rng.random_bool(0.5);
                let mut submitting = pin!(pool.submit_async(request));
                match poll_once(&mut submitting) {
                    Poll::Ready(submitted) => submitted,
                    Poll::Pending if patience => block_on(submitting),
                    Poll::Pending => {
                        self.report.given_up += 1;
                        return true;
                    }
                }
            }
        };
        self.note(task, submitted);
        if self.open.len() >= self.habits.open {
            let at = self.rng.random_range(0..self.open.len());
            let open = self.open.swap_remove(at);
            self.await_answer(open);
        }
        self.turned_away < 10
    }

    /// Hands one task in without ever waiting.
    pub(super) fn push(&mut self) {
        let pools = Arc::clone(&self.pools);
        let served = &pools[self.rng.random_range(0..pools.len())];
        let (request, task) = self.task(served);
        let submitted = served.pool.try_submit(request);
        self.note(task, submitted);
    }

    /// Polls the ticket of one more task with this waker. Returns false if that one cannot wake any more.
    pub(super) fn poll_with(&mut self, waker: &Waker) -> bool {
        self.push();
        let Some(open) = self.open.last_mut() else { return false };
        match Pin::new(&mut open.ticket).poll(&mut Context::from_waker(waker)) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                if let Some(open) = self.open.pop() {
                    self.count(&open.task, result);
                }
                false
            }
        }
    }

    /// Waits for all answers.
    pub(super) fn finish(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.await_answer(open);
        }
    }

    /// Draws a task for a pool, and returns it as the pool gets it and as its caller remembers it.
    fn task(&mut self, served: &Served<D>) -> (Request<Tracked<D::Tensor>>, Task) {
        let rng = &mut self.rng;
        let rows = if rng.random_bool(0.02) { rng.random_range(20..40) } else { rng.random_range(1..6) };
        let doom = Fault::doom(rng, self.habits.doom);
        let first = Row { pool: served.number, caller: self.number, serial: self.serial, at: 0 };
        self.serial += 1;
        let mut values = Vec::with_capacity(rows as usize * WIDTH);
        for row in 0..rows {
            let doom = if row == 0 { doom } else { None };
            values.extend([exact(first.caller), exact(first.serial), exact(row), Fault::to_value(doom), 0.0]);
        }
        let mut inputs = vec![self.device.rows(WIDTH, &values)];
        if served.pass == Pass::Backward {
            let zeros = vec![0.0; values.len()];
            inputs.push(self.device.rows(WIDTH, &zeros));
            inputs.push(self.device.rows(1, &zeros[..rows as usize]));
        }
        let mut request = Request::new(inputs);
        if rng.random_bool(0.5) {
            request = request.priority(Priority(rng.random_range(-2..3)));
        }
        if rng.random_bool(0.5) {
            request = request.flow(Flow(rng.random_range(0..5)));
        }
        if rng.random_bool(0.1) {
            request = request.deadline(rng.random_range(Duration::ZERO..LATEST));
        }
        let whole = rows as usize <= served.pool.options().max_rows;
        let rules = served.pool.options().failures;
        (request, Task { first, rows, doom, pass: served.pass, rules, whole })
    }

    fn note(&mut self, task: Task, submitted: Submitted<Tracked<D::Tensor>>) {
        self.report.submitted += 1;
        match submitted {
            Ok(ticket) if self.rng.random_bool(0.05) => {
                drop(ticket);
                self.report.dropped += 1;
            }
            Ok(ticket) => self.open.push(Open { ticket, task }),
            Err(refused) => {
                let (error, request) = refused.into_parts();
                self.report.refused += 1;
                let stopped = matches!(
                    error,
                    SubmitError::ShutDown | SubmitError::Removed | SubmitError::DeviceLost(_)
                );
                self.turned_away += u32::from(stopped);
                let serial = self.device.read(&request.inputs.into_tensors()[0])[1];
                self.report.mixed_up += u64::from(whole(serial) != task.first.serial);
                assert!(
                    matches!(
                        error,
                        SubmitError::Full { .. }
                            | SubmitError::DeadlinePassed
                            | SubmitError::TooLate { .. }
                            | SubmitError::ShutDown
                            | SubmitError::Removed
                            | SubmitError::DeviceLost(_)
                            | SubmitError::TooManyRows { .. }
                            | SubmitError::Unreadable(_)
                    ),
                    "no task should be refused like this: {error}"
                );
            }
        }
    }

    /// Waits for an answer in one of the ways there are, or drops its ticket.
    fn await_answer(&mut self, mut open: Open<D>) {
        let result = match self.rng.random_range(0..20) {
            0 => {
                drop(open.ticket);
                self.report.dropped += 1;
                return;
            }
            1 => {
                let waker = Waker::from(Arc::new(PanickingWaker));
                match Pin::new(&mut open.ticket).poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => open.ticket.wait_timeout(LIMIT).ok(),
                }
            }
            2..5 => match open.ticket.wait_timeout(Duration::ZERO) {
                Err(ticket) => ticket.wait_timeout(LIMIT).ok(),
                answer => answer.ok(),
            },
            5..10 => Some(block_on(&mut open.ticket)),
            _ => open.ticket.wait_timeout(LIMIT).ok(),
        };
        match result {
            Some(result) => self.count(&open.task, result),
            None => self.report.lost += 1,
        }
    }

    fn count(&mut self, task: &Task, result: TaskResult<Tracked<D::Tensor>>) {
        match result {
            Ok(outputs) => {
                self.report.succeeded += 1;
                match self.runs_of(task, &outputs) {
                    Some(runs) => self.answers.push(Answer { first: task.first, told: Told::Outputs(runs) }),
                    None => self.report.mixed_up += 1,
                }
            }
            Err(TaskError::Failed(error)) => {
                self.report.failed += 1;
                let apart = task.pass == Pass::Forward && task.rules.rerun && task.whole;
                if apart && task.doom.is_none() && is_of_block(&error) {
                    self.answers.push(Answer { first: task.first, told: Told::Failed });
                }
            }
            Err(TaskError::Expired { .. }) => {
                self.report.expired += 1;
                if task.whole {
                    self.answers.push(Answer { first: task.first, told: Told::Expired });
                }
            }
            Err(TaskError::Evicted { .. }) => self.report.evicted += 1,
            Err(TaskError::ShutDown | TaskError::Removed) => self.report.shut_down += 1,
            Err(TaskError::DeviceLost(_)) => {
                self.report.device_lost += 1;
                let goes_on = self.habits.goes_on && task.pass == Pass::Forward && task.whole;
                self.report.not_passed_on += u64::from(goes_on);
            }
            Err(other) => panic!("no task should end like this: {other}"),
        }
    }

    /// Returns the run that each row of the outputs came from, or `None` if they are not those of the task.
    fn runs_of(&self, task: &Task, outputs: &[Tracked<D::Tensor>]) -> Option<Vec<u32>> {
        let y = self.device.read(outputs.first()?);
        let z = outputs.get(1).map(|z| self.device.read(z));
        let first = task.first;
        let serials = vec![exact(first.serial); task.rows as usize];
        let complete = match task.pass {
            Pass::Forward => z.is_some_and(|z| z == serials),
            Pass::Backward => outputs.len() == 1,
        };
        let doomed = match task.doom {
            None => false,
            Some(Fault::NonFinite) => task.rules.check_finite,
            Some(_) => true,
        };
        if !complete || doomed || y.len() != task.rows as usize * WIDTH {
            return None;
        }
        let mut runs = Vec::new();
        for (row, got) in (0..).zip(y.chunks_exact(WIDTH)) {
            let poisoned = task.doom == Some(Fault::NonFinite) && row == 0;
            let pool = if poisoned { got[0].is_nan() } else { whole(got[0]) == first.pool };
            if !pool || got[1..4] != [exact(first.caller), exact(first.serial), exact(row)] {
                return None;
            }
            runs.push(whole(got[4]));
        }
        Some(runs)
    }
}

/// Returns true if a batch failed because of the block, and not in an operation of the device.
fn is_of_block(error: &BatchError) -> bool {
    match error {
        BatchError::Panic { during, .. } => during.starts_with("block"),
        BatchError::Device { .. } => false,
        _ => true,
    }
}
