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
    let mut latencies: Vec<_> = (0..arguments.trainers).map(|_| Latencies::default()).collect();
    let mut asked: Vec<_> = (0..arguments.callers).map(|_| Asked::default()).collect();
    let results = thread::scope(|scope| {
        let (course, callers) = (&course, &callers);
        let spawn_trainer = |own| scope.spawn(|| course.train(mixture, own));
        let training: Vec<_> = latencies.iter_mut().map(spawn_trainer).collect();
        let spawn_caller = |own| scope.spawn(|| callers.ask(mixture, own));
        let asking: Vec<_> = asked.iter_mut().map(spawn_caller).collect();
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
        let threads = training.into_iter().chain(asking);
        threads
            .map(|thread| thread.join().unwrap_or_else(|_| Err("thread panicked".into())))
            .collect::<Vec<_>>()
    });
    progress.end();

    let mut outcome = Outcome {
        trainers: latencies.into_iter().fold(Latencies::default(), Latencies::merged),
        callers: asked.into_iter().fold(Asked::default(), Asked::merged),
        steps: course.begun(),
        loss: course.loss(),
        right: None,
        failure: results.into_iter().find_map(Result::err),
    };
    // No trainer is left, so the parameters stay as they are.
    match count_right(mixture, &split.held_out, aborted) {
        Ok(right) => outcome.right = right,
        Err(error) => drop(outcome.failure.get_or_insert(error)),
    }
    if aborted() {
        // It is no wonder then that calls were refused.
        outcome.failure = None;
    }
    outcome
}
