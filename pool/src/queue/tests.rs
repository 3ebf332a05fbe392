use super::item::PartOf;
use super::*;
use proptest::prelude::*;
use skep_runtime_core::{Priority, TaskHeader};
use std::time::Duration;

/// A waiting task that is known by its sequence number, or a part of one.
struct Numbered {
    seq: u64,
    header: TaskHeader,
    part: PartOf,
    is_void: bool,
}

impl Item for Numbered {
    fn header(&self) -> &TaskHeader {
        &self.header
    }
    fn part(&self) -> PartOf {
        self.part
    }
    fn is_void(&self) -> bool {
        self.is_void
    }
}

struct Bench {
    queue: Queue<Numbered>,
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

    fn push(&mut self, second: u64, priority: i32, rows: usize, free: usize, deadline: Option<u64>) -> bool {
        let deadline = deadline.map(|second| self.at(second));
        let header = TaskHeader::new(rows, self.at(second)).priority(Priority(priority)).deadline(deadline);
        self.push_item(free, header, PartOf::WHOLE, false)
    }

    fn push_item(&mut self, free: usize, header: TaskHeader, part: PartOf, is_void: bool) -> bool {
        let item = Numbered { seq: self.queue.next_seq(), header, part, is_void };
        self.queue.push(&Dims::from_slice(&[free]), item, &self.options)
    }

    fn look(&self, second: u64) -> Look {
        self.queue.look(self.at(second), &self.options, false)
    }

    fn cut(&mut self, second: u64) -> Vec<u64> {
        let now = self.at(second);
        let taken = self.queue.cut(&|_| true, now, &self.options, false, usize::MAX, Items::new);
        let items = match taken {
            None => Vec::new(),
            Some(Taken::One(item)) => vec![item],
            Some(Taken::Segment(items, _)) => items.into_iter().filter_map(|(_, item)| item).collect(),
            Some(Taken::Some(items)) => items,
        };
        items.into_iter().map(|item| item.seq).collect()
    }

    fn ready(&self, priority: i32, second: u64) -> Look {
        Look::Ready(Outlook::new(Priority(priority), self.at(second)))
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
    assert_eq!(expired.iter().map(|item| item.seq).collect::<Vec<_>>(), [0]);
    assert_eq!(next, None);
}

#[test]
fn parts_of_a_task_that_has_failed_are_never_cut() {
    let mut bench = Bench::new(rows(8, 1, 0));
    let header = TaskHeader::new(1, bench.base);
    for at in [1, 2] {
        bench.push_item(0, header, PartOf { at, of: 3 }, true);
    }
    bench.push(1, 0, 1, 0, None);
    assert_eq!(bench.cut(9), [2]);
    assert_eq!((bench.queue.tasks(), bench.queue.rows()), (0, 0));
    assert!(bench.queue.expire(bench.at(9)).0.is_empty(), "answered already");
}

#[test]
fn nothing_is_cut_of_a_queue_whose_outlook_is_not_wanted() {
    let mut bench = Bench::new(rows(8, 1, 0));
    bench.push(0, 0, 1, 0, None);
    let now = bench.at(9);
    let wanted = |outlook: &Outlook| outlook.priority < Priority(0);
    assert!(bench.queue.cut(&wanted, now, &bench.options, false, usize::MAX, Items::new).is_none());
    assert_eq!(bench.cut(9), [0]);
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
        while let Look::Ready(outlook) = bench.look(1) {
            let batch = bench.cut(1);
            let of = |seq: &u64| tasks[usize::try_from(*seq).unwrap()];
            prop_assert!(!batch.is_empty());
            prop_assert!(batch.iter().map(|seq| of(seq).1).sum::<usize>() <= 5);
            prop_assert!(batch.iter().all(|seq| of(seq).2 == of(&batch[0]).2));
            prop_assert_eq!(Priority(of(&batch[0]).0), outlook.priority);
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
