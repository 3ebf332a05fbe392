use super::super::item::{Item, PartOf};
use super::*;
use proptest::prelude::*;
use skep_runtime_core::TaskHeader;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Instant;

/// An item that is known by its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbered {
    seq: u64,
    header: TaskHeader,
}

impl Numbered {
    fn new(seq: u64, rows: usize, priority: i32) -> Self {
        Self { seq, header: TaskHeader::new(rows, *NOW).priority(Priority(priority)) }
    }

    /// Some have three rows, and some need a look.
    fn odd(seq: u64, priority: i32) -> Self {
        let mut item = Self::new(seq, if seq.is_multiple_of(5) { 3 } else { 1 }, priority);
        item.header.deadline = (seq % 11 == 7).then_some(*NOW);
        item
    }
}

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Item for Numbered {
    fn header(&self) -> &TaskHeader {
        &self.header
    }
    fn part(&self) -> PartOf {
        PartOf::WHOLE
    }
    fn is_void(&self) -> bool {
        false
    }
}

/// Rows of a batch.
const MOST: usize = 20;

#[derive(Clone, Debug)]
enum Step {
    Push(i32),
    Take(usize),
    TakeOnly,
    TakeSegment(usize),
    Remove(usize),
    TakeMultiplesOf(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop_oneof![4 => Just(0), 1 => -2i32..3].prop_map(Step::Push),
        2 => (0usize..6).prop_map(Step::Take),
        1 => Just(Step::TakeOnly),
        2 => (0usize..40).prop_map(Step::TakeSegment),
        2 => (0usize..64).prop_map(Step::Remove),
        1 => (2u64..5).prop_map(Step::TakeMultiplesOf),
    ]
}

proptest! {
    #[test]
    fn agrees_with_a_sorted_map(steps in prop::collection::vec(step(), 0..600)) {
        let mut lanes = Lanes::new();
        let mut model = BTreeMap::new();
        for (step, seq) in steps.into_iter().zip(0u64..) {
            match step {
                Step::Push(priority) => {
                    let key = TaskKey { priority: Priority(priority), seq };
                    let item = Numbered::odd(seq, priority);
                    lanes.push(seq, item, MOST);
                    model.insert(key, item);
                }
                Step::Take(count) => {
                    let (mut taken, mut turns) = (Vec::new(), 0..count);
                    lanes.take_while(|_| turns.next().is_some(), &mut taken);
                    let expected: Vec<_> = (0..count).map_while(|_| model.pop_first()).map(|(_, v)| v).collect();
                    prop_assert_eq!(taken, expected);
                }
                Step::TakeOnly => {
                    let expected = if model.len() == 1 { model.pop_first() } else { None };
                    prop_assert_eq!(lanes.take_only(), expected.map(|(_, v)| v));
                }
                Step::TakeSegment(room) => {
                    let mut left = room;
                    let fits = |v: &Numbered| {
                        let fits = left >= v.rows();
                        left -= if fits { v.rows() } else { 0 };
                        fits
                    };
                    let expected: Vec<_> = model.values().copied().take_while(fits).collect();
                    if let Some((taken, items, rows)) = lanes.take_segment(room, VecDeque::new) {
                        let taken: Vec<_> = taken.into_iter().filter_map(|(_, item)| item).collect();
                        prop_assert_eq!((items, rows), (taken.len(), taken.iter().map(Item::rows).sum()));
                        prop_assert!(!taken.iter().any(Item::needs_look));
                        prop_assert_eq!(&taken, &expected);
                        model.retain(|_, v| !taken.contains(v));
                    }
                }
                Step::Remove(nth) => {
                    let key = model.keys().nth(nth).copied()
                        .unwrap_or(TaskKey { priority: Priority(0), seq: seq + 1 });
                    let removed = lanes.remove(key, |_, item| item.seq == key.seq);
                    prop_assert_eq!(removed.first().copied(), model.remove(&key));
                    prop_assert!(removed.len() <= 1);
                }
                Step::TakeMultiplesOf(n) => {
                    let mut taken = lanes.take_if(|item| item.seq % n == 0);
                    taken.sort_unstable_by_key(|item| item.seq);
                    let mut expected: Vec<_> = model.values().copied().filter(|v| v.seq % n == 0).collect();
                    expected.sort_unstable_by_key(|item| item.seq);
                    model.retain(|_, v| v.seq % n != 0);
                    prop_assert_eq!(taken, expected);
                }
            }
            prop_assert_eq!(lanes.len, model.len());
            prop_assert_eq!(lanes.first().map(|(k, v)| (k, *v)), model.first_key_value().map(|(k, v)| (*k, *v)));
            for segment in lanes.by_priority.iter().flat_map(Lane::segments) {
                let items = || segment.items.iter().filter_map(|(_, item)| item.as_ref());
                prop_assert!(segment.count > 0 && segment.items.len() <= 2 * segment.count + 16);
                prop_assert!(segment.rows <= MOST || segment.count <= FEWEST);
                prop_assert_eq!(segment.count, items().count());
                prop_assert_eq!(segment.rows, items().map(Item::rows).sum::<usize>());
                prop_assert_eq!(segment.special, items().filter(|item| item.needs_look()).count());
            }
        }
    }
}

/// One-row items, none of which needs a look.
fn plain(count: u64, most: usize) -> Lanes<Numbered> {
    let mut lanes = Lanes::new();
    for seq in 0..count {
        lanes.push(seq, Numbered::new(seq, 1, 0), most);
    }
    lanes
}

#[test]
fn a_long_queue_leaves_in_whole_batches() {
    let mut lanes = plain(3 * 64 + 5, 64);
    let mut take = || lanes.take_segment(64, VecDeque::new).map(|(_, items, _)| items);
    assert_eq!([take(), take(), take(), take()], [Some(64), Some(64), Some(64), Some(5)]);
    assert_eq!(lanes.len, 0);
}

#[test]
fn items_share_a_segment_where_batches_are_small() {
    assert_eq!(plain(40, 1).by_priority[0].segments().count(), 40_usize.div_ceil(FEWEST));
}

#[test]
fn items_that_belong_together_are_removed_together() {
    let mut lanes = plain(40, FEWEST);
    let removed = lanes.remove(TaskKey { priority: Priority::NORMAL, seq: 10 }, |_, item| item.seq < 35);
    assert_eq!(removed.iter().map(|item| item.seq).collect::<Vec<_>>(), (10..35).collect::<Vec<_>>());
    let mut taken = Vec::new();
    lanes.take_while(|_| true, &mut taken);
    let left: Vec<_> = taken.iter().map(|item| item.seq).collect();
    assert_eq!(left, (0..10).chain(35..40).collect::<Vec<_>>());
}
