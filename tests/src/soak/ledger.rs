//! The rows that the blocks really ran, to be held against the answers that callers got.

use skep_runtime_core::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

/// One row of one task, in one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    pub(super) pool: u32,
    pub(super) caller: u32,
    pub(super) serial: u32,
    /// Its position in the task.
    pub(super) at: u32,
}

/// One call of a block. 0 stands for none.
pub(super) type RunId = u32;

struct Run {
    /// The device that it was on. The first one may be lost; then what it has run may run again on another one, once.
    device: u32,
    rows: Vec<Row>,
    /// It failed, or its outputs were lost on their way: its rows may run again.
    failed: bool,
    /// It failed because of the contents of one of its tasks.
    doomed: bool,
}

/// Every run of every block of one runtime.
#[derive(Default)]
pub(super) struct Ledger {
    runs: Mutex<Vec<Run>>,
}

/// The end of a task, as far as the ledger can judge it.
pub(super) enum Told {
    /// Its outputs came, each row from this run.
    Outputs(Vec<RunId>),
    /// It expired, so it must not have run.
    Expired,
    /// The block failed, although nothing is wrong with the task, and its pool takes batches apart: so it
    /// must not have been the doing of another task.
    Failed,
}

/// A task's first row and its end.
pub(super) struct Answer {
    pub(super) first: Row,
    pub(super) told: Told,
}

/// The counts of what does not fit together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Rows that ran again although they had run well, or in a backward pass.
    pub(super) doubled: u64,
    /// Outputs of runs that did not have the row, or had failed.
    pub(super) mixed_up: u64,
    /// Tasks that were answered as expired, and ran.
    pub(super) late: u64,
    /// Tasks that failed because of the contents of another one.
    pub(super) harmed: u64,
}

impl Ledger {
    /// Notes that a block was called.
    pub(super) fn begin(&self, device: u32, rows: Vec<Row>) -> RunId {
        let mut runs = self.runs.lock();
        runs.push(Run { device, rows, failed: false, doomed: false });
        RunId::try_from(runs.len()).expect("runs should be fewer than 4294967296")
    }

    /// Notes that a run came to nothing.
    pub(super) fn fail(&self, run: RunId) {
        self.note(run, |run| run.failed = true);
    }

    /// Notes that a run came to nothing because of the contents of one of its tasks.
    pub(super) fn doom(&self, run: RunId) {
        self.note(run, |run| (run.failed, run.doomed) = (true, true));
    }

    fn note(&self, run: RunId, note: impl FnOnce(&mut Run)) {
        let mut runs = self.runs.lock();
        if let Some(run) = (run as usize).checked_sub(1).and_then(|at| runs.get_mut(at)) {
            note(run);
        }
    }

    /// Holds the answers that callers got against the runs. `trains` says which pools must never run a row again.
    pub(super) fn judge(&self, answers: &[Answer], trains: impl Fn(u32) -> bool) -> Verdict {
        let runs = self.runs.lock();
        let mut by_row: HashMap<Row, Vec<usize>> = HashMap::new();
        for (at, run) in runs.iter().enumerate() {
            for &row in &run.rows {
                by_row.entry(row).or_default().push(at);
            }
        }
        let listed = |ran: &[usize]| -> Vec<_> {
            ran.iter().map(|&at| (at + 1, runs[at].device, runs[at].failed)).collect()
        };
        let mut verdict = Verdict::default();
        for (row, ran) in &by_row {
            let counted = |lost| {
                let on = |at: usize| (runs[at].device == 0) == lost;
                ran.iter().filter(|&&at| on(at) && (trains(row.pool) || !runs[at].failed)).count()
            };
            let counted = [true, false].map(counted);
            if counted.iter().any(|&ran| ran > 1) {
                verdict.doubled += 1;
                // Only this tells what became of it.
                let ran = listed(ran);
                eprintln!("doubled: {row:?} ran again: (run, device, failed) are {ran:?}");
            }
        }
        for Answer { first, told } in answers {
            match told {
                Told::Outputs(from) => {
                    for (at, &run) in (0u32..).zip(from) {
                        let row = Row { at, ..*first };
                        let ran = by_row.get(&row).map_or(&[][..], Vec::as_slice);
                        let good = ran.iter().any(|&at| at + 1 == run as usize && !runs[at].failed);
                        verdict.mixed_up += u64::from(!good);
                        // What was answered by one device does not run on another.
                        let again = ran.iter().any(|&at| at + 1 > run as usize);
                        if good && again {
                            verdict.doubled += 1;
                            let ran = listed(ran);
                            eprintln!(
                                "doubled: {row:?} was answered by run {run}: (run, device, failed) are {ran:?}"
                            );
                        }
                    }
                }
                Told::Expired => verdict.late += u64::from(by_row.contains_key(first)),
                Told::Failed => {
                    let last = by_row.get(first).and_then(|ran| ran.last()).map(|&at| &runs[at]);
                    let harmed = last.is_some_and(|run| run.doomed && failed_alone(run, &runs) < PATIENCE);
                    verdict.harmed += u64::from(harmed);
                }
            }
        }
        verdict
    }
}

/// A batch of which this many tasks have failed alone, and nothing has succeeded, may be given up as a whole.
const PATIENCE: usize = 8;

/// Counts the tasks of a run that have failed in a run of their own.
fn failed_alone(run: &Run, runs: &[Run]) -> usize {
    let of_run = |rows: &[Row]| run.rows.iter().any(|row| row.is_of(rows[0]));
    let alone = |run: &&Run| run.failed && run.rows.iter().all(|row| row.is_of(run.rows[0]));
    runs.iter().filter(alone).filter(|run| of_run(&run.rows)).count()
}

impl Row {
    /// Returns true if both are of one task.
    fn is_of(&self, other: Self) -> bool {
        Self { at: 0, ..*self } == Self { at: 0, ..other }
    }
}

/// Counts the tensors that live, and sends a message when they and their device are gone.
pub(super) struct Census {
    living: AtomicUsize,
    gone: Mutex<Sender<()>>,
}

impl Census {
    pub(super) fn new(gone: Sender<()>) -> Arc<Self> {
        Arc::new(Self { living: AtomicUsize::new(0), gone: Mutex::new(gone) })
    }

    pub(super) fn living(&self) -> usize {
        self.living.load(Ordering::SeqCst)
    }
}

impl Drop for Census {
    fn drop(&mut self) {
        self.gone.lock().send(()).ok();
    }
}

/// The place of one tensor in the census.
pub(super) struct Life(Arc<Census>);

impl Life {
    pub(super) fn new(census: &Arc<Census>) -> Self {
        census.living.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(census))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.living.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pool: u32, serial: u32) -> Row {
        Row { pool, caller: 0, serial, at: 0 }
    }

    fn outputs(first: Row, run: RunId) -> Answer {
        Answer { first, told: Told::Outputs(vec![run]) }
    }

    #[test]
    fn what_fits_together_is_clean() {
        let ledger = Ledger::default();
        let failed = ledger.begin(0, vec![row(0, 0), row(0, 1)]);
        ledger.fail(failed);
        ledger.fail(0);
        let again = ledger.begin(0, vec![row(0, 0)]);
        let answers = [outputs(row(0, 0), again), Answer { first: row(0, 2), told: Told::Expired }];
        assert_eq!(ledger.judge(&answers, |_| false), Verdict::default());
    }

    #[test]
    fn a_row_that_ran_well_twice_is_doubled() {
        let ledger = Ledger::default();
        ledger.begin(0, vec![row(0, 0)]);
        ledger.begin(0, vec![row(0, 0)]);
        assert_eq!(ledger.judge(&[], |_| false).doubled, 1);
    }

    #[test]
    fn a_row_may_run_again_on_another_device_unless_it_was_answered() {
        let ledger = Ledger::default();
        let one = ledger.begin(0, vec![row(0, 0)]);
        let other = ledger.begin(1, vec![row(0, 0)]);
        assert_eq!(ledger.judge(&[outputs(row(0, 0), other)], |_| false), Verdict::default());
        assert_eq!(ledger.judge(&[outputs(row(0, 0), one)], |_| false).doubled, 1);
        ledger.begin(2, vec![row(0, 0)]);
        assert_eq!(ledger.judge(&[], |_| false).doubled, 1);
    }

    #[test]
    fn a_training_step_that_ran_again_is_doubled() {
        let ledger = Ledger::default();
        let failed = ledger.begin(0, vec![row(1, 0)]);
        ledger.fail(failed);
        ledger.begin(0, vec![row(1, 0)]);
        assert_eq!(ledger.judge(&[], |pool| pool == 1).doubled, 1);
        assert_eq!(ledger.judge(&[], |_| false).doubled, 0);
    }

    #[test]
    fn outputs_of_another_run_or_of_a_failed_one_are_mixed_up() {
        let ledger = Ledger::default();
        let one = ledger.begin(0, vec![row(0, 0)]);
        let other = ledger.begin(0, vec![row(0, 1)]);
        let answers = [outputs(row(0, 0), other), outputs(row(0, 1), other), outputs(row(0, 0), 9)];
        assert_eq!(ledger.judge(&answers, |_| false).mixed_up, 2);
        ledger.fail(one);
        assert_eq!(ledger.judge(&[outputs(row(0, 0), one)], |_| false).mixed_up, 1);
    }

    #[test]
    fn a_task_whose_last_run_another_one_spoiled_is_harmed() {
        let ledger = Ledger::default();
        let told = || [Answer { first: row(0, 0), told: Told::Failed }];
        let run = ledger.begin(0, vec![row(0, 0), row(0, 1)]);
        ledger.fail(run);
        assert_eq!(ledger.judge(&told(), |_| false).harmed, 0, "by chance");
        ledger.doom(run);
        assert_eq!(ledger.judge(&told(), |_| false).harmed, 1);
        let alone = ledger.begin(0, vec![row(0, 0)]);
        ledger.fail(alone);
        assert_eq!(ledger.judge(&told(), |_| false).harmed, 0, "alone, by chance");
    }

    #[test]
    fn a_batch_may_be_given_up_when_many_have_failed_alone() {
        let ledger = Ledger::default();
        let all: Vec<_> = (0..9).map(|serial| row(0, serial)).collect();
        ledger.doom(ledger.begin(0, all.clone()));
        let told = [Answer { first: all[8], told: Told::Failed }];
        for (failed, row) in (0..).zip(&all[..8]) {
            assert_eq!(ledger.judge(&told, |_| false).harmed, 1, "{failed} have failed alone");
            ledger.doom(ledger.begin(0, vec![*row]));
        }
        assert_eq!(ledger.judge(&told, |_| false).harmed, 0);
    }

    #[test]
    fn an_expired_task_that_ran_is_late() {
        let ledger = Ledger::default();
        ledger.begin(0, vec![row(0, 0)]);
        let answers = [Answer { first: row(0, 0), told: Told::Expired }];
        assert_eq!(ledger.judge(&answers, |_| false).late, 1);
    }
}
