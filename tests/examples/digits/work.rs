//! The run: trainers and callers side by side, watched from the main thread.

use crate::arguments::Arguments;
use crate::ask::{Asked, Callers, count_right};
use crate::common::{DemoDevice, Latencies, Progress, Result, skep};
use crate::data::Split;
use crate::mixture::Mixture;
use crate::train::Course;
use skep::runtime::{Handle, Shutdown};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

/// Between two looks at the progress and at Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a runtime may take to stop.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What came of the run, also when it was cut short.
pub(crate) struct Outcome {
    /// How long the mixture took to answer the trainers.
    pub(crate) trainers: Latencies,
    pub(crate) callers: Asked,
    pub(crate) steps: usize,
    pub(crate) loss: f32,
    /// Of the held-out images; `None` where they were not classified any more.
    pub(crate) right: Option<usize>,
    /// The first thing that went wrong.
    pub(crate) failure: Option<skep::runtime::BoxError>,
}

/// Trains and asks until the training is done, or Ctrl-C was pressed, then classifies every held-out image.
pub(crate) fn work(
    runtime: &Handle<DemoDevice>,
    mixture: &Mixture,
    split: &Split,
    arguments: &Arguments,
    interrupts: &AtomicUsize,
) -> Outcome {
    let course = Course::new(&split.training, arguments.epochs, arguments.seed);
    let callers = Callers::new(&split.held_out);
    let aborted = || interrupts.load(Ordering::Relaxed) > 1;

    let mut progress = Progress::new(course.steps(), "steps");
    let (trained, asked) = thread::scope(|scope| {
        let training: Vec<_> =
            (0..arguments.trainers).map(|_| scope.spawn(|| course.train(mixture))).collect();
        let asking: Vec<_> = (0..arguments.callers).map(|_| scope.spawn(|| callers.ask(mixture))).collect();
        while !training.iter().all(ScopedJoinHandle::is_finished) {
            thread::sleep(LOOK_EVERY);
            let (loss, right) = (course.loss(), 100.0 * callers.right());
            progress.show(course.begun(), format!("loss {loss:.3}, urgent callers see {right:.0} % right"));
            if interrupts.load(Ordering::Relaxed) > 0 {
                course.stop();
            }
            if aborted() {
                // Every waiting task is answered with an error, so every thread comes to its end.
                runtime.shutdown(Shutdown::Abort, STOP_LIMIT).ok();
            }
        }
        callers.stop();
        (join(training), join(asking))
    });
    progress.end();

    let mut outcome = Outcome {
        trainers: Latencies::default(),
        callers: Asked::default(),
        steps: course.begun(),
        loss: course.loss(),
        right: None,
        failure: None,
    };
    for result in trained {
        match result {
            Ok(latencies) => outcome.trainers.merge(latencies),
            Err(error) => outcome.fail(error),
        }
    }
    for result in asked {
        match result {
            Ok(asked) => outcome.callers.merge(asked),
            Err(error) => outcome.fail(error),
        }
    }
    // No trainer is left, so the parameters stay as they are.
    match count_right(mixture, &split.held_out, aborted) {
        Ok(right) => outcome.right = right,
        Err(error) => outcome.fail(error),
    }
    if aborted() {
        // It is no wonder then that calls were refused.
        outcome.failure = None;
    }
    outcome
}

impl Outcome {
    fn fail(&mut self, error: skep::runtime::BoxError) {
        self.failure.get_or_insert(error);
    }
}

fn join<T>(threads: Vec<ScopedJoinHandle<'_, Result<T>>>) -> Vec<Result<T>> {
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap_or_else(|_| Err("thread panicked".into())))
        .collect()
}
