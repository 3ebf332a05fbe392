//! A batch on its way: cut, gathered onto the device, run, and done.

use super::directory::Station;
use super::flight::Flight;
use super::trial::Trial;
use crate::contract::backend::Training;
use crate::contract::batch::{Batch, Piece};
use crate::contract::error::batch::BatchError;
use crate::contract::task::TaskHeader;
use crate::policy::rank::Rank;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A batch that has been cut, with the tasks' tensors still apart. They are kept until the batch is
/// answered, because half of it may have to run again.
///
/// Boxed wherever it goes: it is handed on many times, and large.
pub(crate) struct CutBatch<T> {
    pub(crate) station: Arc<Station<T>>,
    pub(crate) flight: Arc<Flight<T>>,
    /// The pool's rank when the batch was cut from it.
    pub(crate) rank: Rank,
    /// For each input of the block, the tasks' tensors.
    pub(crate) columns: Vec<Vec<T>>,
    /// The header of each task.
    pub(crate) headers: SmallVec<[TaskHeader; 1]>,
    /// For each task an empty vector for its outputs, or none.
    pub(crate) vectors: Vec<Vec<T>>,
    /// Tasks whose tensors are not in the columns yet; none once the batch is gathered.
    pub(crate) pieces: Vec<Piece<T>>,
    /// When the tasks were cut from their pool.
    pub(crate) left_queue: Instant,
    /// When this batch was chosen: the same time, or later if it is half of one that failed.
    pub(crate) chosen: Instant,
    /// The time that it took to place the inputs on the device.
    pub(crate) gather: Duration,
    /// The time in the block; `None` until the block has been called.
    pub(crate) device: Option<Duration>,
    /// How the block's training stands after this batch, if it was a backward pass.
    pub(crate) training: Option<Training>,
    /// The outcomes so far of the batch that this one was half of.
    pub(crate) trial: Option<Arc<Trial>>,
}

impl<T> CutBatch<T> {
    pub(crate) fn new(station: Arc<Station<T>>, rank: Rank, batch: Batch<T>, now: Instant) -> Box<Self> {
        let headers = batch.tasks.iter().map(|task| task.header).collect();
        let flight = Flight::new(station.id, batch.tasks);
        Box::new(Self {
            station,
            flight,
            rank,
            columns: batch.columns,
            headers,
            vectors: batch.vectors,
            pieces: batch.pieces,
            left_queue: now,
            chosen: now,
            gather: Duration::ZERO,
            device: None,
            training: None,
            trial: None,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.headers.iter().map(|header| header.rows).sum()
    }

    /// Forgets tasks that have been answered.
    pub(crate) fn keep(&mut self, keep: &[bool]) {
        let next = || {
            let mut keep = keep.iter();
            move || keep.next().copied().unwrap_or(false)
        };
        for column in &mut self.columns {
            let mut keep = next();
            column.retain(|_| keep());
        }
        self.keep_headers(keep);
    }

    /// Forgets tasks whose tensors are in no column.
    pub(crate) fn keep_headers(&mut self, keep: &[bool]) {
        let next = || {
            let mut keep = keep.iter();
            move || keep.next().copied().unwrap_or(false)
        };
        if self.vectors.len() == self.headers.len() {
            let mut keep = next();
            self.vectors.retain(|_| keep());
        }
        let mut keep = next();
        self.headers.retain(|_| keep());
    }

    /// Makes two batches of this one, each with half of the tasks that nobody has answered yet; the second
    /// is left out if there is only one.
    pub(crate) fn halves(mut self: Box<Self>) -> impl Iterator<Item = Box<Self>> {
        self.forget_answered();
        let middle = self.headers.len().div_ceil(2);
        let rest = self.split_off(|at| at >= middle);
        [self, rest].into_iter().filter(|half| !half.headers.is_empty())
    }

    /// Makes batches of one task each of at most `most` tasks that nobody has answered yet, evenly spread, and one of the
    /// rest, which comes first.
    #[expect(clippy::vec_box, reason = "they come boxed and go boxed")]
    pub(crate) fn probes(mut self: Box<Self>, most: usize) -> Vec<Box<Self>> {
        self.forget_answered();
        let tasks = self.headers.len();
        let probes = most.min(tasks);
        let mut of_one = Vec::new();
        // From the last one on, so that those before it keep their places.
        for probe in (0..probes).rev() {
            let place = probe * tasks / probes.max(1);
            of_one.push(self.split_off(|at| at == place));
        }
        let rest = Some(self).filter(|rest| !rest.headers.is_empty());
        rest.into_iter().chain(of_one).collect()
    }

    fn forget_answered(&mut self) {
        let tasks = self.flight.take_tasks();
        // A batch that has started holds the tasks that are still to run, and no others.
        if tasks.len() == self.headers.len() {
            self.keep(&tasks.iter().map(Option::is_some).collect::<Vec<_>>());
        }
        let started = self.device.is_some() || self.flight.is_started();
        self.flight = Flight::of(self.station.id, tasks.into_iter().flatten().collect(), started);
        self.gather = Duration::ZERO;
        self.device = None;
    }

    /// Takes out the tasks at the places that `is_off` names.
    fn split_off(&mut self, is_off: impl Fn(usize) -> bool) -> Box<Self> {
        fn divide<V>(all: impl IntoIterator<Item = V>, is_off: &impl Fn(usize) -> bool) -> [Vec<V>; 2] {
            let mut divided = [Vec::new(), Vec::new()];
            for (at, value) in all.into_iter().enumerate() {
                divided[usize::from(is_off(at))].push(value);
            }
            divided
        }
        let started = self.flight.is_started();
        let [left, off] = divide(self.flight.take_tasks().into_iter().flatten(), &is_off);
        let flight = |tasks| Flight::of(self.station.id, tasks, started);
        let flights = (flight(left), flight(off));
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &mut self.columns {
            let [left, off] = divide(std::mem::take(column), &is_off);
            *column = left;
            columns.push(off);
        }
        let [left, vectors] = if self.vectors.len() == self.headers.len() {
            divide(std::mem::take(&mut self.vectors), &is_off)
        } else {
            [Vec::new(), Vec::new()]
        };
        self.vectors = left;
        let [left, headers] = divide(std::mem::take(&mut self.headers), &is_off);
        self.headers = left.into();
        self.flight = flights.0;
        Box::new(Self {
            station: Arc::clone(&self.station),
            flight: flights.1,
            rank: self.rank,
            columns,
            headers: headers.into(),
            vectors,
            pieces: Vec::new(),
            left_queue: self.left_queue,
            chosen: self.chosen,
            gather: Duration::ZERO,
            device: None,
            training: None,
            trial: self.trial.clone(),
        })
    }
}

/// The inputs of a block, the columns of all tasks joined.
pub(crate) type Joined<T> = SmallVec<[T; 1]>;

/// A batch whose inputs are on the device.
pub(crate) struct GatheredBatch<T> {
    pub(crate) batch: Box<CutBatch<T>>,
    pub(crate) inputs: Joined<T>,
}

/// A batch that is over: outputs on the device, or the reason why there are none.
pub(crate) struct DoneBatch<T> {
    pub(crate) batch: Box<CutBatch<T>>,
    /// They have served, and are freed where the batch is delivered, not on the device thread.
    pub(crate) inputs: Joined<T>,
    pub(crate) outputs: Result<Vec<T>, Arc<BatchError>>,
}

#[cfg(test)]
mod tests {
    use super::super::directory::UnrunCounts;
    use super::*;
    use crate::contract::answer::reply::Reply;
    use crate::contract::backend::{BlockInfo, Pass};
    use crate::contract::batch::BatchTask;
    use crate::contract::doorbell::Doorbell;
    use crate::contract::id::{BlockId, PoolId, RuntimeId, Slot};
    use crate::contract::meter::{Counts, Meter};
    use crate::contract::pool::{Expired, FailureRules, Look, Outlook, Pool, Shutdown};
    use crate::contract::priority::Priority;
    use crate::contract::schema::{Schema, TensorSpec};
    use crate::contract::tensor::DType;
    use crate::policy::oldest_first::OldestFirst;

    struct NoTasks;

    impl Meter for NoTasks {
        fn name(&self) -> &'static str {
            "none"
        }
        fn counts(&self) -> Counts {
            Counts::default()
        }
    }

    impl Pool<u64> for NoTasks {
        fn attach(&self, _: Doorbell) {}
        fn look(&self, _: Instant, _: usize) -> Look {
            Look::Idle
        }
        fn cut(&self, _: Instant, _: usize) -> Option<Batch<u64>> {
            None
        }
        fn claim(&self, _: RuntimeId) -> bool {
            true
        }
        fn expire(&self, _: RuntimeId, _: Instant) -> Expired<u64> {
            Expired::none()
        }
        fn close(&self, _: RuntimeId, _: Shutdown) {}
    }

    /// A batch of which the tasks in `expired` have expired.
    fn batch(tasks: u64, expired: &[u64]) -> Box<CutBatch<u64>> {
        let now = Instant::now();
        let deadline = |task| expired.contains(&task).then_some(now);
        let header = |task| TaskHeader::new(1, now).deadline(deadline(task));
        let task = |task| BatchTask { header: header(task), reply: Reply::pair().1 };
        let batch = Batch::new(vec![(0..tasks).collect()], (0..tasks).map(task).collect());
        let inputs = Schema::new(vec![TensorSpec::rows("x", DType::F32, &[1])]).unwrap();
        let info = BlockInfo::new("block", inputs);
        let station = Station {
            id: PoolId::new(0),
            pool: Arc::new(NoTasks),
            block: BlockId { of: RuntimeId::next(), slot: Slot { index: 0, generation: 0 } },
            info: Arc::new(info),
            pass: Pass::Forward,
            rules: FailureRules::default(),
            unrun: UnrunCounts::default(),
        };
        let rank = OldestFirst.rank(&Outlook::new(Priority::NORMAL, now));
        CutBatch::new(Arc::new(station), rank, batch, now)
    }

    #[test]
    fn halves_hold_all_tasks_in_order() {
        let halves: Vec<_> = batch(5, &[]).halves().collect();
        assert_eq!(
            halves.iter().map(|half| half.columns[0].clone()).collect::<Vec<_>>(),
            [vec![0, 1, 2], vec![3, 4]]
        );
        assert_eq!(halves.iter().map(|half| half.rows()).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(halves.iter().map(|half| half.flight.take().count()).collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn halves_leave_out_who_has_been_answered() {
        let batch = batch(4, &[1]);
        assert_eq!(batch.flight.expire(batch.chosen).0.len(), 1);
        let halves: Vec<_> = batch.halves().map(|half| half.columns[0].clone()).collect();
        assert_eq!(halves, [vec![0, 2], vec![3]]);
    }

    #[test]
    fn probes_are_spread_and_the_rest_comes_first() {
        let probed = batch(8, &[]).probes(4);
        let columns: Vec<_> = probed.iter().map(|batch| batch.columns[0].clone()).collect();
        assert_eq!(columns, [vec![1, 3, 5, 7], vec![6], vec![4], vec![2], vec![0]]);
        assert!(probed.iter().all(|batch| batch.flight.take().count() == batch.headers.len()));
        assert_eq!(batch(2, &[]).probes(8).len(), 2, "there is no rest");
    }
}
