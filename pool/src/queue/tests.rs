use super::leaving::MOST_EVICTED;
use super::*;
use crate::options::PoolOptions;
use proptest::prelude::*;
use skep_runtime_core::pool::{Outlook, Rank, Terms};
use skep_runtime_core::{Priority, TaskHeader};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

mod evicted;
mod model;
mod order;

/// A waiting task that is known by its number, or what is left of one.
#[derive(Clone, Debug)]
struct Numbered {
    number: u64,
    header: TaskHeader,
    since: Instant,
    is_started: bool,
    is_divisible: bool,
    is_void: Rc<Cell<bool>>,
}

impl Item for Numbered {
    type Rank = Place;
    fn number(&self) -> Option<u64> {
        self.is_divisible.then_some(self.number)
    }
    fn header(&self) -> &TaskHeader {
        &self.header
    }
    fn since(&self) -> Instant {
        self.since
    }
    fn is_divisible(&self) -> bool {
        self.is_divisible
    }
    fn is_started(&self) -> bool {
        self.is_started
    }
    fn is_void(&self) -> bool {
        self.is_void.get()
    }
    fn take_part(&mut self, rows: usize, now: Instant) -> Self {
        let mut part = self.clone();
        part.header.rows = rows;
        self.header.rows -= rows;
        self.header.deadline = None;
        self.is_started = true;
        self.since = now;
        part
    }
}

fn moment(base: Instant, second: u64, most_rows: usize, at_once: bool, options: &PoolOptions) -> Moment<'_> {
    Moment { now: base + Duration::from_secs(second), options, most_rows, at_once, bell: None, rising: None }
}

struct Bench {
    queue: Queue<Numbered>,
    options: PoolOptions,
    base: Instant,
    most_rows: usize,
    at_once: bool,
    /// Tasks of all sizes are together.
    is_mixed: bool,
}

impl Bench {
    fn new(options: PoolOptions) -> Self {
        Self {
            queue: Queue::new(),
            options,
            base: Instant::now(),
            most_rows: usize::MAX,
            at_once: false,
            is_mixed: false,
        }
    }

    fn shape(&mut self, free: usize) -> usize {
        let free = if self.is_mixed { Dims::new() } else { Dims::from_slice(&[free]) };
        self.queue.shape(&free, &self.options)
    }

    fn at(&self, second: u64) -> Instant {
        self.base + Duration::from_secs(second)
    }

    fn push(&mut self, second: u64, priority: i32, rows: usize, free: usize, deadline: Option<u64>) -> bool {
        let deadline = deadline.map(|second| self.at(second));
        let header = TaskHeader::new(rows, self.at(second)).priority(Priority(priority)).deadline(deadline);
        self.push_item(second, free, header, false).0
    }

    /// Returns true beside the flag that makes the item void if the push was news.
    fn push_item(
        &mut self,
        second: u64,
        free: usize,
        header: TaskHeader,
        is_divisible: bool,
    ) -> (bool, Rc<Cell<bool>>) {
        let is_void = Rc::new(Cell::new(false));
        let item = Numbered {
            number: self.queue.next_seq(),
            header,
            since: self.at(second),
            is_started: false,
            is_divisible,
            is_void: Rc::clone(&is_void),
        };
        let shape = self.shape(free);
        let moment = moment(self.base, second, self.most_rows, self.at_once, &self.options);
        let rank = Place::first(Rank::at(header.priority, header.submitted));
        (self.queue.push(shape, rank, item, &moment), is_void)
    }

    /// By rank alone.
    fn look(&mut self, second: u64) -> Look {
        match self.look_whole(second) {
            Look::Ready(outlook) => Look::Ready(Outlook::new(outlook.rank, 0)),
            look => look,
        }
    }

    fn look_whole(&mut self, second: u64) -> Look {
        let options = self.options.clone();
        self.queue.look(&moment(self.base, second, self.most_rows, self.at_once, &options))
    }

    fn cut_if(&mut self, second: u64, wanted: &dyn Fn(&Outlook) -> bool) -> Option<Vec<Numbered>> {
        let wanted = match self.look_whole(second) {
            Look::Ready(outlook) if wanted(&outlook) => outlook.rank,
            _ => return None,
        };
        let terms = Terms::new(self.at(second), self.most_rows);
        self.cut_on(wanted, &terms, second)
    }

    fn cut_on(&mut self, wanted: Rank, terms: &Terms, second: u64) -> Option<Vec<Numbered>> {
        let options = self.options.clone();
        let moment = moment(self.base, second, self.most_rows, self.at_once, &options);
        Some(match self.queue.cut(Some(wanted), terms, &moment, Items::<Numbered>::new)? {
            Taken::One(item) => vec![item],
            Taken::Segment(items, _) => items.into_iter().filter_map(|(_, item)| item).collect(),
            Taken::Some(items) => items,
        })
    }

    fn cut(&mut self, second: u64) -> Vec<u64> {
        self.cut_if(second, &|_| true).into_iter().flatten().map(|item| item.number).collect()
    }

    /// The numbers and rows of a batch.
    fn cut_rows(&mut self, second: u64) -> Vec<(u64, usize)> {
        let cut = self.cut_if(second, &|_| true).into_iter().flatten();
        cut.map(|item| (item.number, item.header.rows)).collect()
    }

    fn cancel(&mut self, free: usize, priority: i32, seq: u64) -> Option<bool> {
        let shape = self.shape(free);
        let items = self.queue.groups.get(shape)?.items.iter_back();
        // As the ticket does, by the rank that the task had when it came.
        let here =
            items.map(|(key, _)| key).find(|key| key.seq == seq && key.rank.class() == Priority(priority));
        let key = here.unwrap_or(Key { rank: Place::first(Rank::new(Priority(priority), 0)), seq });
        let options = self.options.clone();
        let moment = moment(self.base, 0, self.most_rows, self.at_once, &options);
        self.queue.remove(shape, key, &moment).map(|(_, news)| news)
    }

    fn expire(&mut self, second: u64) -> (Vec<u64>, Option<Instant>) {
        let options = self.options.clone();
        let moment = moment(self.base, second, self.most_rows, self.at_once, &options);
        let (expired, next) = self.queue.expire(&moment);
        (expired.iter().map(|item| item.number).collect(), next)
    }

    fn evict(&mut self, than: Priority, tasks: usize, rows: usize) -> Vec<Numbered> {
        let options = self.options.clone();
        let moment = moment(self.base, 0, self.most_rows, self.at_once, &options);
        self.queue.evict(than, tasks, rows, &moment)
    }

    fn ready(&self, priority: i32, second: u64) -> Look {
        Look::Ready(Outlook::new(Rank::at(Priority(priority), self.at(second)), 0))
    }
}

fn rows(max_rows: usize, min_rows: usize, delay: u64) -> PoolOptions {
    let max_delay = Some(Duration::from_secs(delay));
    PoolOptions::default().max_rows(max_rows).min_rows(min_rows).max_delay(max_delay)
}

#[test]
fn a_batch_takes_tasks_in_order_until_the_next_does_not_fit() {
    let mut bench = Bench::new(rows(4, 1, 0));
    for (second, priority, rows) in [(0, 0, 2), (1, 0, 1), (2, -1, 1), (3, 0, 3), (4, 0, 1)] {
        bench.push(second, priority, rows, 0, None);
    }
    assert_eq!(bench.look(9), bench.ready(-1, 2));
    assert_eq!(bench.cut(9), [2, 0, 1], "the fourth task has 3 rows, 0 are left, and nothing overtakes it");
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
fn nobody_waits_for_company_that_cannot_come() {
    let mut bench = Bench::new(rows(8, 3, 10));
    bench.push(1, 0, 1, 0, None);
    assert_eq!(bench.look(1), Look::At(bench.at(11)));
    bench.most_rows = 1;
    assert_eq!(bench.look(1), bench.ready(0, 1), "the device has room for one row");
    bench.most_rows = usize::MAX;
    bench.push(2, -1, 1, 1, None);
    assert_eq!(bench.look(2), Look::At(bench.at(11)));
    bench.most_rows = 1;
    assert_eq!(bench.look(2), bench.ready(-1, 2), "whatever the number of shapes");
    bench.most_rows = usize::MAX;
    assert_eq!(bench.look(2), Look::At(bench.at(11)));
    bench.at_once = true;
    assert_eq!(bench.look(2), bench.ready(-1, 2), "the queue is full");
    assert_eq!(bench.cut(2), [1]);
}

#[test]
fn a_delay_without_an_end_is_one() {
    let delay = Some(Duration::MAX);
    let mut bench = Bench::new(rows(8, 2, 0).max_delay(delay));
    bench.push(0, 0, 1, 0, None);
    assert_eq!(bench.look(1_000_000), Look::Idle);
    assert!(bench.push(9, 0, 1, 0, Some(29)), "it may not wait as long as the other");
    assert_eq!(bench.cut(9), [0, 1]);
    bench.push(10, 0, 1, 0, Some(30));
    assert_eq!(bench.look(10), Look::At(bench.at(20)), "half of the time is for the batch");
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
    assert!(
        bench.queue.shapes.as_ref().is_some_and(|shapes| shapes.places.is_empty()),
        "shapes that are gone cost nothing"
    );
    bench.push(10, 0, 1, 64, None);
    assert_eq!(bench.queue.groups.len(), 2, "their places are let again");
}

#[test]
fn expired_tasks_are_never_cut() {
    let mut bench = Bench::new(rows(8, 1, 0));
    bench.push(0, 0, 1, 0, Some(5));
    bench.push(0, 0, 1, 0, Some(9));
    bench.push(0, 0, 1, 0, None);
    assert_eq!(bench.queue.first_deadline(), Some(bench.at(5)));
    assert_eq!(bench.cut(5), [1, 2]);
    assert_eq!(bench.expire(5), (vec![0], None));
}

#[test]
fn an_expired_task_lends_its_urgency_to_nobody() {
    for free in [0, 1] {
        let mut bench = Bench::new(rows(8, 1, 0));
        bench.push(0, -100, 1, 0, Some(5));
        bench.push(1, 100, 1, free, None);
        let urgent = |outlook: &Outlook| outlook.rank.class() < Priority(0);
        assert!(bench.cut_if(5, &urgent).is_none(), "what is left is not what was wanted");
        assert_eq!(bench.look(5), bench.ready(100, 1));
        assert_eq!(bench.expire(5).0, [0]);
        assert_eq!(bench.cut(5), [1]);
    }
}

#[test]
fn a_divisible_task_leaves_in_parts_and_lets_others_in_between() {
    let mut bench = Bench::new(rows(4, 1, 0));
    let header = TaskHeader::new(10, bench.at(0)).deadline(Some(bench.at(5)));
    bench.push_item(0, 0, header, true);
    bench.push(1, 0, 3, 0, None);
    assert_eq!((bench.queue.tasks(), bench.queue.waiting(), bench.queue.rows()), (2, 2, 13));
    assert_eq!(bench.cut_rows(2), [(0, 4)]);
    assert_eq!((bench.queue.tasks(), bench.queue.waiting(), bench.queue.rows()), (2, 1, 9));
    assert_eq!(bench.queue.first_deadline(), None, "a task that has begun does not expire");
    bench.push(3, 0, 1, 0, None);
    assert_eq!(bench.look(9), bench.ready(0, 1));
    assert_eq!(bench.cut_rows(9), [(1, 3), (0, 1)]);
    assert_eq!(bench.cut_rows(9), [(3, 1), (0, 3)], "the rest has gone behind the third");
    assert_eq!(bench.cut_rows(9), [(0, 2)]);
    assert_eq!((bench.queue.tasks(), bench.queue.rows()), (0, 0));
}

#[test]
fn what_is_left_of_a_task_is_found_by_its_ticket() {
    let mut bench = Bench::new(rows(4, 1, 0));
    bench.push_item(0, 0, TaskHeader::new(10, bench.base), true);
    bench.push(1, 0, 1, 0, None);
    assert_eq!(bench.cut_rows(2), [(0, 4)]);
    assert_eq!(bench.cancel(0, 0, 0), Some(false));
    assert_eq!(bench.cancel(0, 0, 0), None, "gone already");
    assert_eq!((bench.queue.tasks(), bench.queue.waiting(), bench.queue.rows()), (1, 1, 1));
    assert_eq!(bench.cut(2), [1]);
}

#[test]
fn what_is_left_of_a_task_that_has_failed_is_never_cut() {
    for others in 0..2 {
        let mut bench = Bench::new(rows(4, 1, 0));
        let (_, is_void) = bench.push_item(0, 0, TaskHeader::new(10, bench.base), true);
        assert_eq!(bench.cut_rows(1), [(0, 4)]);
        is_void.set(true);
        for _ in 0..others {
            bench.push(1, 0, 1, 0, None);
        }
        assert_eq!(bench.cut(9), vec![2; others]);
        assert_eq!((bench.queue.tasks(), bench.queue.waiting(), bench.queue.rows()), (0, 0, 0));
    }
}

#[test]
fn a_task_of_any_rows_is_bounded_work() {
    let mut bench = Bench::new(rows(64, 1, 0));
    bench.push_item(0, 0, TaskHeader::new(usize::MAX, bench.base), true);
    assert_eq!(bench.cut_rows(1), [(0, 64)]);
    assert_eq!(bench.queue.rows(), usize::MAX - 64);
}

#[test]
fn deadlines_of_tasks_that_have_left_are_forgotten() {
    let mut bench = Bench::new(rows(1, 1, 0));
    for second in 0..10_000 {
        bench.push(second, 0, 1, 0, Some(1_000_000 - second));
        assert_eq!(bench.cut(second).len(), 1);
    }
    assert!(bench.queue.deadlines.entries() < 100, "{}", bench.queue.deadlines.entries());
    assert_eq!(bench.queue.first_deadline(), None);
}

/// A part that comes back, because its device is lost, has begun: it is not counted among those that wait, before and after.
#[test]
fn parts_that_come_back_leave_no_count_behind() {
    for others in [0, 1, 20] {
        let mut bench = Bench::new(PoolOptions::default());
        for _ in 0..others {
            bench.push(1, 0, 1, 1, None);
        }
        let header = TaskHeader::new(1, bench.at(1));
        let is_void = Rc::default();
        let number = bench.queue.next_seq();
        let (is_started, is_divisible) = (true, false);
        let part = Numbered { number, header, since: bench.at(1), is_started, is_divisible, is_void };
        let shape = bench.queue.shape(&Dims::from_slice(&[1]), &bench.options);
        let rank = Place::first(Rank::at(header.priority, header.submitted));
        let moment = moment(bench.base, 1, usize::MAX, false, &bench.options);
        bench.queue.push_again(shape, rank, part, &moment);
        assert_eq!((bench.queue.tasks(), bench.queue.waiting()), (others + 1, others));
        assert_eq!(bench.cut(2).len(), others + 1);
        assert_eq!((bench.queue.tasks(), bench.queue.waiting(), bench.queue.started), (0, 0, 0));
    }
}
