//! Riders, answers in time, and ranks that rise.

use super::*;
use skep_runtime_core::pool::{Doorbell, Ran, Ring};
use skep_runtime_core::testing::ManualClock;
use skep_runtime_core::{Fair, Flow, PoolId, Price, RuntimeId};
use std::sync::Arc;

#[test]
fn less_urgent_tasks_ride_along_only_where_they_cost_the_urgent_ones_little() {
    let mut bench = Bench::new(rows(16, 1, 0));
    bench.push(1, -1, 1, 0, None);
    for _ in 0..30 {
        bench.push(1, 100, 1, 0, None);
    }
    let mut cut = |fixed, per_row, riders| {
        let Look::Ready(outlook) = bench.look_whole(2) else { panic!("tasks wait") };
        let mut terms = Terms::new(bench.at(2), usize::MAX);
        (terms.price, terms.riders) = (Some(Price::new(fixed, per_row, true)), riders);
        bench.cut_on(outlook.rank, &terms, 2).unwrap().len()
    };
    assert_eq!(cut(0.0, 0.01, 0.1), 1, "each row as much as the urgent one");
    assert_eq!(cut(0.0, 0.01, 0.1), 16, "all of one class");
    bench.push(2, -1, 1, 0, None);
    let mut cut = |fixed, per_row, riders| {
        let Look::Ready(outlook) = bench.look_whole(2) else { panic!("tasks wait") };
        let mut terms = Terms::new(bench.at(2), usize::MAX);
        (terms.price, terms.riders) = (Some(Price::new(fixed, per_row, true)), riders);
        bench.cut_on(outlook.rank, &terms, 2).unwrap().len()
    };
    assert_eq!(cut(0.01, 0.0, 0.1), 15, "they cost nothing: all fourteen that are left");
}

#[test]
fn a_task_that_cannot_be_answered_in_time_takes_no_place() {
    let mut bench = Bench::new(PoolOptions { answer_in_time: true, ..rows(16, 1, 0) });
    for deadline in [3, 12, 12, 12] {
        bench.push(1, 0, 1, 0, Some(deadline));
    }
    let Look::Ready(outlook) = bench.look_whole(2) else { panic!("tasks wait") };
    let mut terms = Terms::new(bench.at(2), usize::MAX);
    terms.price = Some(Price::new(2.0, 1.0, true));
    let cut: Vec<_> = bench.cut_on(outlook.rank, &terms, 2).unwrap().iter().map(|item| item.number).collect();
    assert_eq!(cut, [1, 2, 3], "the first one would take three seconds, and has one");
    assert_eq!(bench.expire(2).0, [0]);
}

#[test]
fn a_batch_that_begins_later_ends_later() {
    let mut bench = Bench::new(PoolOptions { answer_in_time: true, ..rows(16, 1, 0) });
    for deadline in [12, 16] {
        bench.push(1, 0, 1, 0, Some(deadline));
    }
    let Look::Ready(outlook) = bench.look_whole(2) else { panic!("tasks wait") };
    let mut terms = Terms::new(bench.at(2), usize::MAX);
    (terms.price, terms.begins) = (Some(Price::new(9.0, 0.0, true)), bench.at(4));
    let cut: Vec<_> = bench.cut_on(outlook.rank, &terms, 2).unwrap().iter().map(|item| item.number).collect();
    assert_eq!(cut, [1], "the first one would be answered a second late");
    assert_eq!(bench.expire(2).0, [0]);
}

/// Where rows cost next to nothing beside the batch, few of them for the first one would be many late answers.
#[test]
fn a_batch_is_made_smaller_for_its_first_task_only_where_rows_cost_no_more_then() {
    let cut = |fixed, per_row| {
        let mut bench = Bench::new(PoolOptions { answer_in_time: true, ..rows(16, 1, 0) });
        // It has waited for long.
        bench.push(1, 0, 1, 0, Some(40));
        for _ in 1..16 {
            bench.push(31, 0, 1, 0, Some(71));
        }
        let Look::Ready(outlook) = bench.look_whole(32) else { panic!("tasks wait") };
        let mut terms = Terms::new(bench.at(32), usize::MAX);
        terms.price = Some(Price::new(fixed, per_row, true));
        let batch = bench.cut_on(outlook.rank, &terms, 32).unwrap();
        (batch.len(), batch[0].number)
    };
    assert_eq!(cut(0.0, 1.0), (8, 0), "eight are in time");
    assert_eq!(cut(4.0, 0.5), (15, 1), "eight would be, too, at a third more for each");
}

struct Silent;

impl Ring for Silent {
    fn ring(&self, _: PoolId) {}
    fn expire_at(&self, _: PoolId, _: Instant) {}
}

/// A queue of a runtime that shares its time fairly.
struct Shared {
    queue: Queue<Numbered>,
    options: PoolOptions,
    bell: Doorbell,
    base: Instant,
}

impl Shared {
    fn new() -> Self {
        let (policy, ring) = (Arc::new(Fair::new()), Arc::new(Silent));
        let (id, runtime, clock) = (PoolId::new(0), RuntimeId::next(), ManualClock::new());
        let bell = Doorbell::new(id, runtime, Duration::ZERO, clock, policy, ring);
        Self { queue: Queue::new(), options: rows(8, 1, 0), bell, base: Instant::now() }
    }

    fn with<R>(&mut self, work: impl FnOnce(&mut Queue<Numbered>, &Moment<'_>) -> R) -> R {
        let bell = Some(&self.bell);
        let moment = Moment {
            now: self.base,
            options: &self.options,
            most_rows: usize::MAX,
            at_once: false,
            bell,
            rising: bell,
        };
        work(&mut self.queue, &moment)
    }

    fn push(&mut self, flow: u32, free: usize) -> u64 {
        self.push_of(flow, &Dims::from_slice(&[free]), 1)
    }

    fn push_of(&mut self, flow: u32, free: &Dims, elements: u32) -> u64 {
        let header = TaskHeader::new(1, self.base).flow(Flow(flow)).elements(elements);
        let (number, rank) = (self.queue.next_seq(), Place::first(self.bell.rank(&header)));
        let item = Numbered {
            number,
            header,
            since: self.base,
            is_started: false,
            is_divisible: false,
            is_void: Rc::new(Cell::new(false)),
        };
        self.with(|queue, moment| {
            let shape = queue.shape(free, moment.options);
            queue.push(shape, rank, item, moment);
        });
        number
    }

    /// The flows of a batch of at most so many rows, each row of which takes a millisecond.
    fn cut(&mut self, most: usize) -> Vec<u32> {
        self.cut_of(most, 1)
    }

    /// The same where each row of so many elements takes a millisecond.
    fn cut_of(&mut self, most: usize, elements: usize) -> Vec<u32> {
        let mut terms = Terms::new(self.base, most);
        terms.elements = elements;
        terms.per_row = Duration::from_millis(1);
        match self.with(|queue, moment| queue.cut(None, &terms, moment, Items::<Numbered>::new)) {
            Some(Taken::Some(items)) => items.iter().map(|item| item.header.flow.0).collect(),
            Some(_) => panic!("one by one"),
            None => Vec::new(),
        }
    }
}

#[test]
fn flows_take_turns_within_a_batch_and_over_shapes() {
    let mut shared = Shared::new();
    for flow in std::iter::repeat_n(1, 20).chain(std::iter::repeat_n(2, 4)) {
        shared.push(flow, 16);
    }
    shared.push(3, 320);
    assert_eq!(shared.cut(4), [1, 2, 1, 2], "whoever has had least is next");
    assert_eq!(shared.cut(8), [3], "of another shape, and it has had nothing");
    assert_eq!(shared.cut(8), [1, 2, 1, 2, 1, 1, 1, 1], "no place stays empty for those who are not there");
    assert_eq!(shared.queue.tasks(), 12);
}

#[test]
fn flows_share_by_elements_where_tasks_of_all_sizes_are_together() {
    let mut shared = Shared::new();
    shared.options.max_rows = 10;
    for _ in 0..10 {
        shared.push_of(1, &Dims::new(), 10);
        shared.push_of(2, &Dims::new(), 40);
    }
    let flows = shared.cut_of(10, 20);
    assert_eq!(flows.iter().filter(|flow| **flow == 1).count(), 8, "four times as many: {flows:?}");
}

/// A rank that was too high would let the flow wait for what it never had.
#[test]
fn a_flow_that_was_charged_too_much_is_next_again() {
    let mut shared = Shared::new();
    for flow in [1, 1, 1, 2, 2, 2] {
        shared.push(flow, 16);
    }
    assert_eq!(shared.cut(1), [1], "a millisecond is expected");
    assert_eq!(shared.cut(1), [2]);
    let ran = |shared: &Shared, flow, micros| {
        let tasks = [TaskHeader::new(1, shared.base).flow(Flow(flow))];
        let (expected, took) = (Duration::from_millis(1), Duration::from_micros(micros));
        shared.bell.policy().ran(&Ran::new(PoolId::new(0), &tasks, expected, took, shared.base));
    };
    ran(&shared, 2, 500);
    ran(&shared, 1, 900);
    shared.with(Queue::let_fall);
    assert_eq!(shared.cut(1), [2], "it had half of that");
    ran(&shared, 2, 100);
    shared.with(Queue::let_fall);
    assert_eq!(shared.cut(3), [2, 1, 1]);
}

proptest! {
    /// Whatever leaves in whatever way: each task once, flows in their own order, and all that is counted is there.
    #[test]
    fn nothing_is_lost_where_ranks_rise(steps in prop::collection::vec((0u8..4, 1u32..5, 1usize..9), 0..200)) {
        let mut shared = Shared::new();
        let mut waiting: Vec<(u64, u32, usize)> = Vec::new();
        for (step, flow, number) in steps {
            match step {
                0 | 1 => {
                    let free = 16 * (1 + number % 2);
                    waiting.push((shared.push(flow, free), flow, free));
                }
                2 => {
                    let terms = Terms::new(shared.base, number);
                    let cut = shared.with(|queue, moment| queue.cut(None, &terms, moment, Items::<Numbered>::new));
                    let Some(Taken::Some(items)) = cut else {
                        prop_assert!(waiting.is_empty());
                        continue;
                    };
                    prop_assert!(!items.is_empty() && items.len() <= number);
                    for item in items {
                        let at = waiting.iter().position(|(number, ..)| *number == item.number).expect("once");
                        let (_, flow, free) = waiting.remove(at);
                        let before = waiting[..at].iter().any(|(_, of, shape)| (*of, *shape) == (flow, free));
                        prop_assert!(!before, "the first of its flow");
                    }
                }
                _ if !waiting.is_empty() => {
                    let (task, _, free) = waiting.remove(number % waiting.len());
                    let removed = shared.with(|queue, moment| {
                        let shape = queue.shape(&Dims::from_slice(&[free]), moment.options);
                        // As a ticket knows it, whatever became of its place.
                        let key = Key { rank: Place::first(Rank::new(Priority::NORMAL, 0)), seq: task };
                        queue.remove(shape, key, moment).map(|(item, _)| item.number)
                    });
                    prop_assert_eq!(removed, Some(task));
                }
                _ => {}
            }
            prop_assert_eq!(shared.queue.tasks(), waiting.len());
            prop_assert_eq!(shared.queue.rows(), waiting.len());
        }
    }
}

#[test]
fn a_batch_is_not_too_long_for_those_who_come_while_it_runs() {
    let rows_of = |fixed, per_row| {
        let mut bench = Bench::new(PoolOptions { answer_in_time: true, ..rows(64, 1, 0) });
        for _ in 0..16 {
            bench.push(1, 0, 1, 0, Some(601));
        }
        // Somebody has thirty seconds, and comes last.
        bench.push(1, 1, 1, 0, Some(31));
        let Look::Ready(outlook) = bench.look_whole(1) else { panic!("tasks wait") };
        let mut terms = Terms::new(bench.at(1), usize::MAX);
        terms.price = Some(Price::new(fixed, per_row, true));
        bench.cut_on(outlook.rank, &terms, 1).unwrap().len()
    };
    assert_eq!(rows_of(0.0, 1.0), 10, "a third of thirty seconds");
    assert_eq!(rows_of(8.0, 1.0), 17, "most of the time is fixed: fewer rows would cost too much each");
}

#[test]
fn a_cancelled_head_is_news() {
    let mut bench = Bench::new(rows(8, 1, 0));
    bench.push(0, 0, 1, 0, None);
    bench.push(1, 0, 1, 0, None);
    assert_eq!(bench.cancel(0, 0, 1), Some(false));
    assert_eq!(bench.cancel(0, 0, 0), Some(true));
    assert_eq!(bench.cancel(0, 0, 0), None, "gone already");
}

#[test]
fn nothing_is_cut_of_a_queue_whose_outlook_is_not_wanted() {
    let mut bench = Bench::new(rows(8, 1, 0));
    bench.push(0, 0, 1, 0, None);
    assert!(bench.cut_if(9, &|outlook| outlook.rank.class() < Priority(0)).is_none());
    assert_eq!(bench.cut(9), [0]);
}
