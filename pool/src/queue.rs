//! The tasks that wait in a pool, and the decision when to cut a batch of them.
//!
//! Pure data: no clock, no lock, no thread.

use crate::lanes::{Lanes, Places};
use crate::options::PoolOptions;
use crate::queued::{Queued, Taken};
use skep_runtime_core::{Dims, Look, TaskKey, Urgency};
use smallvec::SmallVec;
use std::time::Instant;

/// Tasks whose free dims agree, so that they can run in one batch.
struct Group<T> {
    free: Dims,
    lanes: Lanes<Queued<T>>,
    rows: usize,
}

impl<T> Group<T> {
    fn look(&self, now: Instant, options: &PoolOptions, draining: bool) -> Look {
        let Some((key, first)) = self.lanes.first() else { return Look::Idle };
        let ready = Look::Ready(Urgency { priority: key.priority, since: first.submitted });
        if draining || self.rows >= options.min_rows {
            return ready;
        }
        let oldest = self.lanes.heads().map(|(_, item)| item.submitted).min().unwrap_or(first.submitted);
        match options.max_delay.and_then(|delay| oldest.checked_add(delay)) {
            Some(time) if time > now => Look::At(time),
            // `min_rows` is above 1 only where there is a delay; a delay past all time is none.
            _ => ready,
        }
    }
}

/// Most blocks have no free dims, and then there is nothing to compare.
#[inline]
fn same(a: &Dims, b: &Dims) -> bool {
    (a.is_empty() && b.is_empty()) || a == b
}

/// All waiting tasks of a pool.
pub(crate) struct Queue<T> {
    groups: SmallVec<[Group<T>; 1]>,
    tasks: usize,
    rows: usize,
    /// Tasks that had expired when their turn came; answered at the next [`expire`](Self::expire).
    overdue: Vec<Queued<T>>,
    next_seq: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { groups: SmallVec::new(), tasks: 0, rows: 0, overdue: Vec::new(), next_seq: 0 }
    }

    /// Tasks that wait, each counted once however many parts it has.
    pub(crate) fn tasks(&self) -> usize {
        self.tasks
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Adds a task, or the next part of one. Says whether an earlier look at the queue may be out of date.
    #[inline]
    pub(crate) fn push(&mut self, free: &Dims, key: TaskKey, item: Queued<T>, options: &PoolOptions) -> bool {
        let at = self.groups.iter().position(|group| same(&group.free, free)).unwrap_or_else(|| {
            self.groups.push(Group { free: free.clone(), lanes: Lanes::new(), rows: 0 });
            self.groups.len() - 1
        });
        let group = &mut self.groups[at];
        let before = group.rows;
        self.rows += item.rows;
        self.tasks += usize::from(item.is_last());
        self.next_seq = key.seq + 1;
        group.rows += item.rows;
        group.lanes.push(key, item, options.max_rows);
        let first = group.lanes.first().is_some_and(|(first, _)| first == key);
        first || (before < options.min_rows && group.rows >= options.min_rows)
    }

    /// Whether a batch can be cut, or when to look again.
    pub(crate) fn look(&self, now: Instant, options: &PoolOptions, draining: bool) -> Look {
        self.best(now, options, draining).1
    }

    /// The group that is first to be cut from, and how it looks.
    fn best(&self, now: Instant, options: &PoolOptions, draining: bool) -> (usize, Look) {
        let mut best = (0, Look::Idle);
        for (at, group) in self.groups.iter().enumerate() {
            let look = group.look(now, options, draining);
            let better = match (best.1, look) {
                (_, Look::Idle) | (Look::Ready(_), Look::At(_)) => false,
                (Look::Idle, _) | (Look::At(_), Look::Ready(_)) => true,
                (Look::Ready(best), Look::Ready(other)) => other < best,
                (Look::At(best), Look::At(other)) => other < best,
            };
            if better {
                best = (at, look);
            }
        }
        best
    }

    /// Takes the tasks of the next batch: in order, of one group, as many as fit into `max_rows` and
    /// `most_rows`, but one at least. With `expected`, only if the queue is as urgent as that. `spare` gives a
    /// buffer for tasks to come, where one is wanted.
    pub(crate) fn cut(
        &mut self,
        mut expected: Option<Urgency>,
        now: Instant,
        options: &PoolOptions,
        draining: bool,
        most_rows: usize,
        spare: impl Fn() -> Places<Queued<T>>,
    ) -> Option<Taken<T>> {
        while let (at, Look::Ready(urgency)) = self.best(now, options, draining) {
            if expected.take().is_some_and(|expected| expected != urgency) {
                return None;
            }
            let room = options.max_rows.min(most_rows);
            let taken = match self.groups[at].lanes.take_only() {
                Some(item) => self.only(at, now, item),
                None => self.take_segment(at, room, &spare).or_else(|| self.take_some(at, now, room)),
            };
            self.drop_group_if_empty(at);
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// A group's only task, if it is worth running.
    fn only(&mut self, at: usize, now: Instant, item: Queued<T>) -> Option<Taken<T>> {
        self.forget(at, &item);
        if !item.is_moot(now) {
            return Some(Taken::One(item));
        }
        if !item.reply.is_void() {
            self.overdue.push(item);
        }
        None
    }

    /// Takes a batch that is one segment of a lane, if it happens to be.
    fn take_segment(
        &mut self,
        at: usize,
        room: usize,
        spare: impl Fn() -> Places<Queued<T>>,
    ) -> Option<Taken<T>> {
        let group = self.groups.get_mut(at)?;
        let (places, tasks, rows) = group.lanes.take_segment(room, spare)?;
        group.rows -= rows;
        self.rows -= rows;
        self.tasks -= tasks;
        Some(Taken::Segment(places, tasks))
    }

    fn take_some(&mut self, at: usize, now: Instant, mut room: usize) -> Option<Taken<T>> {
        let mut taken = Vec::with_capacity(self.tasks.min(room));
        let (mut is_first, mut all_run) = (true, true);
        let fits = |item: &Queued<T>| {
            if item.is_moot(now) {
                all_run = false;
            } else if item.rows > room && !is_first {
                return false;
            } else {
                is_first = false;
                room = room.saturating_sub(item.rows);
            }
            true
        };
        self.groups.get_mut(at)?.lanes.take_while(fits, &mut taken);
        for item in &taken {
            self.forget(at, item);
        }
        if !all_run {
            let (moot, run) = taken.into_iter().partition::<Vec<_>, _>(|item| item.is_moot(now));
            self.overdue.extend(moot.into_iter().filter(|item| !item.reply.is_void()));
            taken = run;
        }
        (!taken.is_empty()).then_some(Taken::Some(taken))
    }

    /// Takes out a task that was cancelled: those of its parts that are still here. Says as well whether
    /// an earlier look at the queue may be out of date.
    pub(crate) fn cancel(&mut self, key: TaskKey) -> (Vec<Queued<T>>, bool) {
        for at in 0..self.groups.len() {
            let first = self.groups[at].lanes.first().map(|(first, _)| first);
            let removed =
                self.groups[at].lanes.remove(key, |seq, item| seq - u64::from(item.part.before) == key.seq);
            if !removed.is_empty() {
                for item in &removed {
                    self.forget(at, item);
                }
                let news = first != self.groups[at].lanes.first().map(|(first, _)| first);
                self.drop_group_if_empty(at);
                return (removed, news);
            }
        }
        (Vec::new(), false)
    }

    /// Takes out the tasks whose deadline has passed, and says when the next one passes.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<Queued<T>>, Option<Instant>) {
        let mut next: Option<Instant> = None;
        let mut expired = std::mem::take(&mut self.overdue);
        expired.extend(self.take_if(|item| {
            if item.expired(now) {
                return true;
            }
            next = next.into_iter().chain(item.deadline).min();
            false
        }));
        (expired, next)
    }

    /// When the first of the waiting tasks expires.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        let items = self.groups.iter().flat_map(|group| group.lanes.iter());
        items.filter_map(|item| item.deadline).min()
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) -> Vec<Queued<T>> {
        let mut all = std::mem::take(&mut self.overdue);
        all.extend(self.take_if(|_| true));
        all
    }

    fn take_if(&mut self, mut unwanted: impl FnMut(&Queued<T>) -> bool) -> Vec<Queued<T>> {
        let mut taken = Vec::new();
        for at in (0..self.groups.len()).rev() {
            let removed = self.groups[at].lanes.take_if(&mut unwanted);
            for item in &removed {
                self.forget(at, item);
            }
            self.drop_group_if_empty(at);
            taken.extend(removed);
        }
        taken
    }

    fn forget(&mut self, at: usize, item: &Queued<T>) {
        self.groups[at].rows -= item.rows;
        self.rows -= item.rows;
        self.tasks -= usize::from(item.is_last());
    }

    /// Shapes come and go; the group of tasks without free dims stays, and keeps its memory.
    fn drop_group_if_empty(&mut self, at: usize) {
        if self.groups[at].lanes.is_empty() && !self.groups[at].free.is_empty() {
            self.groups.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queued::PartOf;
    use proptest::prelude::*;
    use skep_runtime_core::{Priority, Reply, TaskError};
    use std::time::Duration;

    struct Bench {
        queue: Queue<u64>,
        options: PoolOptions,
        base: Instant,
    }

    impl Bench {
        fn new(options: PoolOptions) -> Self {
            Self { queue: Queue::new(), options, base: Instant::now() }
        }

        fn at(&self, second: u64) -> Instant {
            self.base + Duration::from_secs(second)
        }

        /// Adds a task whose one tensor is its sequence number.
        fn push(
            &mut self,
            second: u64,
            priority: i32,
            rows: usize,
            free: usize,
            deadline: Option<u64>,
        ) -> bool {
            let seq = self.queue.next_seq();
            let item = Queued {
                inputs: vec![seq],
                rows,
                submitted: self.at(second),
                deadline: deadline.map(|second| self.at(second)),
                reply: Reply::pair().1,
                part: PartOf::WHOLE,
            };
            let key = TaskKey { priority: Priority(priority), seq };
            self.queue.push(&Dims::from_slice(&[free]), key, item, &self.options)
        }

        fn look(&self, second: u64) -> Look {
            self.queue.look(self.at(second), &self.options, false)
        }

        fn cut(&mut self, second: u64) -> Vec<u64> {
            let now = self.at(second);
            let taken = self.queue.cut(None, now, &self.options, false, usize::MAX, Places::new);
            let inputs = taken.map(|taken| taken.into_batch().0.inputs).unwrap_or_default();
            inputs.into_iter().flatten().collect()
        }

        fn ready(&self, priority: i32, second: u64) -> Look {
            Look::Ready(Urgency { priority: Priority(priority), since: self.at(second) })
        }
    }

    fn rows(max_rows: usize, min_rows: usize, delay: u64) -> PoolOptions {
        let max_delay = Some(Duration::from_secs(delay));
        PoolOptions { max_rows, min_rows, max_delay, ..PoolOptions::default() }
    }

    #[test]
    fn a_batch_takes_tasks_in_order_until_the_next_does_not_fit() {
        let mut bench = Bench::new(rows(4, 1, 0));
        for (second, priority, rows) in [(0, 0, 2), (1, 0, 1), (2, -1, 1), (3, 0, 3), (4, 0, 1)] {
            bench.push(second, priority, rows, 0, None);
        }
        assert_eq!(bench.look(9), bench.ready(-1, 2));
        assert_eq!(
            bench.cut(9),
            [2, 0, 1],
            "the fourth task has 3 rows, 0 are left, and nothing overtakes it"
        );
        assert_eq!(bench.cut(9), [3, 4]);
        assert_eq!(bench.look(9), Look::Idle);
        assert_eq!((bench.queue.tasks(), bench.queue.rows()), (0, 0));
    }

    #[test]
    fn a_short_batch_waits_for_its_oldest_task_and_no_longer() {
        let mut bench = Bench::new(rows(8, 3, 10));
        assert!(bench.push(1, 0, 1, 0, None), "the first task is news");
        assert!(bench.push(2, -1, 1, 0, None), "a more urgent one too");
        assert_eq!(bench.look(10), Look::At(bench.at(11)), "ten seconds after the older one");
        assert_eq!(bench.cut(10), [0; 0]);
        assert_eq!(bench.look(11), bench.ready(-1, 2));
        assert!(bench.push(11, 0, 1, 0, None), "rows enough are news");
        assert_eq!(bench.look(0), bench.ready(-1, 2));
        assert_eq!(bench.cut(11), [1, 0, 2]);
    }

    #[test]
    fn the_first_delay_to_end_counts_whatever_the_shape() {
        for seconds in [[1, 2], [2, 1]] {
            let mut bench = Bench::new(rows(8, 3, 10));
            for (free, second) in (0..).zip(seconds) {
                bench.push(second, 0, 1, free, None);
            }
            assert_eq!(bench.look(5), Look::At(bench.at(11)));
            assert_eq!(bench.look(11), bench.ready(0, 1), "the other one waits on");
        }
    }

    #[test]
    fn only_equal_free_dims_share_a_batch() {
        let mut bench = Bench::new(rows(8, 1, 0));
        for (second, free) in [(0, 16), (1, 32), (2, 16), (3, 32)] {
            bench.push(second, 0, 1, free, None);
        }
        assert_eq!(bench.cut(9), [0, 2]);
        assert_eq!(bench.look(9), bench.ready(0, 1));
        assert_eq!(bench.cut(9), [1, 3]);
        assert!(bench.queue.groups.is_empty(), "shapes that are gone cost nothing");
    }

    #[test]
    fn expired_tasks_are_never_cut() {
        let mut bench = Bench::new(rows(8, 1, 0));
        bench.push(0, 0, 1, 0, Some(5));
        bench.push(0, 0, 1, 0, Some(9));
        bench.push(0, 0, 1, 0, None);
        assert_eq!(bench.queue.first_deadline(), Some(bench.at(5)));
        assert_eq!(bench.cut(5), [1, 2]);
        let (expired, next) = bench.queue.expire(bench.at(5));
        assert_eq!(expired.iter().map(|item| item.inputs[0]).collect::<Vec<_>>(), [0]);
        assert_eq!(next, None);
    }

    #[test]
    fn parts_of_a_task_that_has_failed_are_never_cut() {
        let mut bench = Bench::new(rows(8, 1, 0));
        let (ticket, reply) = Reply::pair();
        let mut parts = reply.split(3, Box::new(|parts| Ok(parts.concat()))).into_iter();
        let failed = parts.next().unwrap();
        for (seq, reply) in (0..).zip(parts) {
            let item = Queued {
                inputs: vec![seq],
                rows: 1,
                submitted: bench.base,
                deadline: None,
                reply,
                part: if seq == 0 { PartOf { before: 0, after: 1 } } else { PartOf { before: 1, after: 0 } },
            };
            let key = TaskKey { priority: Priority(0), seq };
            bench.queue.push(&Dims::from_slice(&[0]), key, item, &bench.options);
        }
        bench.push(1, 0, 1, 0, None);
        failed.answer(Err(TaskError::ShutDown));
        assert_eq!(bench.cut(9), [2]);
        assert_eq!((bench.queue.tasks(), bench.queue.rows()), (0, 0));
        assert!(bench.queue.expire(bench.at(9)).0.is_empty(), "answered already");
        assert!(matches!(ticket.wait(), Err(TaskError::ShutDown)));
    }

    #[test]
    fn a_batch_brings_the_vectors_that_its_tasks_came_in() {
        let mut bench = Bench::new(rows(8, 1, 0));
        bench.push(0, 0, 1, 0, None);
        bench.push(0, 0, 1, 0, None);
        let taken = bench.queue.cut(None, bench.at(0), &bench.options, false, usize::MAX, Places::new);
        let vectors = taken.unwrap().into_batch().0.vectors;
        assert_eq!(vectors, [[0; 0], [0; 0]]);
        assert!(vectors.iter().all(|vector| vector.capacity() == 1));
    }

    #[test]
    fn a_cancelled_head_is_news() {
        let mut bench = Bench::new(rows(8, 1, 0));
        bench.push(0, 0, 1, 0, None);
        bench.push(1, 0, 1, 0, None);
        let key = |seq| TaskKey { priority: Priority(0), seq };
        let (gone, news) = bench.queue.cancel(key(1));
        assert_eq!((gone.len(), news), (1, false));
        let (gone, news) = bench.queue.cancel(key(0));
        assert_eq!((gone.len(), news), (1, true));
        assert!(bench.queue.cancel(key(0)).0.is_empty(), "gone already");
    }

    proptest! {
        /// Whatever is pushed is cut exactly once, most urgent first, in batches that fit.
        #[test]
        fn everything_is_cut_once_and_in_order(tasks in prop::collection::vec((-2i32..3, 1usize..5, 0usize..2), 0..60)) {
            let mut bench = Bench::new(rows(5, 1, 0));
            for (priority, rows, free) in &tasks {
                bench.push(0, *priority, *rows, *free, None);
            }
            let mut seen = vec![false; tasks.len()];
            while let Look::Ready(urgency) = bench.look(1) {
                let batch = bench.cut(1);
                let of = |seq: &u64| tasks[usize::try_from(*seq).unwrap()];
                prop_assert!(!batch.is_empty());
                prop_assert!(batch.iter().map(|seq| of(seq).1).sum::<usize>() <= 5);
                prop_assert!(batch.iter().all(|seq| of(seq).2 == of(&batch[0]).2));
                prop_assert_eq!(Priority(of(&batch[0]).0), urgency.priority);
                let order: Vec<_> = batch.iter().map(|seq| (of(seq).0, *seq)).collect();
                prop_assert!(order.is_sorted());
                for seq in batch {
                    let seen = &mut seen[usize::try_from(seq).unwrap()];
                    prop_assert!(!std::mem::replace(seen, true));
                }
            }
            prop_assert!(seen.iter().all(|seen| *seen));
        }
    }
}
