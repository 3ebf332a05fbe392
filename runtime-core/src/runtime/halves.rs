//! Taking a batch apart: into halves, probes, or without those of its tasks that are over.

use super::batch::{CutBatch, Spent};
use super::flight::{Flight, Taken};
use crate::contract::batch::{BatchTask, Piece};
use crate::contract::task::TaskHeader;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

impl<T> CutBatch<T> {
    /// Forgets tasks that have been answered. Their tensors are freed by [`free_spent`](Self::free_spent).
    pub(crate) fn keep(&mut self, keep: &[bool]) {
        for column in &mut self.columns {
            let [left, off] = divide(std::mem::take(column), &|at| !kept(keep, at));
            *column = left;
            self.spent.tensors.extend(off);
        }
        self.keep_headers(keep);
    }

    /// Forgets tasks whose tensors are in no column.
    pub(crate) fn keep_headers(&mut self, keep: &[bool]) {
        let is_off = |at| !kept(keep, at);
        if self.vectors.len() == self.headers.len() {
            let [left, _] = divide(std::mem::take(&mut self.vectors), &is_off);
            self.vectors = left;
        }
        let mut at = 0..;
        self.headers.retain(|_| at.next().is_some_and(|at| kept(keep, at)));
        let off = self.split_pieces(&is_off);
        self.spent.pieces.extend(off);
    }

    /// Makes two batches of this one, each with half of the tasks that nobody has answered yet, or with half of the rows
    /// of its only task if that is a part of a larger one; the second is left out if there is nothing to halve.
    pub(crate) fn halves(mut self: Box<Self>) -> impl Iterator<Item = Box<Self>> {
        self.forget_answered();
        let rest = if self.is_divisible_part() {
            self.halve_part()
        } else {
            let middle = self.headers.len().div_ceil(2);
            Some(self.split_off(|at| at >= middle))
        };
        // One without tasks may have something to be freed, which is done where it would be gathered.
        [Some(self), rest]
            .into_iter()
            .flatten()
            .filter(|half| !half.headers.is_empty() || !half.spent.is_empty())
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
        let rest = Some(self).filter(|rest| !rest.headers.is_empty() || !rest.spent.is_empty());
        rest.into_iter().chain(of_one).collect()
    }

    /// Makes two batches of this one: the tasks of `is_off`, and the others, without those that have been answered. One of
    /// them may have no tasks.
    pub(crate) fn part(mut self: Box<Self>, is_off: &[bool]) -> [Box<Self>; 2] {
        let kept = self.forget_answered();
        let is_off: Vec<bool> =
            is_off.iter().zip(kept).filter_map(|(is_off, kept)| kept.then_some(*is_off)).collect();
        let off = self.split_off(|at| is_off.get(at).copied().unwrap_or(false));
        [off, self]
    }

    /// Returns for each task whether it is still there.
    fn forget_answered(&mut self) -> Vec<bool> {
        let mut kept = vec![true; self.headers.len()];
        let taken = self.flight.take_open();
        // A batch that has started holds the tasks that are still to run, and no others.
        if taken.kept.len() == self.headers.len() {
            kept = taken.kept;
            self.keep(&kept);
        }
        self.spent.tensors.extend(taken.useless);
        self.flight = self.flight.again(taken.open, self.device.is_some() || taken.started);
        self.gather = Duration::ZERO;
        self.device = None;
        kept
    }

    /// Takes out the tasks at the places that `is_off` names.
    fn split_off(&mut self, is_off: impl Fn(usize) -> bool) -> Box<Self> {
        let taken = self.flight.take_open();
        let flights = divide(taken.open, &is_off).map(|open| self.flight.again(open, taken.started));
        self.spent.tensors.extend(taken.useless);
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
        let pieces = self.split_pieces(&is_off);
        let [left, headers] = divide(std::mem::take(&mut self.headers), &is_off);
        self.headers = left.into();
        let [left, off] = flights;
        self.flight = left;
        Box::new(Self { columns, headers: headers.into(), vectors, pieces, ..self.sibling(off) })
    }

    /// Takes out the pieces at the places that `is_off` names, and gives these and the others their new places.
    fn split_pieces(&mut self, is_off: &impl Fn(usize) -> bool) -> Vec<Piece<T>> {
        if self.pieces.is_empty() {
            return Vec::new();
        }
        let (mut left, mut off) = (Vec::new(), Vec::new());
        for mut piece in std::mem::take(&mut self.pieces) {
            let (is_piece_off, before) =
                (is_off(piece.place), (0..piece.place).filter(|at| is_off(*at)).count());
            piece.place = if is_piece_off { before } else { piece.place - before };
            if is_piece_off { &mut off } else { &mut left }.push(piece);
        }
        self.pieces = left;
        off
    }

    /// Takes the second half of the rows off the only task, which is a part of a larger one. The tensors of both are to
    /// be cut anew. `None` if its reply is not that of a part.
    fn halve_part(&mut self) -> Option<Box<Self>> {
        let Taken { open, useless, started, .. } = self.flight.take_open();
        self.spent.tensors.extend(useless);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (BatchTask { header, reply }, spare) in open {
            match reply.halve() {
                Ok([a, b]) => {
                    let [of_a, of_b] = halves_of(header);
                    first.push((BatchTask::new(of_a, a), Vec::new()));
                    second.push((BatchTask::new(of_b, b), Vec::new()));
                    // It is to be cut in two as well, which is code of others.
                    self.spent.tensors.extend(spare);
                }
                Err(reply) => {
                    let task = BatchTask::new(header, reply);
                    self.flight = self.flight.again(vec![(task, spare)], started);
                    self.spent.pieces.append(&mut self.pieces);
                    return None;
                }
            }
        }
        let second = self.flight.again(second, started);
        self.flight = self.flight.again(first, started);
        let [first, last] = halves_of(*self.headers.first()?);
        let piece = self.pieces.first_mut()?;
        let (rows, slice) = (piece.rows.clone(), Arc::clone(&piece.slice));
        piece.rows.end = piece.rows.start + first.rows;
        let rest = Piece::new(0, piece.rows.end..rows.end, slice);
        self.headers = SmallVec::from_iter([first]);
        self.spent.tensors.extend(std::mem::take(&mut self.columns).into_iter().flatten());
        self.is_cut = false;
        let (headers, pieces) = (SmallVec::from_iter([last]), vec![rest]);
        // The policy was told of one task, not of two.
        Some(Box::new(Self { headers, pieces, is_cut: false, is_again: true, ..self.sibling(second) }))
    }

    /// A batch like this one, without its tasks and tensors.
    fn sibling(&self, flight: Arc<Flight<T>>) -> Self {
        Self {
            station: Arc::clone(&self.station),
            flight,
            rank: self.rank,
            columns: Vec::new(),
            headers: SmallVec::new(),
            vectors: Vec::new(),
            pieces: Vec::new(),
            is_cut: self.is_cut,
            spent: Spent::new(),
            left_queue: self.left_queue,
            chosen: self.chosen,
            gather: Duration::ZERO,
            device: None,
            training: None,
            forecast: self.forecast,
            alone: None,
            laid: None,
            trial: self.trial.clone(),
            is_again: self.is_again,
            ahead: 0,
        }
    }
}

/// Divides values by their places: those that stay, and those that are off.
fn divide<V>(all: impl IntoIterator<Item = V>, is_off: &impl Fn(usize) -> bool) -> [Vec<V>; 2] {
    let mut divided = [Vec::new(), Vec::new()];
    for (at, value) in all.into_iter().enumerate() {
        divided[usize::from(is_off(at))].push(value);
    }
    divided
}

fn kept(keep: &[bool], at: usize) -> bool {
    keep.get(at).copied().unwrap_or(false)
}

/// The headers of a part that is cut in two. As of all parts, only the first decides the deadline.
fn halves_of(header: TaskHeader) -> [TaskHeader; 2] {
    let (mut first, mut last) = (header, header);
    first.rows = header.rows.div_ceil(2);
    last.rows -= first.rows;
    first.is_last = false;
    (last.is_first, last.deadline) = (false, None);
    [first, last]
}

#[cfg(test)]
mod tests {
    use super::super::directory::{Station, UnrunCounts};
    use super::*;
    use crate::contract::answer::reply::Reply;
    use crate::contract::backend::{BlockInfo, Pass};
    use crate::contract::batch::Batch;
    use crate::contract::doorbell::Doorbell;
    use crate::contract::id::{BlockId, PoolId, RuntimeId, Slot};
    use crate::contract::meter::{Counts, Meter};
    use crate::contract::pool::{Expired, FailureRules, Look, Pool, Shutdown, Terms};
    use crate::contract::priority::Priority;
    use crate::contract::rank::Rank;
    use crate::contract::schema::{Schema, TensorSpec};
    use crate::contract::tensor::DType;
    use std::time::Instant;

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
        fn cut(&self, _: &Terms) -> Option<Batch<u64>> {
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
            verifying: None,
            sharing: None,
            unrun: UnrunCounts::default(),
        };
        let rank = Rank::at(Priority::NORMAL, now);
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
    fn culprits_are_parted_from_those_who_have_not_been_answered() {
        let batch = batch(5, &[0]);
        assert_eq!(batch.flight.expire(batch.chosen).0.len(), 1);
        let parted = batch.part(&[true, false, true, false, false]);
        assert_eq!(parted.each_ref().map(|batch| batch.columns[0].clone()), [vec![2], vec![1, 3, 4]]);
        assert!(parted.iter().all(|batch| batch.flight.take().count() == batch.headers.len()));
    }

    #[test]
    fn halves_leave_out_who_has_been_answered() {
        let batch = batch(4, &[1]);
        assert_eq!(batch.flight.expire(batch.chosen).0.len(), 1);
        let halves: Vec<_> = batch.halves().map(|half| half.columns[0].clone()).collect();
        assert_eq!(halves, [vec![0, 2], vec![3]]);
    }

    #[test]
    fn a_part_is_halved_by_its_rows() {
        let now = Instant::now();
        let (_ticket, reply) = Reply::<u64>::pair();
        let mut rest = reply.in_parts(Box::new(|parts| Ok(parts.concat())));
        let mut part = batch(1, &[]);
        part.headers[0] = TaskHeader::new(5, now).deadline(Some(now));
        let task = BatchTask::new(part.headers[0], rest.split_off());
        part.flight = Flight::new(PoolId::new(0), vec![task], false);
        part.pieces = vec![Piece::new(0, 7..12, Arc::new(|rows| Ok(vec![rows.start as u64])))];
        assert!(part.is_divisible_part());
        let halves: Vec<_> = part.halves().collect();
        let rows = |half: &CutBatch<u64>| (half.rows(), half.pieces[0].rows.clone(), half.is_cut);
        assert_eq!(
            halves.iter().map(|half| rows(half)).collect::<Vec<_>>(),
            [(3, 7..10, false), (2, 10..12, false)]
        );
        let flags = |half: &CutBatch<u64>| {
            let header = half.headers[0];
            (header.is_first, header.is_last, header.deadline.is_some(), half.columns.len())
        };
        assert_eq!(
            halves.iter().map(|half| flags(half)).collect::<Vec<_>>(),
            [(true, false, true, 0), (false, true, false, 0)]
        );
        assert!(halves.iter().all(|half| half.flight.take().count() == 1));
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
