use super::super::segment::{FEWEST, MOST, SPARSE};
use super::*;
use proptest::prelude::*;
use skep_runtime_core::TaskHeader;
use std::sync::LazyLock;
use std::time::Instant;

/// An item that is known by its sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbered {
    seq: u64,
    rank: i32,
    header: TaskHeader,
}

impl Numbered {
    fn new(seq: u64, rows: usize, rank: i32) -> Self {
        Self { seq, rank, header: TaskHeader::new(rows, *NOW) }
    }

    /// Some have three rows, some larger ones, and some need a look.
    fn odd(seq: u64, rank: i32) -> Self {
        let mut item = Self::new(seq, if seq.is_multiple_of(5) { 3 } else { 1 }, rank);
        item.header.elements = if seq % 7 == 3 { 4 } else { 1 };
        item.header.deadline = (seq % 11 == 7).then_some(*NOW);
        item
    }

    fn key(&self) -> Key<i32> {
        Key { rank: self.rank, seq: self.seq }
    }
}

static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Item for Numbered {
    type Rank = i32;
    fn number(&self) -> Option<u64> {
        None
    }
    fn header(&self) -> &TaskHeader {
        &self.header
    }
    fn since(&self) -> Instant {
        *NOW
    }
    fn is_divisible(&self) -> bool {
        false
    }
    fn is_started(&self) -> bool {
        false
    }
    fn is_void(&self) -> bool {
        false
    }
    fn take_part(&mut self, _: usize, _: Instant) -> Self {
        *self
    }
}

/// Rows of a batch.
const ROWS: usize = 20;

#[derive(Clone, Debug)]
enum Step {
    Push(i32),
    Take(usize),
    TakeAlone(usize),
    TakeSegment(usize, usize),
    Remove(usize),
    TakeAll,
}

/// Mostly of few ranks, or of many.
fn step(ranks: i32) -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => prop_oneof![2 => Just(0), 2 => -ranks..ranks].prop_map(Step::Push),
        4 => (0usize..6).prop_map(Step::Take),
        2 => (0usize..5).prop_map(Step::TakeAlone),
        4 => (0usize..40, prop_oneof![Just(usize::MAX), 0usize..60]).prop_map(|(rows, elements)| Step::TakeSegment(rows, elements)),
        6 => (0usize..200).prop_map(Step::Remove),
        1 => Just(Step::TakeAll),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![Just(2), Just(1000)].prop_flat_map(|ranks| prop::collection::vec(step(ranks), 0..800))
}

proptest! {
    #[test]
    fn agrees_with_a_sorted_map(steps in steps()) {
        let mut ordered = Ordered::new();
        let mut model = BTreeMap::new();
        for (step, seq) in steps.into_iter().zip(0u64..) {
            match step {
                Step::Push(rank) => {
                    let item = Numbered::odd(seq, rank);
                    ordered.push(item.key(), item, ROWS);
                    model.insert(item.key(), item);
                }
                Step::Take(count) => {
                    let (mut taken, mut turns) = (Vec::new(), 0..count);
                    ordered.take_while(|_, _| turns.next().is_some(), &mut taken);
                    let expected: Vec<_> = (0..count).map_while(|_| model.pop_first()).collect();
                    prop_assert_eq!(taken, expected);
                }
                Step::TakeAlone(room) => {
                    let is_alone = |rows: usize| model.len() == 1 || rows >= room;
                    let leaves = model.first_key_value().is_some_and(|(_, first)| is_alone(first.rows()));
                    let expected = if leaves { model.pop_first() } else { None };
                    prop_assert_eq!(ordered.take_alone(room), expected);
                }
                Step::TakeSegment(rows, elements) => {
                    let room = Limit { rows, elements };
                    let mut together = (0, 0);
                    let fits = |v: &Numbered| {
                        together = (together.0 + v.rows(), together.1 + v.elements());
                        together.0 <= rows && together.1 <= elements
                    };
                    let expected: Vec<_> = model.values().copied().take_while(fits).collect();
                    if let Some(segment) = ordered.take_segment(room, |_| true, VecDeque::new) {
                        let Segment { items: taken, count, rows, elements, .. } = segment;
                        let taken: Vec<_> = taken.into_iter().filter_map(|(_, item)| item).collect();
                        prop_assert_eq!((count, rows), (taken.len(), taken.iter().map(Item::rows).sum()));
                        prop_assert_eq!(elements, taken.iter().map(Item::elements).sum::<usize>());
                        prop_assert!(!taken.iter().any(Item::needs_look));
                        prop_assert_eq!(&taken, &expected);
                        model.retain(|_, v| !taken.contains(v));
                    }
                }
                Step::Remove(nth) => {
                    let key = model.keys().nth(nth).copied().unwrap_or(Key { rank: 0, seq: seq + 1 });
                    prop_assert_eq!(ordered.get(key), model.get(&key));
                    prop_assert_eq!(ordered.remove(key), model.remove(&key));
                    prop_assert_eq!(ordered.get(key), None);
                }
                Step::TakeAll => {
                    let mut taken = Vec::new();
                    ordered.take_all(&mut taken);
                    prop_assert_eq!(taken, std::mem::take(&mut model).into_values().collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(ordered.len(), model.len());
            prop_assert_eq!(ordered.first().map(|(k, v)| (k, *v)), model.first_key_value().map(|(k, v)| (*k, *v)));
            prop_assert!(ordered.iter_back().map(|(_, v)| v).eq(model.values().rev()));
            let mut is_head = true;
            for segment in segments(&ordered) {
                let items = || segment.items.iter().filter_map(|(_, item)| item.as_ref());
                prop_assert!(segment.count > 0 || (is_head && model.is_empty()));
                prop_assert!(segment.items.len() <= 4 * segment.count + SPARSE);
                prop_assert!(segment.items.front().is_none_or(|(key, _)| key.seq == segment.first));
                prop_assert!(segment.rows <= ROWS || segment.count <= FEWEST);
                prop_assert_eq!(segment.count, items().count());
                prop_assert_eq!(segment.rows, items().map(Item::rows).sum::<usize>());
                prop_assert_eq!(segment.elements, items().map(Item::elements).sum::<usize>());
                prop_assert_eq!(segment.special, items().filter(|item| item.needs_look()).count());
                is_head = false;
            }
        }
    }
}

fn segments<V: Item>(ordered: &Ordered<V>) -> impl Iterator<Item = &Segment<V>> {
    std::iter::once(&ordered.head).chain(ordered.tail.values())
}

/// One-row items, none of which needs a look.
fn plain(count: u64, most: usize) -> Ordered<Numbered> {
    let mut ordered = Ordered::new();
    for seq in 0..count {
        let item = Numbered::new(seq, 1, 0);
        ordered.push(item.key(), item, most);
    }
    ordered
}

#[test]
fn a_long_queue_leaves_in_whole_batches() {
    let mut ordered = plain(3 * 64 + 5, 64);
    let room = Limit { rows: 64, elements: usize::MAX };
    let mut take = || ordered.take_segment(room, |_| true, VecDeque::new).map(|segment| segment.count);
    assert_eq!([take(), take(), take(), take()], [Some(64), Some(64), Some(64), Some(5)]);
    assert_eq!(ordered.len, 0);
}

#[test]
fn an_urgent_item_leaves_the_batches_behind_it_whole() {
    let mut ordered = plain(2 * 64, 64);
    for seq in 1000..1064 {
        let item = Numbered::new(seq, 1, -1);
        ordered.push(item.key(), item, 64);
    }
    let room = Limit { rows: 64, elements: usize::MAX };
    let mut take = || ordered.take_segment(room, |_| true, VecDeque::new).map(|segment| segment.count);
    assert_eq!([take(), take(), take()], [Some(64); 3]);
}

#[test]
fn items_share_a_segment_where_batches_are_small() {
    assert_eq!(segments(&plain(40, 1)).count(), 40_usize.div_ceil(FEWEST));
}

#[test]
fn a_segment_stays_small_where_batches_are_large() {
    let many = 3 * MOST as u64;
    assert!(segments(&plain(many, usize::MAX)).all(|segment| segment.count <= MOST));
}

#[test]
fn what_comes_among_others_moves_few() {
    let mut ordered = Ordered::new();
    // In steps that come to all of a thousand ranks, each far from the last.
    for (seq, step) in (0..1000).zip(0..) {
        let item = Numbered::new(seq, 1, step * 387 % 1000);
        ordered.push(item.key(), item, 64);
    }
    let segments: Vec<_> = segments(&ordered).map(|segment| segment.count).collect();
    assert!(segments.len() > 1000 / 32 && segments.len() < 1000 / 5, "{segments:?}");
    let ranks = ordered.iter_back().map(|(key, _)| key.rank);
    assert!(ranks.eq((0..1000).rev()));
}

#[test]
fn a_task_that_comes_a_little_late_leaves_the_batch_whole() {
    let mut ordered = plain(3 * 64, 64);
    let (late, item) = (Key { rank: 0, seq: 200 }, |seq| Numbered::new(seq, 1, 0));
    for seq in (193..=220).filter(|seq| *seq != late.seq) {
        ordered.push(item(seq).key(), item(seq), 64);
    }
    ordered.push(late, item(late.seq), 64);
    assert_eq!(segments(&ordered).map(|segment| segment.count).collect::<Vec<_>>(), [64, 64, 64, 28]);
}
